"""The section of session creation."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from benchmarks.cells import IDEAL
from benchmarks.markdown import BNFOLD, Target, bold, failed, footnotes, grid, row
from benchmarks.session_cells import by_export, folded, geometric_mean, measured, met, running, tools_in

TARGET = 0.9


def creation(document: dict[str, Any]) -> Iterator[str]:
    """Processor time to create a session, and the size of the file."""
    cells = measured(document)
    noise = [cell["noise"] for cell in cells]
    yield "Processor time to create a session with one thread, relative to the original, each in a process of its own, and the"
    yield "size of the file. **Bold**: a difference that the rounds agree on and that is above the noise. *Noise* is how far"
    yield f"the interval of the original against itself reaches: {statistics.median(noise):.1%} in the middle,"
    yield f"{max(noise):.1%} at most."
    rows = [(cell["rows"][BNFOLD], cell["rows"][IDEAL]) for cell in folded(document)]
    ratios = [ours["ratio"] / ideal["ratio"] for ours, ideal in rows if "ratio" in ideal]
    if ratios:
        yield ""
        yield "A session of a folded file may cost more than one of the original, whoever folded it: when onnxruntime creates a"
        yield "session, it packs constant weights for its kernels (for blocked convolutions, `com.microsoft.nchwc`, only at the"
        yield "default level), and computed biases (*raw*) or overridable weights (*inputs*) keep it from that. The original pays"
        yield "for it in every run. With optimizations disabled there is little to be saved beside reading weights, and folding"
        yield "leaves as many. Files folded *by hand* show what can be had: bnfold's take"
        yield f"{statistics.median(ratios):.2f} × their time in the middle, {min(ratios):.2f} to {max(ratios):.2f} ×; torch.fx,"
        yield "which folds by hand, leaves what stands behind a Linear or a ConvTranspose, and so less is packed, but those files"
        yield "run slower."
    tools, notes = tools_in(cells), list[str]()
    yield ""
    yield "Geometric means over the networks whose file runs, and in how many of them it takes at most"
    yield f"{TARGET} × the original's time:"
    yield ""
    yield from grid(["export", "optimizations", "cells", *map(bold, tools)], words=2)
    for (export, level), some in by_export(cells):
        yield row([export, level, str(len(some)), *(_overall(some, tool) for tool in tools)])
    yield ""
    yield "<details><summary>Every network</summary>"
    yield ""
    yield from grid(["network", "export", "optimizations", "original", "noise", *map(bold, tools)], words=3)
    for cell in cells:
        first = cell["rows"]["original"]
        facts = (cell["network"], cell["export"], cell["level"], f"{first['cpu_ms']:.0f} ms, {first['bytes'] / 1e6:.1f} MB")
        yield row([*facts, f"{cell['noise']:.1%}", *(_figure(cell["rows"][tool], notes) for tool in tools)])
    yield from footnotes(notes)
    yield ""
    yield "</details>"


def creation_targets(document: dict[str, Any]) -> Iterator[Target]:
    """Sessions of folded files are created faster; and how often those of files folded by hand are."""
    cells = folded(document)
    slow = {_where(cell): cell["rows"][BNFOLD]["ratio"] for cell in cells if cell["rows"][BNFOLD]["ratio"] > TARGET}
    ideal = running(cells, IDEAL)
    beside = f"{sum(found['ratio'] <= TARGET for found in ideal)} of {len(ideal)} by hand"
    yield Target(f"≤ {TARGET} × the original's processor time", "all cells", f"{met(slow, len(cells))}; {beside}", not slow)


def _where(cell: dict[str, Any]) -> str:
    return f"{cell['network']} {cell['export']} {cell['level']}"


def _overall(cells: list[dict[str, Any]], tool: str) -> str:
    rows = running(cells, tool)
    if not rows:
        return "failed"
    faster = sum(found["ratio"] <= TARGET for found in rows)
    return f"{geometric_mean(rows, 'ratio'):.2f} ({faster} of {len(rows)})"


def _figure(found: dict[str, Any], notes: list[str]) -> str:
    if "failure" in found:
        return failed(found["failure"], notes)
    ratio = f"{found['ratio']:.2f}" if found["claim"] == "none" else f"**{found['ratio']:.2f}**"
    return f"{ratio}, {found['bytes'] / 1e6:.1f} MB"
