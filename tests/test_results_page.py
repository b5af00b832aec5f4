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


def ran(ratio: float, claim: str = "none") -> dict:
    told = {"latency_ms": 10 * ratio, "ratio": ratio, "low": ratio, "high": ratio, "claim": claim}
    return {**told, "creation_ratio": ratio, "creation_cpu_ms": 5.0, "bytes": 10**6}


def cell(ours: dict, by_hand: dict, network: str = "resnet18", export: str = "raw") -> dict:
    rows = {"original": ran(1.0), "bnfold": ours, "onnxsim": {"failure": "exit 1"}, "by hand": by_hand}
    return {"network": network, "export": export, "level": "default", "threads": 1, "batch": 1, "noise": 0.01, "rows": rows}


@pytest.mark.parametrize(
    ("ours", "by_hand", "words"),
    [
        (
            ran(0.7, "faster"),
            ran(0.7, "faster"),
            ("| 1.43 to 1.43 × | yes |", "original | 1 of 1 | yes |", "| **0.700** | failed |"),
        ),
        (ran(0.9, "faster"), ran(0.7), ("| 1.11 to 1.11 × | **no** |", "not resnet18 raw default 1×1 (1.286) | **no** |")),
        (ran(1.1, "slower"), ran(1.1), ("original | 0 of 1; not resnet18 raw default 1×1 | **no** |", "(1.10) | **no** |")),
    ],
)
def test_inference_says_whether_its_targets_are_met(ours, by_hand, words):
    text = "\n".join(results.inference({**HEAD, "cells": [cell(ours, by_hand)]}))
    assert [word for word in words if word not in text] == []


def test_numerical_error_keeps_what_failed():
    rows = {
        "original": {"error_max": 1e-7, "ulp_max": None},
        "bnfold": {"error_max": 2e-7, "ulp_max": 0.5},
        "x": {"failure": "died"},
    }
    text = "\n".join(results.numerical({**HEAD, "rows": [{"network": "n", "export": "clean", "rows": rows}]}))
    assert "| n | float32 | output error | 1.0e-07 | 2.0e-07 | failed |" in text
    assert "| weights, ulp |  | 0.50 | failed |" in text


def test_the_page_has_the_sections_that_were_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "HERE", tmp_path)
    (tmp_path / "tool_cost.json").write_text(json.dumps(cost(found(1))))
    text = results.page()
    assert "## Tool cost" in text
    assert "2026-01-02, a machine, Python 3.11, onnx 1.23" in text
    assert "## Scaling" not in text
