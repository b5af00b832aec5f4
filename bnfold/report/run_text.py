"""The screen and the document of `bnfold run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.report.page import Page, Style, plain
from bnfold.report.report import document

if TYPE_CHECKING:
    from bnfold.runtime.placement import Placement


def answer_lines(
    label: str, outputs: Mapping[str, Any], path: str | None, *, style: Style = plain, width: int = 100
) -> list[str]:
    """What the terminal shows of one input: each output's type, shape and range, and the file that was written."""
    page = Page(style, width)
    lines = page.entry("input", label)
    for name, value in outputs.items():
        lines += page.entry("output", f"{name} · {_described(summary(value))}")
    return lines + (page.entry("wrote", path, "good") if path else [])


def provider_lines(placement: Placement, *, style: Style = plain, width: int = 100) -> list[str]:
    """Where the model runs, and a warning where that is not wholly what was asked for."""
    page = Page(style, width)
    lines = page.entry("runs on", provider_facts(placement))
    for note in placement.notes():
        lines += page.entry("warning", note.sentence, "warn")
    return lines


def provider_facts(placement: Placement) -> str:
    """The provider with what it says about its numbers, in one line; nothing of the kind is to be said about the CPU."""
    facts = placement.facts()
    if placement.provider == "CPUExecutionProvider":
        return placement.provider
    return " · ".join([facts.pop("provider"), *(f"{key} {value}" for key, value in facts.items())])


def run_document(model: str, placement: Placement, answers: list[dict[str, Any]]) -> dict[str, Any]:
    """The JSON document of `bnfold run`."""
    notes = [asdict(note) for note in placement.notes()]
    return document("", model=model, provider=placement.to_dict(), notes=notes, answers=answers)


def summary(value: Any) -> dict[str, Any]:
    """Type, shape and range of one output, JSON-ready; the range of finite numbers only."""
    if value is None:
        return {"type": "absent", "length": 0}
    if isinstance(value, list | dict):
        return {"type": "map" if isinstance(value, dict) else "sequence", "length": len(value)}
    facts: dict[str, Any] = {"type": str(value.dtype), "shape": list(value.shape)}
    if value.dtype.kind not in "fiub" and value.dtype.name != "bfloat16":
        return facts
    numbers = value.astype(np.float64).ravel()
    finite = numbers[np.isfinite(numbers)]
    found: dict[str, Any] = {"non_finite": int(numbers.size - finite.size)}
    if finite.size:
        found |= {"min": float(finite.min()), "max": float(finite.max()), "mean": float(finite.mean())}
    return facts | found


def _described(facts: Mapping[str, Any]) -> str:
    words = [f"{facts['type']} {'x'.join(map(str, facts['shape'])) or 'scalar'}" if "shape" in facts else str(facts["type"])]
    if "min" in facts:
        words.append(f"{facts['min']:.6g} to {facts['max']:.6g}, mean {facts['mean']:.6g}")
    if facts.get("non_finite"):
        words.append(f"{facts['non_finite']} NaN or inf")
    return " · ".join(words)
