"""`bnfold accuracy` and `bnfold optimize --data` from outside."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bnfold.cli import accuracy as cli_accuracy
from bnfold.cli.main import cli

ROOT = Path(__file__).resolve().parent.parent
LENET = ROOT / "models" / "lenet.onnx"
BY_HAND = ROOT / "models" / "lenet_by_hand.onnx"
SAMPLE = ROOT / "models" / "fashion_mnist_sample.npz"


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result


def test_two_models() -> None:
    result = run("accuracy", LENET, BY_HAND, "--data", SAMPLE)
    assert result.exit_code == 0
    words = result.stdout.split()
    for figure in (
        "87.00",
        "88.00",
        "flips",
        "drop",
        "(Tango)",
        "77794e6dbae71721ad8710f67e5079ef81034a53b467021051cbce77a9dd642b",
    ):
        assert figure in words
    assert "5 of 100 answers changed: 2 lost, 3 gained, 0 from wrong to wrong" in result.stdout
    assert "sample 12, label 7: 5 → 7" in result.stdout
    assert all(len(line) <= 100 for line in result.stdout.splitlines())


def test_one_model() -> None:
    result = run("accuracy", LENET, "--data", SAMPLE)
    assert result.exit_code == 0
    assert "flips" not in result.stdout
    assert "candidate" not in result.stdout


def test_no_flips_say_what_they_bound() -> None:
    result = run("accuracy", LENET, LENET, "--data", SAMPLE)
    assert "none of 100 only bounds the share of changed answers at 3.70 %" in result.stdout


def test_verbose_shows_the_table_and_how_it_was_run() -> None:
    result = run("accuracy", LENET, BY_HAND, "--data", SAMPLE, "-v")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["reference", "right", "85", "2"] in rows
    assert ["reference", "wrong", "3", "10"] in rows
    assert "default optimizations · batches of 64" in result.stdout
    assert result.stdout.count(": 5 → 7") == 1
    assert result.stdout.count("sample ") == 5


@pytest.mark.parametrize(
    ("gate", "code", "told"),
    [
        (("--max-flips", "5"), 0, ""),
        (("--max-flips", "4"), 1, "5 of 100 answers changed; 4 may."),
        (("--max-drop", "5pp"), 0, ""),
        (("--max-drop", "0.1pp"), 1, "Not shown"),
        (("--max-flips", "4", "--margin", "0.1"), 0, ""),
    ],
)
def test_gates_decide_on_the_exit_code(gate: tuple[str, ...], code: int, told: str) -> None:
    result = run("accuracy", LENET, BY_HAND, "--data", SAMPLE, "-q", *gate)
    assert result.exit_code == code
    assert told in result.stdout
    assert bool(result.stdout) == bool(told)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((LENET,), 2, "--data"),
        ((LENET, "--data", SAMPLE, "--max-flips", 0), 2, "name CANDIDATE"),
        ((LENET, BY_HAND, "--data", SAMPLE, "--max-drop", "0.1"), 2, "written 0.1pp"),
        ((LENET, BY_HAND, "--data", SAMPLE, "--max-drop", "-1pp"), 2, "is no drop"),
        ((LENET, BY_HAND, "--data", SAMPLE, "--max-drop", "little"), 2, "is no drop"),
        ((LENET, "--data", "no.npz"), 2, "no.npz does not exist"),
        ((ROOT / "no.onnx", "--data", SAMPLE), 2, "no.onnx"),
        ((LENET, "--data", SAMPLE, "-q", "-v"), 2, "exclude each other"),
        ((LENET, "--data", SAMPLE, "--preprocess", "mnist"), 2, "grey uint8 images"),
        ((LENET, "--data", SAMPLE, "--resume", "no/folder/state.json"), 2, "cannot be written"),
        ((LENET, "--data", SAMPLE, "--provider", "cuda"), 3, "BNF031"),
        (("--data", SAMPLE), 2, "REFERENCE"),
    ],
)
def test_what_is_refused(arguments: tuple[object, ...], code: int, told: str) -> None:
    if "cuda" in arguments and "CUDAExecutionProvider" in __import__("onnxruntime").get_available_providers():
        pytest.skip("this onnxruntime has the provider that is asked for as an absent one")
    result = run("accuracy", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert told in result.stderr


def test_a_missing_package_is_exit_code_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set" / "ant").mkdir(parents=True)
    monkeypatch.setitem(sys.modules, "PIL", None)
    result = run("accuracy", LENET, "--data", tmp_path / "set", "--preprocess", "imagenet")
    assert result.exit_code == 3
    assert "pip install 'bnfold[images]'" in result.stderr


def test_a_metric_of_the_users_takes_a_drop_without_unit(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("def right(outputs, labels):\n    return outputs['logits'].argmax(1) == labels\n")
    metric = ("--metric", tmp_path / "m.py:right")
    assert run("accuracy", LENET, BY_HAND, "--data", SAMPLE, "--max-drop", "0.05", *metric).exit_code == 0
    assert run("accuracy", LENET, BY_HAND, "--data", SAMPLE, *metric, "--max-drop", "0.01").exit_code == 1


def test_json_and_the_reports_say_the_same(tmp_path: Path) -> None:
    reports = [tmp_path / f"report{suffix}" for suffix in (".json", ".md", ".xml", ".sarif")]
    wanted = [word for path in reports for word in ("--report", path)]
    result = run("accuracy", LENET, BY_HAND, "--data", SAMPLE, "--max-flips", 0, "--json", *wanted)
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document == json.loads(reports[0].read_text())
    assert document["ok"] is False
    assert document["error"] == {"message": "5 of 100 answers changed; 0 may.", "exit_code": 1}
    assert document["pairs"]["lost"] == 2
    assert len(document["flips"]) == 5
    assert document["settings"]["preprocess"] == ""
    assert "| reference right | 85 | 2 |" in reports[1].read_text()
    assert "**Failed.**" in reports[1].read_text()
    suite = ElementTree.parse(reports[2]).getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    results = json.loads(reports[3].read_text())["runs"][0]["results"]
    assert [each["ruleId"] for each in results] == ["BNF050"]


def test_a_warning_reaches_the_screen_and_stays_quiet_otherwise(tmp_path: Path) -> None:
    with np.load(SAMPLE) as sample:
        np.savez(tmp_path / "one_off.npz", image=sample["image"], label=sample["label"] + 1)
    result = run("accuracy", LENET, "--data", tmp_path / "one_off.npz", "-q")
    assert result.exit_code == 0
    assert "BNF052" in result.stdout
    assert run("accuracy", LENET, "--data", SAMPLE, "-q").stdout == ""


class Terminal:
    """A stand-in for stderr on a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("total", [100, None])
