"""docs/report.schema.json: every document that a command prints fits it, and holds nothing that it does not describe."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import bnfold
from bnfold.cli.main import cli
from bnfold.report.report import SCHEMA

Document = Callable[[str], tuple[dict[str, Any], int]]

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = json.loads((ROOT / "docs" / "report.schema.json").read_text("utf-8"))

OUTPUTS: list[tuple[str, str, int]] = [
    ("optimize", "optimize {lenet} -o {out}/a.onnx --data {data} --verify-budget 1", 0),
    ("optimize", "optimize {lenet} --dry-run --keep *bn1*", 0),
    ("optimize", "optimize {normalized} -o {out}/b.onnx --no-verify", 0),
    ("folder", "optimize {models} -o {out}/folded --no-verify", 1),
    ("inspect", "inspect {lenet}", 0),
    ("inspect", "inspect {folded}", 0),
    ("verify", "verify {lenet} {folded} --verify-budget 1", 0),
    ("verify", "verify {lenet} {normalized} --verify-budget 1", 1),
    ("accuracy", "accuracy {lenet} {normalized} --data {data}", 0),
    ("accuracy", "accuracy {lenet} --data {data} --limit 10", 0),
    ("bench", "bench {lenet} {folded} --duration 0.05 --repeats 2", 0),
    ("bench", "bench {lenet} --duration 0.05 --repeats 1", 0),
    ("check", "check {models} --select ALL --format json", 2),
    ("run", "run {lenet}", 0),
    ("doctor", "doctor", 0),
    ("config", "config -v", 0),
    ("ranges", "ranges {lenet} {folded}", 0),
    ("recalibrate", "recalibrate {lenet} -o {out}/c.onnx --data {data} --batch 25 --batches 2", 0),
    ("error", "optimize {out}/absent.onnx", 2),
    ("error", "verify {lenet} {out}/absent.onnx", 2),
]
"""Definition, the command whose document fits it, its exit code."""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("documents")
    models = ROOT / "models"
    (folder / "models").mkdir()
    lenet = models / "lenet.onnx"
    onnx.save(bnfold.fold(lenet).model, folder / "folded.onnx")
    onnx.save(bnfold.fold(models / "lenet_after.onnx").model, folder / "models" / "one.onnx")
    (folder / "models" / "broken.onnx").write_bytes(b"no model")
    return {
        "lenet": lenet,
        "normalized": models / "lenet_after.onnx",
        "folded": folder / "folded.onnx",
        "models": folder / "models",
        "data": models / "fashion_mnist_sample.npz",
        "out": folder,
    }


def printed(command: str, places: dict[str, Path]) -> tuple[dict[str, Any], int]:
    words = [word.format(**places) for word in command.split()]
    if "json" not in words:
        words.append("--json")
    result = CliRunner().invoke(cli, words)
    return json.loads(result.stdout), result.exit_code


def closed(schema: Any) -> Any:
    """The same schema, without the licence for new keys: every object has exactly what is described."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    shut = {key: closed(value) for key, value in schema.items()}
    return {**shut, "additionalProperties": False} if isinstance(schema.get("properties"), dict) and "type" in schema else shut


def validator(definition: str, schema: Any) -> Any:
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{definition}", "$defs": schema["$defs"]})


CLOSED = closed(PUBLISHED)


@pytest.fixture(scope="module")
def document(places: dict[str, Path]) -> Document:
    known: dict[str, tuple[dict[str, Any], int]] = {}

    def get(command: str) -> tuple[dict[str, Any], int]:
        if command not in known:
            known[command] = printed(command, places)
        return known[command]

    return get


@pytest.mark.parametrize(("definition", "command", "exit_code"), OUTPUTS, ids=[command for _, command, _ in OUTPUTS])
def test_what_a_command_prints_fits_and_is_described(definition: str, command: str, exit_code: int, document: Document) -> None:
    found, code = document(command)
    assert code == exit_code, found["error"]
    assert found["schema"] == SCHEMA
    problems = [f"{error.json_path}: {error.message}"[:300] for error in validator(definition, CLOSED).iter_errors(found)]
    assert problems == []
    jsonschema.validate(found, PUBLISHED)


def test_a_report_file_is_the_same_document(places: dict[str, Path], tmp_path: Path) -> None:
    words = ["check", str(places["lenet"]), "--report", str(tmp_path / "r.json")]
    assert CliRunner().invoke(cli, words).exit_code == 1
    found = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert list(validator("check", CLOSED).iter_errors(found)) == []


def objects(document: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all objects in a document."""
    if isinstance(document, dict):
        yield path
    pairs = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    for key, value in pairs:
        yield from objects(value, (*path, key))


FREE = {"opsets", "operators_before", "operators_after", "execution", "shapes", "options", "nodes", "elsewhere", "versions"}
"""Objects whose keys are names from the model or the machine; so are those of a benchmark's subjects' `operators`."""


@pytest.mark.parametrize("command", [OUTPUTS[0][1], OUTPUTS[10][1]])
def test_a_key_too_many_or_too_few_is_noticed(command: str, document: Document) -> None:
    found, _ = document(command)
    definition = next(name for name, text, _ in OUTPUTS if text == command)
    rng = np.random.default_rng(0)
    paths = [path for path in objects(found) if not FREE.intersection(path) and "operators" not in path[-1:]]
    for place in rng.permutation(len(paths))[:25]:
        changed = copy.deepcopy(found)
        target = changed
        for key in paths[place]:
            target = target[key]
        target["something new"] = 1
        assert not validator(definition, CLOSED).is_valid(changed), paths[place]
        assert validator(definition, PUBLISHED).is_valid(changed), paths[place]
        del target["something new"]
        target.pop(next(iter(target)))
        assert not validator(definition, PUBLISHED).is_valid(changed), paths[place]


@pytest.mark.parametrize("definition", [name for name in PUBLISHED["$defs"] if name.islower()])
def test_every_command_has_a_document_here(definition: str) -> None:
    if definition == "export":  # its document is looked at where PyTorch is: tests/test_export.py
        pytest.importorskip("torch", reason="PyTorch is not installed")
    else:
        assert definition in {name for name, _, _ in OUTPUTS}


def test_documents_are_told_apart(document: Document) -> None:
    for definition, command, _ in OUTPUTS:
        found, _ = document(command)
        fitting = {name for name in PUBLISHED["$defs"] if name.islower() and validator(name, CLOSED).is_valid(found)}
        assert fitting == {definition}


def test_an_export_fits(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from bnfold.exporter.export import export

    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    report = export(module.eval(), (torch.zeros(1, 1, 8, 8),), tmp_path / "m.onnx", fold=True)
    assert [error.message for error in validator("export", CLOSED).iter_errors(json.loads(json.dumps(report.to_dict())))] == []


def test_the_published_file_is_what_the_code_says() -> None:
    made = subprocess.run([sys.executable, "docs/report_schema.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert json.loads(made) == PUBLISHED, "run: python docs/report_schema.py > docs/report.schema.json"
    jsonschema.Draft202012Validator.check_schema(PUBLISHED)


def test_everything_is_described() -> None:
    for name, definition in PUBLISHED["$defs"].items():
        assert definition["description"], name
        for key, value in definition["properties"].items():
            assert value["description"], f"{name}.{key}"
