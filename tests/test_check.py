"""`bnfold check`: what it reports, in which formats, and when it fails."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import helper, numpy_helper

from bnfold import pipeline
from bnfold.check import check
from bnfold.cli.main import cli
from bnfold.codes import CODES
from bnfold.errors import InputError
from bnfold.report.findings import Finding
from bnfold.report.lint import check_github
from bnfold.report.sarif import sarif_document

ROOT = Path(__file__).resolve().parent.parent
LENET = ROOT / "models" / "lenet.onnx"


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, ["check", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model of one Conv, operators between, and one BatchNormalization with `attributes`."""

    def write(name: str = "m.onnx", between: tuple[str, ...] = (), mean: float = 0.3, **attributes: int) -> Path:
        names = ["c", *(f"b{number}" for number, _ in enumerate(between))]
        nodes = [helper.make_node("Conv", ["x", "W"], ["c"], name="conv")]
        nodes += [helper.make_node(op, [one], [two]) for op, one, two in zip(between, names[:-1], names[1:], strict=True)]
        nodes.append(helper.make_node("BatchNormalization", [names[-1], "s", "B", "m", "v"], ["y"], name="bn", **attributes))
        values = {
            "W": np.ones((4, 4, 1, 1)),
            "s": np.ones(4),
            "B": np.ones(4),
            "m": np.full(4, mean),
            "v": np.full(4, mean or 1.0),
        }
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 4, 8, 8])],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value.astype(np.float32), key) for key, value in values.items()],
        )
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
        return path

    return write


@pytest.fixture
def folded(save: Callable[..., Path]) -> Path:
    """A model with nothing left to fold."""
    path = save("folded.onnx")
    pipeline.optimize(path, path, verify=False)
    return path


def test_a_foldable_normalization_fails_on_one_line(save: Callable[..., Path]) -> None:
    path = save()
    result = run(path)
    assert result.exit_code == 1
    first, last = result.stdout.splitlines()
    assert first == f"{path}: bn: BNF003 It can be folded into Conv `conv`, and has not been. Run `bnfold optimize`."
    assert last == "1 error, 1 file checked."


def test_a_folded_model_passes(folded: Path) -> None:
    assert run(folded).exit_code == 0
    assert run(folded, "-q").output == ""
    assert check([str(folded)], select=["ALL"]).findings == ()


ROWS = {
    "foldable": ({}, "BNF003", 1),
    "training mode": ({"training_mode": 1}, "BNF001", 1),
    "untrained": ({"mean": 0.0}, "BNF017", 1),  # beside BNF003
    "nonlinear": ({"between": ("Relu",)}, "BNF005", 0),
}


@pytest.mark.parametrize("row", ROWS)
def test_codes_and_exit_codes(save: Callable[..., Path], row: str) -> None:
    options, code, expected = ROWS[row]
    path = save(**options)
    assert run(path).exit_code == expected
    assert code in {one.code for one in check([str(path)], select=["ALL"]).findings}


def test_only_errors_and_warnings_are_selected_by_default(save: Callable[..., Path]) -> None:
    path = save(between=("Relu",))
    assert check([str(path)]).findings == ()
    assert [one.code for one in check([str(path)], select=["BNF005"]).findings] == ["BNF005"]


def test_a_warning_alone_passes(save: Callable[..., Path]) -> None:
    result = run(save(mean=0.0), "--ignore", "bnf003")
    assert result.exit_code == 0
    assert "BNF017" in result.stdout
    assert result.stdout.endswith("1 warning, 1 file checked.\n")


@pytest.mark.parametrize("ignored", ["BNF003", "BNF00", "bnf003,BNF005", "ALL"])
def test_ignore_is_stronger_than_select(save: Callable[..., Path], ignored: str) -> None:
    assert run(save(), "--select", "ALL", "--ignore", ignored).exit_code == 0


@pytest.mark.parametrize("wrong", ["BNF999", "X", "", "BNF0033"])
def test_an_unknown_code_is_a_usage_error(folded: Path, wrong: str) -> None:
    result = run(folded, "--select", wrong or " ")
    assert result.exit_code == 2
    assert "is no code of bnfold" in result.stderr


