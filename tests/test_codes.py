"""The code pages: complete, up to date in docs/, and true, as far as the examples can be run."""

import ast
import re
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from click import Context, Group, Option

from bnfold import codes, pipeline
from bnfold.cli.main import cli
from bnfold.codes import CODES, Code

ROOT = Path(__file__).resolve().parent.parent

EXAMPLES = [
    pytest.param(text, id=f"{row.code}-{when}")
    for row in CODES.values()
    for when, text in (("before", row.before), ("after", row.after))
]

REFUSED = (
    *("BNF001", "BNF004", "BNF005", "BNF006", "BNF007", "BNF008", "BNF010", "BNF011"),
    *("BNF012", "BNF014", "BNF018", "BNF019", "BNF020"),
)
"""Codes with which the planner refuses `before`, while it folds `after`."""

NOTED = ("BNF002", "BNF009", "BNF016", "BNF017")
"""Codes that come as a note on `before`, and not on `after`."""


def test_every_code_has_a_page() -> None:
    assert list(CODES) == [f"BNF{number:03}" for number in (*range(1, 27), *range(30, 37), 40, *range(50, 53), 60)]


@pytest.mark.parametrize("row", CODES.values(), ids=lambda row: row.code)
def test_page_is_complete(row: Code) -> None:
    assert row.level in codes.LEVELS
    assert row.before
    assert row.after
    assert row.before != row.after
    assert len(row.title) <= 60
    assert not row.title.endswith(".")
    for sentence in (row.meaning, row.remedy, row.ignore):
        assert sentence[0].isupper() or sentence[0] in "`-"
        assert sentence.endswith(".")


@pytest.mark.parametrize("row", CODES.values(), ids=lambda row: row.code)
def test_page_refers_only_to_codes_and_options_that_exist(row: Code) -> None:
    text = " ".join((row.meaning, row.remedy, row.ignore, row.before, row.after))
    assert set(re.findall(r"BNF\d{3}", text)) <= CODES.keys()
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= _options()
    assert set(re.findall(r"`bnfold (\w+)", text)) <= set(cli.list_commands(Context(cli)))


@pytest.mark.parametrize("text", EXAMPLES)
def test_example_is_onnx_text(text: str) -> None:
    assert _model(text).graph.node


@pytest.mark.parametrize("code", REFUSED)
def test_example_is_refused_with_its_code(code: str) -> None:
    verdicts = pipeline.plan(_model(CODES[code].before)).verdicts
    assert [verdict.kind for verdict in verdicts] == ["refusal"]
    assert [getattr(verdict, "code", "") for verdict in verdicts] == [code]


@pytest.mark.parametrize("code", REFUSED)
def test_repaired_example_folds(code: str) -> None:
    assert [verdict.kind for verdict in pipeline.plan(_model(CODES[code].after)).verdicts] == ["fold"]


@pytest.mark.parametrize("code", NOTED)
def test_example_is_noted_with_its_code(code: str) -> None:
    assert code in {note.code for note in pipeline.plan(_model(CODES[code].before)).all_notes}
    assert code not in {note.code for note in pipeline.plan(_model(CODES[code].after)).all_notes}


def test_every_code_that_the_sources_mention_has_a_page() -> None:
    mentioned = {code for path in (ROOT / "bnfold").rglob("*.py") for code in re.findall(r"\bBNF\d+\b", path.read_text("utf-8"))}
    assert mentioned == CODES.keys()


def test_every_option_that_the_sources_mention_exists() -> None:
    paths = [
        path for path in (ROOT / "bnfold").rglob("*.py") if not {"html", "integrations"} & set(path.parts)
    ]  # style sheets; Olive
    sources = "\n".join(path.read_text("utf-8") for path in paths).replace("pip install --upgrade", "")
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", sources)) <= _options() | {"--help", "--version"}


def test_docs_are_up_to_date() -> None:
    written = (ROOT / "docs" / "codes.md").read_text("utf-8")
    assert written == codes.as_markdown(), "run: python -m bnfold.codes > docs/codes.md"


def test_needs_nothing_but_the_standard_library() -> None:
    tree = ast.parse(Path(codes.__file__).read_text("utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported == {"__future__", "dataclasses", "typing"}


def _options() -> set[str]:
    assert isinstance(cli, Group)
    context = Context(cli)
    commands = [cli.get_command(context, name) for name in cli.list_commands(context)]
    commands += [each for command in commands if isinstance(command, Group) for each in command.commands.values()]
    parameters = [parameter for command in commands if command for parameter in command.params]
    return {name for each in parameters if isinstance(each, Option) for name in (*each.opts, *each.secondary_opts)}


def _model(text: str) -> onnx.ModelProto:
    """The example as a model, with values for what it leaves out: its constants, and a header for bare nodes."""
    if not text.startswith("<ir_version"):
        if "=>" not in text:
            text = f"agraph (float[N,4,8,8] x, float[N,4,8,8] z) => (float[N,4,8,8] y) {{\n{text}\n}}"
        text = f'<ir_version: 8, opset_import: ["" : 17]>\n{text}'
    model = onnx.parser.parse_model(text)
    graph = model.graph
    known = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    known |= {name for node in graph.node for name in node.output}
    for name in dict.fromkeys(name for node in graph.node for name in node.input):
        if name not in known:
            graph.initializer.append(onnx.numpy_helper.from_array(_constant(name, graph), name))
    return model


def _constant(name: str, graph: onnx.GraphProto) -> np.ndarray:
    rng = np.random.default_rng(0)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(graph.input[0].type.tensor_type.elem_type)
    if name.startswith("W"):
        has_matmul = any(node.op_type == "MatMul" for node in graph.node)
        if shape := re.search(r"_(\d+)x(\d+)$", name) if has_matmul else None:
            return rng.standard_normal((int(shape[1]), int(shape[2]))).astype(dtype)
        return rng.standard_normal((4, 4) if has_matmul else (4, 4, 1, 1)).astype(dtype)
    if name == "b_8":
        return rng.standard_normal(8).astype(dtype)
    if name in ("ratio", "q_scale"):
        return np.array(0.5, dtype)
    if name == "q_zero":
        return np.array(0, np.uint8)
    per_activation = any(attribute.name == "spatial" for node in graph.node for attribute in node.attribute)
    return rng.uniform(0.5, 2.0, (4, 8, 8) if per_activation else (4,)).astype(dtype)
