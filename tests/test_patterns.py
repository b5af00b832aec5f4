"""The tables of patterns are what was measured, and bnfold does what they say."""

from __future__ import annotations

import json

import pytest

from benchmarks import patterns
from benchmarks.marks import replaced
from benchmarks.pattern_rows import GROUPS, Pattern
from benchmarks.pattern_tools import measure

ROWS = [(title, row) for title, rows in GROUPS.items() for row in rows]


@pytest.fixture(scope="module")
def measured() -> dict:
    return json.loads(patterns.OUTCOMES.read_text("utf-8"))


def test_page_is_what_was_measured(measured: dict) -> None:
    assert patterns.TABLE.read_text("utf-8") == patterns.table(measured), "run benchmarks/patterns.py --render"


def test_readme_is_what_was_measured(measured: dict) -> None:
    text = patterns.README.read_text("utf-8")
    assert text == replaced(text, patterns.MARK, patterns.block(measured)), "run benchmarks/patterns.py --render"


def test_every_pattern_was_measured_with_every_tool(measured: dict) -> None:
    assert {title: list(rows) for title, rows in measured["groups"].items()} == {
        title: [row.name for row in rows] for title, rows in GROUPS.items()
    }
    assert {tuple(row) for rows in measured["groups"].values() for row in rows.values()} == {patterns.TOOLS}


@pytest.mark.parametrize(("title", "pattern"), ROWS, ids=[f"{title.partition(' ')[0]} {row.name}" for title, row in ROWS])
def test_bnfold_does_what_the_table_says(title: str, pattern: Pattern, measured: dict) -> None:
    found = measure("bnfold", pattern)
    assert found["outcome"] in (("keeps",) if pattern.trap else ("folds", "keeps")), found
    assert found["outcome"] == measured["groups"][title][pattern.name]["bnfold"]["outcome"], found


def test_a_wrong_result_is_told_from_a_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = GROUPS["A linear operator, then BatchNormalization"][0]

    def skip(model):
        model.graph.node[0].output[0] = model.graph.output[0].name
        del model.graph.node[1]
        return model

    def rename(model):
        model.graph.node[-1].output[0] = model.graph.output[0].name = "other"
        return model

    def break_(model):
        model.graph.node[0].op_type = "Convolution"
        return model

    def fail(model):
        raise ValueError("no")

    tools = {"skip": skip, "rename": rename, "break": break_, "fail": fail, "nothing": lambda model: model}
    monkeypatch.setattr("benchmarks.pattern_tools.TOOLS", tools)
    assert {tool: measure(tool, pattern)["outcome"] for tool in tools} == {
        "skip": "wrong",
        "rename": "wrong",
        "break": "invalid",
        "fail": "errors",
        "nothing": "keeps",
    }
