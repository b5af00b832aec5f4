"""The section of inference."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks import cells as order
from benchmarks.cells import IDEAL
from benchmarks.markdown import BNFOLD, Target, bold, failed, footnotes, grid, row
from benchmarks.session_cells import by_export, folded, geometric_mean, measured, met, running, tools_in

IDEAL_TARGET = 1.02
NOISY = 0.1
RAW_TARGETS = {"resnet18": 1.2, "mobilenet-v2": 2.0}


def inference(document: dict[str, Any]) -> Iterator[str]:
    """Latency of the folded files in onnxruntime, relative to the original."""
    cells = measured(document)
    noise, blocks, runs = ([cell[key] for cell in cells] for key in ("noise", "blocks", "runs"))
    yield "Latency relative to the original file in the same session settings; below 1 is faster. All contestants of a row run"
    yield "interleaved, in blocks of fresh sessions. **Bold**: a difference that all blocks agree on and that is above the noise;"
    yield "nothing is claimed of the others. *By hand* is folded in PyTorch by torch.fx before the export. *Raw* is what"
    yield "`torch.onnx.export(optimize=False)` writes; in *inputs* the weights are graph inputs as well, which a caller may"
    yield "override: bnfold folds them only with `--freeze-initializers`, which it is given here."
    yield ""
    yield from _ties(cells)
    yield f"*Noise* is how far a second session of the original strays: {statistics.median(noise):.1%} in the middle, more than"
    yield f"{NOISY:.0%} in {sum(each > NOISY for each in noise)} cells, which say little, and {max(noise):.1%} at most, from"
    yield f"{_span(blocks)} blocks of {_span(runs)} runs at least."
    yield from _missing(document)
    tools, notes = tools_in(cells), list[str]()
    yield ""
    yield "Geometric means over the cells in which a tool's file runs, and in how many it is faster or slower beyond the noise:"
    yield ""
    yield from grid(["export", "optimizations", "cells", *map(bold, tools)], words=2)
    for (export, level), some in by_export(cells):
        yield row([export, level, str(len(some)), *(_overall(some, tool) for tool in tools)])
    yield from _settings(cells)
    yield ""
    yield "<details><summary>Every cell</summary>"
    yield ""
    yield from grid(["network", "export", "optimizations", "threads", "batch", "original", "noise", *map(bold, tools)], words=3)
    for cell in document["cells"]:
        facts = [cell["network"], cell["export"], cell["level"], str(cell["threads"]), str(cell["batch"])]
        if "failure" in cell:
            yield row([*facts, failed(cell["failure"], notes), "", *("" for _ in tools)])
            continue
        original = f"{cell['rows']['original']['latency_ms']:.2f} ms"
        yield row([*facts, original, f"{cell['noise']:.1%}", *(_latency(cell["rows"][tool], notes) for tool in tools)])
    yield from footnotes(notes)
    yield ""
    yield "</details>"


def inference_targets(document: dict[str, Any]) -> Iterator[Target]:
    """Never slower, near to the ideal, and faster on raw exports."""
    ran = folded(document)
    slower = {_where(cell): cell["rows"][BNFOLD]["ratio"] for cell in ran if cell["rows"][BNFOLD]["claim"] == "slower"}
    yield Target("not slower than the original, beyond the noise", "all cells", met(slower, len(ran)), not slower)
    pairs = [
        (cell, cell["rows"][BNFOLD]["ratio"] / cell["rows"][IDEAL]["ratio"]) for cell in ran if "ratio" in cell["rows"][IDEAL]
    ]
    behind = {_where(cell): ratio for cell, ratio in pairs if ratio > max(IDEAL_TARGET, 1 + cell["noise"])}
    work = f"within {IDEAL_TARGET - 1:.0%} of folding by hand, or the noise"
    yield Target(work, "all cells", met(behind, len(pairs)), not behind)
    for network, target in RAW_TARGETS.items():
        raw = [cell for cell in ran if (cell["network"], cell["export"], cell["level"]) == (network, "raw", "default")]
        gains = [1 / cell["rows"][BNFOLD]["ratio"] for cell in raw]
        if gains:
            told = f"{min(gains):.2f} to {max(gains):.2f} ×"
            yield Target(f"raw {network}, default level", f"≥ {target} × as fast", told, min(gains) >= target)


def _ties(cells: list[dict[str, Any]]) -> Iterator[str]:
    """What onnxruntime does by itself, and how often that leaves nothing to gain."""
    plain = [cell["rows"][BNFOLD] for cell in cells if (cell["export"], cell["level"]) == ("clean", "default")]
    ties = sum(found.get("claim") == "none" for found in plain)
    if plain:
        yield "**onnxruntime itself fuses a plain Conv and BatchNormalization at its default level**: of the clean exports there,"
        yield f"{ties} of {len(plain)} cells are a tie between bnfold and the original."
        yield ""


def _missing(document: dict[str, Any]) -> Iterator[str]:
    """What was planned and not measured, in words."""
    planned = order.planned(**document["planned"])
    done = {order.of(cell) for cell in document["cells"]}
    left = [cell for cell in planned if cell not in done]
    yield ""
    if not left:
        yield f"All {len(planned)} cells were measured."
        return
    yield f"**Not measured: {len(left)} of {len(planned)} cells.**"
    yield ""
    whole = Counter((cell.threads, cell.batch, cell.network) for cell in planned)
    for (threads, batch), some in itertools.groupby(sorted(left, key=lambda cell: cell[3:]), key=lambda cell: cell[3:]):
        counts = Counter(cell.network for cell in some)
        names = [
            name if count == whole[threads, batch, name] else f"{name} ({count} of {whole[threads, batch, name]})"
            for name, count in counts.items()
        ]
        yield f"* {_setting(threads, batch)}: {', '.join(names)}"


def _settings(cells: list[dict[str, Any]]) -> Iterator[str]:
    """bnfold's part of the table before, by threads and batch, where there are several."""
    known = {(cell["threads"], cell["batch"]) for cell in cells}
    runs = [run for run in order.RUNS if run in known]
    if len(runs) < 2:
        return
    yield ""
    yield "bnfold's files alone, by threads and batch:"
    yield ""
    yield from grid(["export", "optimizations", *(_setting(*run) for run in runs)], words=2)
    for (export, level), some in by_export(cells):
        parts = [[cell for cell in some if (cell["threads"], cell["batch"]) == run] for run in runs]
        yield row([export, level, *(_overall(part, BNFOLD) + f" of {len(part)}" if part else "" for part in parts)])


def _setting(threads: int, batch: int) -> str:
    return f"{threads} {'thread' if threads == 1 else 'threads'}, batch {batch}"


def _span(counts: Iterable[int]) -> str:
    known = sorted(set(counts))
    return str(known[0]) if len(known) == 1 else f"{known[0]} to {known[-1]}"


def _where(cell: dict[str, Any]) -> str:
    return f"{cell['network']} {cell['export']} {cell['level']} {cell['threads']}×{cell['batch']}"


def _overall(cells: list[dict[str, Any]], tool: str) -> str:
    rows = running(cells, tool)
    if not rows:
        return "failed"
    claims = Counter(found["claim"] for found in rows)
    lost = f", {len(cells) - len(rows)} failed" if len(rows) < len(cells) else ""
    return f"{geometric_mean(rows, 'ratio'):.3f} ({claims['faster']} faster, {claims['slower']} slower{lost})"


def _latency(found: dict[str, Any], notes: list[str]) -> str:
    if "failure" in found:
        return failed(found["failure"], notes)
    return f"{found['ratio']:.3f}" if found["claim"] == "none" else f"**{found['ratio']:.3f}**"