def test_folders_files_and_patterns(save: Callable[..., Path], tmp_path: Path) -> None:
    save("one/a.onnx"), save("one/two/b.onnx")
    (tmp_path / "one" / "notes.txt").write_text("no model")
    folder, deep = tmp_path / "one", str(tmp_path / "**" / "*.onnx")
    assert [Path(path).name for path in check([str(folder)]).files] == ["a.onnx", "b.onnx"]
    assert [Path(path).name for path in check([deep]).files] == ["a.onnx", "b.onnx"]
    assert len(check([str(folder), deep, str(folder / "a.onnx")]).files) == 2
    (tmp_path / "link.onnx").symlink_to(tmp_path / "gone.onnx")
    for absent in ("absent*", "link.onnx"):
        with pytest.raises(InputError, match="matches none as a pattern"):
            check([str(tmp_path / absent)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no \.onnx file"):
        check([str(tmp_path / "empty")])


def test_a_broken_file_does_not_hide_the_others(save: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "a_broken.onnx").write_bytes(LENET.read_bytes()[:5000])
    save("b.onnx")
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "a_broken.onnx is not an ONNX model" in result.stderr
    assert "b.onnx: bn: BNF003" in result.stdout
    assert result.stdout.endswith("1 error, 1 file failed, 2 files checked.\n")


def test_json(save: Callable[..., Path]) -> None:
    document = json.loads(run(save(), "--format", "json").stdout)
    assert (document["ok"], document["error"]["exit_code"]) == (False, 1)
    assert [(one["code"], one["level"], one["node"]) for one in document["findings"]] == [("BNF003", "error", "bn")]


def test_sarif(save: Callable[..., Path]) -> None:
    document = json.loads(run(save("with space.onnx", mean=0.0), "--format", "sarif").stdout)
    assert document["version"] == "2.1.0"
    (one_run,) = document["runs"]
    rules = one_run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["BNF003", "BNF017"]
    for result in one_run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        (place,) = result["locations"]
        assert unquote(place["physicalLocation"]["artifactLocation"]["uri"]).endswith("with space.onnx")
        assert " " not in place["physicalLocation"]["artifactLocation"]["uri"]
        assert place["logicalLocations"][0]["fullyQualifiedName"] == "bn"
    prints = [json.dumps(result["partialFingerprints"]) for result in one_run["results"]]
    assert len(set(prints)) == 2


def test_every_code_makes_a_sarif_rule_with_a_legal_name() -> None:
    for rule in sarif_document([Finding("m", code, "n", "", "s") for code in CODES])["runs"][0]["tool"]["driver"]["rules"]:
        assert re.fullmatch(r"[A-Za-z0-9]+", rule["name"]), rule["name"]
        assert rule["defaultConfiguration"]["level"] in ("error", "warning", "note")


def test_junit(save: Callable[..., Path], folded: Path) -> None:
    root = ElementTree.fromstring(run(save(), folded, "--format", "junit").stdout)
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    failed, passed = suite.findall("testcase")
    assert "BNF003" in (failed.findtext("failure") or "")
    assert passed.find("failure") is None


def test_github_escapes_what_would_end_the_command() -> None:
    from bnfold.report.findings import Check

    one = Finding("a:b,c%.onnx", "BNF003", "line\nbreak", "", "50 % of `x`")
    line = check_github(Check(("a",), (one,)))
    assert line == "::error file=a%3Ab%2Cc%25.onnx,title=BNF003::line%0Abreak: 50 %25 of `x`."


def test_a_file_that_cannot_be_read_is_told_in_every_format(save: Callable[..., Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"garbage")
    for output_format in ("text", "json", "github", "sarif", "junit"):
        result = run(bad, "--format", output_format)
        assert result.exit_code == 2
        assert "bad.onnx" in result.stdout or output_format == "text"
        assert (result.stderr == "") == (output_format == "github")
    (one_run,) = json.loads(run(bad, save(), "--format", "sarif").stdout)["runs"]
    assert one_run["invocations"][0]["executionSuccessful"] is False
    assert [result["ruleId"] for result in one_run["results"]] == ["BNF003"]
    assert json.loads(run(bad, "--format", "json").stdout)["error"]["message"].count("bad.onnx") == 1
    assert json.loads(run(tmp_path / "none", "--format", "json").stdout)["error"]["exit_code"] == 2


def test_reports(save: Callable[..., Path], tmp_path: Path) -> None:
    paths = [tmp_path / f"r{suffix}" for suffix in (".json", ".md", ".xml", ".sarif")]
    assert run(save(), *(part for path in paths for part in ("--report", path))).exit_code == 1
    assert "| error |" in paths[1].read_text("utf-8")
    assert all("BNF003" in path.read_text("utf-8") for path in paths)


def test_fix_folds_in_place(save: Callable[..., Path]) -> None:
    path, stays = save(), save("stays.onnx", between=("Relu",))
    before = stays.read_bytes()
    assert run(path, stays, "--fix").exit_code == 0
    assert [node.op_type for node in onnx.load(path).graph.node] == ["Conv"]
    assert stays.read_bytes() == before


@pytest.mark.parametrize("options", [("--ignore", "BNF003"), ("--select", "BNF017")])
def test_what_is_not_reported_is_not_fixed(save: Callable[..., Path], options: tuple[str, str]) -> None:
    path = save()
    before = path.read_bytes()
    assert run(path, "--fix", *options).exit_code == 0
    assert path.read_bytes() == before


def test_what_could_not_be_fixed_is_still_reported(save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise InputError("cannot write m.onnx: Permission denied.")

    monkeypatch.setattr(pipeline, "optimize", refused)
    result = run(save(), "--fix")
    assert (result.exit_code, "BNF003" in result.stdout, "Permission denied" in result.stderr) == (2, True, True)


def test_a_folder_that_cannot_be_read_is_told(save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    place = save("closed/a.onnx").parent
    scandir = os.scandir

    def closed(path: str) -> object:
        if Path(path) == place:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    result = run(place.parent)
    assert (result.exit_code, "closed: Permission denied" in result.stderr) == (2, True)


def test_a_fix_that_fails_its_verification_is_reported(save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import bnfold.runtime.verify as verify

    def wrong(*_: object, **__: object) -> verify.Verification:
        return verify.Verification((), ("It differs.",), (), 1, 0.1)

    monkeypatch.setattr(verify, "verify", wrong)
    path = save()
    before = path.read_bytes()
    found = check([str(path)], fix=True)
    assert [one.code for one in found.findings] == ["BNF003", "BNF040"]
    assert path.read_bytes() == before
