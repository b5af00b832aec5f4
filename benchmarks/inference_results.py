"""The sections of onnxruntime's sessions: inference and session creation."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks import cells as order
from benchmarks.markdown import BNFOLD, Target, bold, failed, footnotes, grid, row

IDEAL_TARGET, CREATION_TARGET = 1.02, 0.9
RAW_TARGETS = {"resnet18": 1.2, "mobilenet-v2": 2.0}
IDEAL = "by hand"


def inference(document: dict[str, Any]) -> Iterator[str]:
    """Latency of the folded files in onnxruntime, relative to the original."""
    cells = _measured(document)
    noise, blocks, runs = ([cell[key] for cell in cells] for key in ("noise", "blocks", "runs"))
    yield "Latency relative to the original file in the same session settings; below 1 is faster. All contestants of a row run"
    yield "interleaved, in blocks of fresh sessions. **Bold**: a difference that all blocks agree on and that is above the noise;"
    yield "nothing is claimed of the others. *By hand* is folded in PyTorch by torch.fx before the export. *Raw* is what"
    yield "`torch.onnx.export(optimize=False)` writes; in *inputs* the weights are graph inputs as well, which a caller may"
    yield "override: bnfold folds them only with `--freeze-initializers`, which it is given here."
    yield ""
    yield from _ties(cells)
    yield f"*Noise* is how far a second session of the original strays: {statistics.median(noise):.1%} in the middle and"
    yield f"{max(noise):.1%} at most, from {_span(blocks)} blocks of {_span(runs)} runs at least."
    yield from _missing(document)
    tools, notes = _tools(cells), list[str]()
    yield ""
    yield "Geometric means over the cells in which a tool's file runs, and in how many it is faster or slower beyond the noise:"
    yield ""
    yield from grid(["export", "optimizations", "cells", *map(bold, tools)], words=2)
    for (export, level), some in _groups(cells):
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
    ran = _ours(document)
    slower = {_where(cell): cell["rows"][BNFOLD]["ratio"] for cell in ran if cell["rows"][BNFOLD]["claim"] == "slower"}
    yield Target("not slower than the original, beyond the noise", "all cells", _some(slower, len(ran)), not slower)
    pairs = [
        (cell, cell["rows"][BNFOLD]["ratio"] / cell["rows"][IDEAL]["ratio"]) for cell in ran if "ratio" in cell["rows"][IDEAL]
    ]
    behind = {_where(cell): ratio for cell, ratio in pairs if ratio > max(IDEAL_TARGET, 1 + cell["noise"])}
    work = f"within {IDEAL_TARGET - 1:.0%} of folding by hand, or the noise"
    yield Target(work, "all cells", _some(behind, len(pairs)), not behind)
    for network, target in RAW_TARGETS.items():
        raw = [cell for cell in ran if (cell["network"], cell["export"], cell["level"]) == (network, "raw", "default")]
        gains = [1 / cell["rows"][BNFOLD]["ratio"] for cell in raw]
        if gains:
            told = f"{min(gains):.2f} to {max(gains):.2f} ×"
            yield Target(f"raw {network}, default level", f"≥ {target} × as fast", told, min(gains) >= target)


def creation(document: dict[str, Any]) -> Iterator[str]:
    """Processor time to create a session, and the size of the file."""
    cells = _created(_measured(document))
    noise = [cell["creation_noise"] for cell in cells]
    yield "Processor time to create a session with one thread, relative to the original, and the size of the file."
    yield f"*Noise:* a second session of the original takes {statistics.median(noise):.1%} more or less in the middle, and"
    yield f"{max(noise):.1%} at most."
    pairs = [(cell["rows"][BNFOLD], cell["rows"][IDEAL]) for cell in cells]
    ratios = [ours["creation_ratio"] / ideal["creation_ratio"] for ours, ideal in pairs if "ratio" in ours and "ratio" in ideal]
    if ratios:
        yield ""
        yield "A session of a folded file can take longer than that of the original: onnxruntime stores constant weights anew for"
        yield "its blocked convolutions (`com.microsoft.nchwc`), which computed or overridable ones keep it from. So *by hand* is"
        yield f"what to compare with: bnfold's sessions take {statistics.median(ratios):.2f} × that in the middle."
    tools, notes = _tools(cells), list[str]()
    yield ""
    yield "Geometric means over the networks whose file runs, and in how many of them it takes at most"
    yield f"{CREATION_TARGET} × the original's time:"
    yield ""
    yield from grid(["export", "optimizations", "cells", *map(bold, tools)], words=2)
    for (export, level), some in _groups(cells):
        yield row([export, level, str(len(some)), *(_overall_creation(some, tool) for tool in tools)])
    yield ""
    yield "<details><summary>Every network</summary>"
    yield ""
    yield from grid(["network", "export", "optimizations", "original", *map(bold, tools)], words=3)
    for cell in cells:
        first = cell["rows"]["original"]
        original = f"{first['creation_cpu_ms']:.0f} ms, {first['bytes'] / 1e6:.1f} MB"
        facts = (cell["network"], cell["export"], cell["level"], original)
        yield row([*facts, *(_creation(cell["rows"][tool], notes) for tool in tools)])
    yield from footnotes(notes)
    yield ""
    yield "</details>"


def creation_targets(document: dict[str, Any]) -> Iterator[Target]:
    """Sessions of folded files are created faster."""
    pairs = [(cell, cell["rows"][BNFOLD]["creation_ratio"]) for cell in _created(_ours(document))]
    slow = {_where(cell): ratio for cell, ratio in pairs if ratio > CREATION_TARGET}
    yield Target(f"≤ {CREATION_TARGET} × the original's processor time", "all cells", _some(slow, len(pairs)), not slow)


def _ties(cells: list[dict[str, Any]]) -> Iterator[str]:
    """What onnxruntime does by itself, and how often that leaves nothing to gain."""
    plain = [cell["rows"][BNFOLD] for cell in cells if (cell["export"], cell["level"]) == ("clean", "default")]
    ties = sum(found.get("claim") == "none" for found in plain)
    if plain:
        yield "**onnxruntime itself fuses a plain Conv and BatchNormalization at its default level**: of the clean exports there,"
        yield f"{ties} of {len(plain)} cells are a tie between bnfold and the original."
        yield ""


def _measured(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells in which the original runs."""
    return [cell for cell in document["cells"] if "failure" not in cell]


