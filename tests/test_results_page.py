"""The page of benchmark results: what is recorded is shown, and rows on which bnfold loses, or a tool fails, stay in."""

from __future__ import annotations

import json

import pytest

from benchmarks import results

HEAD = {"date": "2026-01-02", "machine": "a machine", "python": "3.11", "versions": {"onnx": "1.23"}, "quick": False}


def found(wall_s: float, peak_mb: float = 50) -> dict:
    return {"wall_s": wall_s, "cpu_s": wall_s, "peak_mb": peak_mb, "runs": 5, "spread": 0.05}


def cost(ours: dict) -> dict:
    tools = {"cp": found(1), "bnfold": ours, "other": {"failure": "RuntimeError: too | large", "peak_mb": 9000}}
    case = {"name": "1 GB", "bytes": 10**9, "target": {"times_of_cp": 2.0, "peak_mb": 200}, "tools": tools}
    return {**HEAD, "cases": [case]}


def growth(ours: dict) -> dict:
    tools = {"onnx.load": found(1), "onnx.load + onnx.save": found(2), "bnfold": ours}
    names = ("a chain of Conv and BatchNormalization", "nothing to fold", "one weight, many Conv")
    graphs = [{"name": name, "size": 1000, "tools": tools} for name in names]
    starting = {name: found(0.01 * place) for place, name in enumerate(("pass", "help", "onnx", "tiny"), 1)}
    return {**HEAD, "graphs": graphs, "starting": starting}


@pytest.mark.parametrize(
    ("wall_s", "peak_mb", "words"),
    [(1.5, 50, ("| 1.50 × cp | yes |", "| 50 MB | yes |")), (2.5, 300, ("| 2.50 × cp | **no** |", "| 300 MB | **no** |"))],
)
def test_cost_says_whether_its_targets_are_met(wall_s, peak_mb, words):
    text = "\n".join(results.tool_cost(cost(found(wall_s, peak_mb))))
    assert all(word in text for word in words)
    assert "RuntimeError: too / large" in text


@pytest.mark.parametrize(("wall_s", "words"), [(1.4, "| 1.40 × | yes |"), (13, "| 6.5 × | **no** |")])
def test_scaling_says_whether_its_targets_are_met(wall_s, words):
    text = "\n".join(results.scaling(growth(found(wall_s))))
    assert words in text


@pytest.mark.parametrize(
    "document", [results.tool_cost(cost({"failure": "died", "peak_mb": 1})), results.scaling(growth({"failure": "died"}))]
)
def test_a_failure_of_bnfold_is_a_target_that_is_not_met(document):
    assert "| died | no |" in "\n".join(document)


def test_the_page_has_the_sections_that_were_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "HERE", tmp_path)
    (tmp_path / "tool_cost.json").write_text(json.dumps(cost(found(1))))
    text = results.page()
    assert "## Tool cost" in text
    assert "2026-01-02, a machine, Python 3.11, onnx 1.23" in text
    assert "## Scaling" not in text
