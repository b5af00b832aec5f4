"""What a folded model says about where it comes from, and that it says nothing else and nothing twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

import bnfold
from bnfold import provenance
from bnfold.cli.main import cli

LENET = Path(__file__).resolve().parents[1] / "models" / "lenet.onnx"


def entries(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_it_names_the_version_the_source_and_every_fold(tmp_path: Path) -> None:
    report = bnfold.optimize(LENET, tmp_path / "a.onnx", verify=False)
    found = entries(tmp_path / "a.onnx")
    assert found.keys() == {"bnfold.version", "bnfold.source_sha256", "bnfold.folds"}
    assert found["bnfold.version"] == bnfold.__version__
    assert found["bnfold.source_sha256"] == digest(LENET)
    folds = json.loads(found["bnfold.folds"])
    assert folds == [[fold.normalization.name, list(fold.into)] for fold in report.plan.folds]
    assert len(folds) == 4


def test_nothing_else_changes_and_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    for name, options in {"a": {}, "b": {}, "without": {"metadata": False}}.items():
        bnfold.optimize(LENET, tmp_path / f"{name}.onnx", verify=False, **options)
    contents = {path.stem: path.read_bytes() for path in tmp_path.iterdir()}
    assert contents["a"] == contents["b"]
    model = onnx.ModelProto.FromString(contents["a"])
    del model.metadata_props[:]
    assert model.SerializeToString() == contents["without"] == bnfold.fold(LENET).model.SerializeToString()


@pytest.mark.parametrize("external", [True, False])
def test_a_verified_fold_of_any_kind_of_file_has_the_hash_of_it(
    external: bool, tmp_path: Path, network: Callable[..., onnx.ModelProto]
) -> None:
    source = tmp_path / "m.onnx"
    kind = {"save_as_external_data": True, "location": "m.data", "size_threshold": 0} if external else {}
    onnx.save(network(), source, **kind)
    before = digest(source)
    assert bnfold.optimize(source, source).written
    assert entries(source)["bnfold.source_sha256"] == before
    scoped = [name for name, _ in json.loads(entries(source)["bnfold.folds"])]
    assert "if/then_branch/body.bn" in scoped


def test_large_weights_that_are_spliced_in_do_not_hide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnfold.inline.LARGE_FILE_BYTES", 1)
    monkeypatch.setattr("bnfold.splice.LARGE_WEIGHT_BYTES", 64)
    bnfold.optimize(LENET, tmp_path / "a.onnx", verify=False)
    assert entries(tmp_path / "a.onnx")["bnfold.source_sha256"] == digest(LENET)


def test_folding_further_keeps_what_was_there(tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{name}.onnx" for name in ("first", "second", "third"))
    bnfold.optimize(LENET, first, only=["bn1*"], verify=False)
    bnfold.optimize(first, second, only=["bn2*"], verify=False)
    bnfold.optimize(second, third, verify=False)
    runs = bnfold.inspect(third).facts.folded
    assert [run.source_sha256 for run in runs] == [digest(path) for path in (LENET, first, second)]
    assert [[name for name, _ in run.folds] for run in runs] == [
        ["bn1/BatchNormalization"],
        ["bn2/BatchNormalization"],
        ["bn3/BatchNormalization", "bn4/BatchNormalization"],
    ]
    assert len(entries(third)) == len(onnx.load(third).metadata_props) == 4


def test_a_model_with_nothing_left_to_fold_stays_as_it_is(tmp_path: Path) -> None:
    bnfold.optimize(LENET, tmp_path / "a.onnx", verify=False)
    assert bnfold.optimize(tmp_path / "a.onnx", tmp_path / "b.onnx").identical
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_other_metadata_stays_in_its_place(tmp_path: Path) -> None:
    model = onnx.load(LENET)
    for key, value in {"a": "1", "bnfold.version": "0.0.1", "z": "2"}.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, tmp_path / "m.onnx")
    bnfold.optimize(tmp_path / "m.onnx", tmp_path / "out.onnx", verify=False)
    found = entries(tmp_path / "out.onnx")
    assert list(found) == ["a", "bnfold.version", "z", "bnfold.source_sha256", "bnfold.folds"]
    assert (found["a"], found["bnfold.version"], found["z"]) == ("1", bnfold.__version__, "2")


@pytest.mark.parametrize(
    "broken",
    [
        {"bnfold.folds": "[["},
        {"bnfold.folds": "[1]"},
        {"bnfold.folds": "{}", "bnfold.version": "1"},
        {"bnfold.version": "1", "bnfold.source_sha256": "x"},
        {"bnfold.folds": "[]", "bnfold.version": "1", "bnfold.source_sha256": "x", "bnfold.earlier": "7"},
        {"bnfold.folds": "[]", "bnfold.version": "1", "bnfold.source_sha256": "x", "bnfold.earlier": '[{"folds": [["n", 3]]}]'},
    ],
)
def test_what_somebody_else_wrote_there_does_no_harm(broken: dict[str, str], tmp_path: Path) -> None:
    model = onnx.load(LENET)
    for key, value in broken.items():
        model.metadata_props.add(key=key, value=value)
    assert provenance.read(model) == ()
    onnx.save(model, tmp_path / "m.onnx")
    assert bnfold.inspect(tmp_path / "m.onnx").facts.folded == ()
    bnfold.optimize(tmp_path / "m.onnx", tmp_path / "out.onnx", verify=False)
    assert len(bnfold.inspect(tmp_path / "out.onnx").facts.folded) == 1


def test_the_command_line_shows_it_and_can_leave_it_out(tmp_path: Path) -> None:
    run = CliRunner().invoke
    folded, bare = str(tmp_path / "folded.onnx"), str(tmp_path / "bare.onnx")
    assert run(cli, ["optimize", str(LENET), "-o", folded, "--no-verify"]).exit_code == 0
    assert run(cli, ["optimize", str(LENET), "-o", bare, "--no-verify", "--no-metadata"]).exit_code == 0
    told = run(cli, ["inspect", folded]).output
    assert f"by bnfold {bnfold.__version__} from sha256 {digest(LENET)}" in " ".join(told.split())
    assert "sha256" not in run(cli, ["inspect", bare]).output
    assert "conv1/Conv" in run(cli, ["inspect", folded, "-v"]).output


def test_a_source_that_vanishes_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        provenance.sha256_of(tmp_path / "absent.onnx")