def test_a_terminal_gets_a_progress_bar(total: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with cli_accuracy.progress("running m.onnx", quiet=False) as update:
        assert update is not None
        for done in (40, 80, 100):
            update(done, total)
    assert "running m.onnx" in terminal.text
    assert "100" in terminal.text
    with cli_accuracy.progress("running m.onnx", quiet=True) as update:
        assert update is None


def test_optimize_with_a_gate_that_passes_and_one_that_fails(tmp_path: Path) -> None:
    passed = run("optimize", LENET, "-o", tmp_path / "a.onnx", "--data", SAMPLE, "--max-flips", 0, "--report", tmp_path / "r.md")
    assert passed.exit_code == 0
    assert "accuracy 87.00 % → 87.00 %" in passed.stdout
    assert "## Accuracy" in (tmp_path / "r.md").read_text()
    failed = run(
        "optimize",
        LENET,
        "-o",
        tmp_path / "b.onnx",
        "--data",
        SAMPLE,
        "--max-drop",
        "0.1pp",
        "-q",
        "--report",
        tmp_path / "r.xml",
    )
    assert failed.exit_code == 1
    assert "It takes 3,838 samples" in " ".join(failed.stdout.split())
    assert "Nothing was written." in failed.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "r.md", "r.xml"]
    suite = ElementTree.parse(tmp_path / "r.xml").getroot()[0]
    assert suite.get("failures") == "1"


def test_optimize_json_holds_the_accuracy(tmp_path: Path) -> None:
    result = run("optimize", LENET, "-o", tmp_path / "a.onnx", "--data", SAMPLE, "--json")
    assert json.loads(result.stdout)["accuracy"]["pairs"]["flips"] == 0
