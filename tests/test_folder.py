"""`bnfold optimize FOLDER`: every model of a folder, as exporters write them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result

from bnfold.cli.main import cli
from bnfold.errors import GateFailed, InputError
from bnfold.folder import optimize_folder

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    """A folder as an exporter writes it: two models, one with external data, and other files."""
    folder = tmp_path / "exports"
    (folder / "decoder" / "assets").mkdir(parents=True)
    shutil.copy(ROOT / "models" / "lenet.onnx", folder / "model.onnx")
    model = onnx.load(ROOT / "models" / "lenet_by_hand.onnx")
    onnx.save(model, folder / "decoder" / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    (folder / "config.json").write_text("{}")
    (folder / "decoder" / "assets" / "labels.txt").write_text("a")
    return folder


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, ["optimize", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_the_folder_is_mirrored(exports: Path, snapshot: Callable[[Path], dict[str, bytes]]) -> None:
    before = snapshot(exports)
    result = run(exports)
    assert result.exit_code == 0, result.output
    target = exports.with_name("exports.folded")
    after = snapshot(target)
    assert after.keys() == {
        *("config.json", "decoder/", "decoder/assets/", "decoder/assets/labels.txt", "decoder/model.onnx"),
        *("decoder/model.onnx.data", "model.onnx"),
    }
    assert after["config.json"] == b"{}"
    for name in ("model.onnx", "decoder/model.onnx"):
        assert "BatchNormalization" not in {node.op_type for node in onnx.load(target / name).graph.node}
    assert snapshot(exports) == before
    assert result.stdout.count("4 of 4 normalizations") == 2
    assert "2 other files copied" in result.stdout


def test_one_bad_model_does_not_stop_the_others(exports: Path) -> None:
    (exports / "a_broken.onnx").write_bytes(b"\x0a")
    (exports / "z.onnx").write_bytes((exports / "model.onnx").read_bytes())
    result = run(exports, "-o", exports.with_name("out"))
    assert result.exit_code == 1
    assert "4 models, 1 failed" in result.stdout
    assert (exports.with_name("out") / "z.onnx").exists()
    assert not (exports.with_name("out") / "a_broken.onnx").exists()
    quiet = run(exports, "-o", exports.with_name("out"), "-q").stdout
    assert " ".join(quiet.split()).count("is not an ONNX model") == 1
    assert "z.onnx" not in quiet
    report = optimize_folder(exports, exports.with_name("out"))
    assert [Path(one.path).name for one in report.failed] == ["a_broken.onnx"]
    with pytest.raises(GateFailed, match="a_broken"):
        report.raise_for_status()


def test_jobs_change_nothing(exports: Path, snapshot: Callable[[Path], dict[str, bytes]]) -> None:
    one = optimize_folder(exports, exports.with_name("one"), jobs=1, verify=False)
    two = optimize_folder(exports, exports.with_name("two"), jobs=2, verify=False)
    assert snapshot(exports.with_name("one")) == snapshot(exports.with_name("two"))
    assert [outcome.report.plan for outcome in one.outcomes] == [outcome.report.plan for outcome in two.outcomes]  # type: ignore[union-attr]


def test_in_place(exports: Path) -> None:
    result = run(exports, "--in-place")
    assert result.exit_code == 0
    assert not exports.with_name("exports.folded").exists()
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(exports / "model.onnx").graph.node}
    assert (exports / "config.json").exists()


def test_dry_run_writes_nothing(exports: Path) -> None:
    assert run(exports, "--dry-run").exit_code == 0
    assert not exports.with_name("exports.folded").exists()


def test_a_second_run_changes_nothing(exports: Path, snapshot: Callable[[Path], dict[str, bytes]]) -> None:
    assert run(exports).exit_code == 0
    folded = exports.with_name("exports.folded")
    assert run(folded, "-o", exports.with_name("again")).exit_code == 0
    assert snapshot(exports.with_name("again")) == snapshot(folded)


def test_json_and_reports(exports: Path, tmp_path: Path) -> None:
    result = run(exports, "--json", *(f"--report={tmp_path / name}" for name in ("r.md", "r.xml", "r.sarif", "r.json")))
    document = json.loads(result.stdout)
    assert document["ok"] is True
    assert [one["report"]["folded"] for one in document["models"]] == [4, 4]
    assert document["copied"] == ["config.json", "decoder/assets/labels.txt"]
    assert (tmp_path / "r.md").read_text("utf-8").count("| ok |") == 2
    assert json.loads((tmp_path / "r.json").read_text("utf-8")) == document
    assert 'tests="2"' in (tmp_path / "r.xml").read_text("utf-8")
    assert json.loads((tmp_path / "r.sarif").read_text("utf-8"))["runs"][0]["results"] == []


@pytest.mark.parametrize(("place", "message"), [("inside", "lies inside"), ("empty", r"holds no \.onnx file")])
def test_folders_that_cannot_be_worked_on(exports: Path, tmp_path: Path, place: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    source, target = (exports, exports / "out") if place == "inside" else (tmp_path / "empty", tmp_path / "out")
    with pytest.raises(InputError, match=message):
        optimize_folder(source, target)
    assert not (tmp_path / "out").exists()


def test_a_destination_that_is_a_file_is_refused(exports: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = run(exports, "-o", tmp_path / "file")
    assert (result.exit_code, "is a file" in result.stderr) == (2, True)
    assert (tmp_path / "file").read_text() == "mine"


def test_the_folder_itself_is_replaced_only_when_that_is_said(
    exports: Path, snapshot: Callable[[Path], dict[str, bytes]]
) -> None:
    before = snapshot(exports)
    result = run(exports, "-o", exports)
    assert (result.exit_code, "say --in-place" in result.stderr) == (2, True)
    assert snapshot(exports) == before


def test_the_default_destination_stands_beside_the_folder(exports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(exports / "decoder")
    for source, folder in ((".", exports / "decoder.folded"), ("..", exports.parent / "exports.folded")):
        assert run(source, "--no-verify").exit_code == 0
        assert (folder / "model.onnx").exists()


def test_a_file_that_cannot_be_copied_is_named(exports: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "decoder").write_text("in the way")
    result = run(exports, "-o", tmp_path / "out")
    assert (result.exit_code, "cannot copy" in result.stderr) == (2, True)


def test_a_model_that_cannot_be_read_is_in_the_sarif_report(exports: Path, tmp_path: Path) -> None:
    (exports / "bad.onnx").write_bytes(b"garbage")
    assert run(exports, "-o", tmp_path / "out", f"--report={tmp_path / 'r.sarif'}").exit_code == 1
    (invocation,) = json.loads((tmp_path / "r.sarif").read_text("utf-8"))["runs"][0]["invocations"]
    assert invocation["executionSuccessful"] is False
    assert "bad.onnx" in invocation["toolExecutionNotifications"][0]["message"]["text"]