def _created(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One cell of each file and level: a session is the same whatever it is fed."""
    return [cell for cell in cells if (cell["threads"], cell["batch"]) == order.RUNS[0]]


def _ours(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in _measured(document) if "ratio" in cell["rows"][BNFOLD]]


def _groups(cells: list[dict[str, Any]]) -> Iterator[tuple[tuple[str, str], list[dict[str, Any]]]]:
    """The cells of each export and level."""
    for export, level in dict.fromkeys((cell["export"], cell["level"]) for cell in cells):
        yield (export, level), [cell for cell in cells if (cell["export"], cell["level"]) == (export, level)]


def _tools(cells: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(tool for cell in cells for tool in cell["rows"] if tool != "original"))


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
    met = {(cell["threads"], cell["batch"]) for cell in cells}
    runs = [run for run in order.RUNS if run in met]
    if len(runs) < 2:
        return
    yield ""
    yield "bnfold's files alone, by threads and batch:"
    yield ""
    yield from grid(["export", "optimizations", *(_setting(*run) for run in runs)], words=2)
    for (export, level), some in _groups(cells):
        parts = [[cell for cell in some if (cell["threads"], cell["batch"]) == run] for run in runs]
        yield row([export, level, *(_overall(part, BNFOLD) + f" of {len(part)}" if part else "" for part in parts)])


def _setting(threads: int, batch: int) -> str:
    return f"{threads} {'thread' if threads == 1 else 'threads'}, batch {batch}"


def _span(counts: Iterable[int]) -> str:
    known = sorted(set(counts))
    return str(known[0]) if len(known) == 1 else f"{known[0]} to {known[-1]}"


def _where(cell: dict[str, Any]) -> str:
    return f"{cell['network']} {cell['export']} {cell['level']} {cell['threads']}×{cell['batch']}"


def _some(missed: dict[str, float], total: int) -> str:
    """In how many cells a target is met, and the worst of those in which it is not."""
    worst = sorted(missed, key=lambda where: -missed[where])
    shown = "; ".join(f"{where} ({missed[where]:.3f})" for where in worst[:4])
    more = f"; {len(worst) - 4} more" if len(worst) > 4 else ""
    return f"{total - len(missed)} of {total} cells" + (f"; not {shown}{more}" if missed else "")


def _overall(cells: list[dict[str, Any]], tool: str) -> str:
    rows = _running(cells, tool)
    if not rows:
        return "failed"
    claims = Counter(found["claim"] for found in rows)
    lost = f", {len(cells) - len(rows)} failed" if len(rows) < len(cells) else ""
    return f"{geometric_mean(rows, 'ratio'):.3f} ({claims['faster']} faster, {claims['slower']} slower{lost})"


def _overall_creation(cells: list[dict[str, Any]], tool: str) -> str:
    rows = _running(cells, tool)
    if not rows:
        return "failed"
    faster = sum(found["creation_ratio"] <= CREATION_TARGET for found in rows)
    return f"{geometric_mean(rows, 'creation_ratio'):.2f} ({faster} of {len(rows)})"


def _running(cells: list[dict[str, Any]], tool: str) -> list[dict[str, Any]]:
    return [cell["rows"][tool] for cell in cells if "ratio" in cell["rows"][tool]]


def geometric_mean(rows: list[dict[str, Any]], value: str) -> float:
    """Of one value of some contestants that run, at least one."""
    return math.exp(statistics.fmean(math.log(found[value]) for found in rows))


def _latency(found: dict[str, Any], notes: list[str]) -> str:
    if "failure" in found:
        return failed(found["failure"], notes)
    return f"{found['ratio']:.3f}" if found["claim"] == "none" else f"**{found['ratio']:.3f}**"


def _creation(found: dict[str, Any], notes: list[str]) -> str:
    if "failure" in found:
        return failed(found["failure"], notes)
    return f"{found['creation_ratio']:.2f}, {found['bytes'] / 1e6:.1f} MB"
