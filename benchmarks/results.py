"""Writes `benchmarks/RESULTS.md` from what the benchmarks have recorded: one JSON file beside each script, one section each.

    python benchmarks/results.py

A section is a function from the recorded document to lines of Markdown; one whose file is not there is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = HERE / "RESULTS.md"
_BNFOLD = "bnfold"


@dataclass(frozen=True)
class Section:
    """One part of the page.

    Attributes:
        title: its heading.
        recorded: the name of the JSON file.
        command: what measures it.
        lines: makes Markdown of what was recorded.
    """

    title: str
    recorded: str
    command: str
    lines: Callable[[dict[str, Any]], Iterable[str]]


# -- tool cost ------------------------------------------------------------------------------------------------------------


def tool_cost(document: dict[str, Any]) -> Iterator[str]:
    """Time and memory of folding a large file."""
    yield "Whole processes on a file whose pages are cached, against `cp` of the same bytes. The model is a chain of Conv (3 × 3,"
    yield "1024 channels) and BatchNormalization, all of which folds. A tool that leaves normalizations, or dies, has no time."
    yield ""
    yield from grid(["target", "allowed", "measured", "met"])
    for case in document["cases"]:
        yield from _cost_targets(case)
    for case in document["cases"]:
        cp = case["tools"]["cp"]
        yield ""
        yield f"**{case['name']}** ({case['bytes'] / 1e9:.2f} GB)"
        yield ""
        yield from grid(["tool", "time", "× cp", "processor time", "peak memory", "spread"])
        for tool, found in case["tools"].items():
            if "failure" in found:
                yield row([_bold(tool), found["failure"], "", "", f"{found['peak_mb']:,.0f} MB", ""])
                continue
            times = f"{found['wall_s'] / cp['wall_s']:.1f}"
            peak, spread = f"{found['peak_mb']:,.0f} MB", f"{found['spread']:.0%} of {found['runs']}"
            yield row([_bold(tool), f"{found['wall_s']:.2f} s", times, f"{found['cpu_s']:.2f} s", peak, spread])


def _cost_targets(case: dict[str, Any]) -> Iterator[str]:
    cp, ours, target = case["tools"]["cp"], case["tools"][_BNFOLD], case["target"]
    if "failure" in ours:
        yield row([case["name"], "", ours["failure"], "no"])
        return
    times = ours["wall_s"] / cp["wall_s"]
    yield row([f"{case['name']}: time", f"{target['times_of_cp']} × cp", f"{times:.2f} × cp", _met(times, target["times_of_cp"])])
    memory = f"{ours['peak_mb']:,.0f} MB"
    yield row([f"{case['name']}: memory", f"{target['peak_mb']} MB", memory, _met(ours["peak_mb"], target["peak_mb"])])


# -- scaling --------------------------------------------------------------------------------------------------------------

CHAIN_TARGET, NOTHING_TARGET, HELP_TARGET_S, TINY_TARGET = 6.0, 1.5, 0.1, 1.2


def scaling(document: dict[str, Any]) -> Iterator[str]:
    """Processor time of graphs of many nodes, and of starting."""
    yield "Whole processes; processor time where nodes are counted, time by the clock where starting is."
    yield ""
    yield from grid(["target", "allowed", "measured", "met"])
    yield from _scaling_targets(document)
    tools = list(dict.fromkeys(tool for case in document["graphs"] for tool in case["tools"]))
    yield ""
    yield from grid(["graph", "size", *map(_bold, tools)])
    for case in document["graphs"]:
        yield row([case["name"], f"{case['size']:,}", *(_cpu(case["tools"].get(tool)) for tool in tools)])
    yield ""
    yield from grid(["process", "time", "processor time"])
    for name, found in document["starting"].items():
        yield row([f"`{name}`", f"{1000 * found['wall_s']:.0f} ms", f"{1000 * found['cpu_s']:.0f} ms"])


def _scaling_targets(document: dict[str, Any]) -> Iterator[str]:
    for case in document["graphs"]:
        ours, both, load = (case["tools"][name].get("cpu_s") for name in (_BNFOLD, "onnx.load + onnx.save", "onnx.load"))
        name = f"{case['name']}, {case['size']:,}"
        if not ours:
            yield row([name, "", case["tools"][_BNFOLD]["failure"], "no"])
        elif case["name"] == "nothing to fold":
            yield row([name, f"{NOTHING_TARGET} × onnx.load", f"{ours / load:.2f} ×", _met(ours / load, NOTHING_TARGET)])
        elif case["name"].startswith("a chain"):
            yield row([name, f"{CHAIN_TARGET} × load + save", f"{ours / both:.1f} ×", _met(ours / both, CHAIN_TARGET)])
    started = document["starting"]
    bare, help_, load, tiny = (found["wall_s"] for found in started.values())
    yield row(["`bnfold --help`", f"{HELP_TARGET_S} s over python", f"{help_ - bare:.3f} s", _met(help_ - bare, HELP_TARGET_S)])
    yield row(["a tiny model", f"{TINY_TARGET} × import onnx", f"{tiny / load:.2f} ×", _met(tiny / load, TINY_TARGET)])


def _cpu(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    return found["failure"] if "failure" in found else f"{found['cpu_s']:.2f} s"


# -- inference ------------------------------------------------------------------------------------------------------------

IDEAL_TARGET, CREATION_TARGET = 1.02, 0.9
RAW_TARGETS = {"resnet18": 1.2, "mobilenet-v2": 2.0}
_IDEAL = "by hand"


def inference(document: dict[str, Any]) -> Iterator[str]:
    """Latency of the folded files in onnxruntime, relative to the original."""
    yield "Latency relative to the original file in the same session settings; below 1 is faster. All contestants of a row run"
    yield "interleaved, in blocks of fresh sessions. *Noise* is how far a second session of the original strays. **Bold**: a"
    yield "difference that all blocks agree on and that is above the noise. *By hand* is folded in PyTorch by torch.fx before"
    yield "the export. onnxruntime fuses a plain Conv and BatchNormalization itself at its default level: there a clean export"
    yield "is a tie."
    yield ""
    yield from grid(["target", "measured", "met"])
    yield from _inference_targets(document["cells"])
    tools = list(dict.fromkeys(tool for cell in document["cells"] for tool in cell["rows"] if tool != "original"))
    yield ""
    yield from grid(["network", "export", "optimizations", "threads", "batch", "original", "noise", *map(_bold, tools)])
    for cell in document["cells"]:
        facts = [cell["network"], cell["export"], cell["level"], str(cell["threads"]), str(cell["batch"])]
        original = f"{cell['rows']['original']['latency_ms']:.2f} ms"
        yield row([*facts, original, f"{cell['noise']:.1%}", *(_ratio(cell["rows"].get(tool)) for tool in tools)])
    yield ""
    yield "Processor time to create a session, relative to the original, and size of the file:"
    yield ""
    yield from grid(["network", "export", "optimizations", "original", *map(_bold, tools)])
    for cell in document["cells"]:
        if (cell["threads"], cell["batch"]) != (1, 1):
            continue
        first = cell["rows"]["original"]
        facts = [
            cell["network"],
            cell["export"],
            cell["level"],
            f"{first['creation_cpu_ms']:.0f} ms, {first['bytes'] / 1e6:.1f} MB",
        ]
        yield row([*facts, *(_creation(cell["rows"].get(tool)) for tool in tools)])


def _inference_targets(cells: list[dict[str, Any]]) -> Iterator[str]:
    ran = [cell for cell in cells if "ratio" in cell["rows"].get(_BNFOLD, {})]
    slower = [_where(cell) for cell in ran if cell["rows"][_BNFOLD]["claim"] == "slower"]
    yield row(["never slower than the original", _some(slower, len(ran)), "**no**" if slower else "yes"])
    pairs = [
        (cell, cell["rows"][_BNFOLD]["ratio"] / cell["rows"][_IDEAL]["ratio"])
        for cell in ran
        if "ratio" in cell["rows"].get(_IDEAL, {})
    ]
    behind = [f"{_where(cell)} ({ratio:.3f})" for cell, ratio in pairs if ratio > max(IDEAL_TARGET, 1 + cell["noise"])]
    yield row(
        [f"within {IDEAL_TARGET - 1:.0%} of by hand, or of the noise", _some(behind, len(pairs)), "**no**" if behind else "yes"]
    )
    for network, target in RAW_TARGETS.items():
        gains = [
            1 / cell["rows"][_BNFOLD]["ratio"]
            for cell in ran
            if cell["network"] == network and cell["export"] == "raw" and cell["level"] == "default"
        ]
        if gains:
            told = f"{min(gains):.2f} to {max(gains):.2f} ×"
            yield row([f"raw {network}: ≥ {target} × at the default level", told, "yes" if min(gains) >= target else "**no**"])
    slow = [
        f"{_where(cell)} ({cell['rows'][_BNFOLD]['creation_ratio']:.2f})"
        for cell in ran
        if cell["rows"][_BNFOLD]["creation_ratio"] > CREATION_TARGET
    ]
    yield row([f"session creation ≤ {CREATION_TARGET} × processor time", _some(slow, len(ran)), "**no**" if slow else "yes"])


def _where(cell: dict[str, Any]) -> str:
    return f"{cell['network']} {cell['export']} {cell['level']} {cell['threads']}×{cell['batch']}"


def _some(missed: list[str], total: int) -> str:
    shown = "; ".join(missed[:4]) + (f"; {len(missed) - 4} more" if len(missed) > 4 else "")
    return f"{total - len(missed)} of {total}" + (f"; not {shown}" if missed else "")


def _ratio(found: dict[str, Any] | None) -> str:
    if found is None or "failure" in found:
        return "failed"
    told = f"{found['ratio']:.3f}"
    return told if found["claim"] == "none" else f"**{told}**"


def _creation(found: dict[str, Any] | None) -> str:
    return "failed" if found is None or "failure" in found else f"{found['creation_ratio']:.2f}, {found['bytes'] / 1e6:.1f} MB"


# -- numerical error ------------------------------------------------------------------------------------------------------


def numerical(document: dict[str, Any]) -> Iterator[str]:
    """Errors of parameters and outputs against float64."""
    yield "Outputs: the largest error against the float64 truth of the unfolded file, relative to the largest true value, with"
    yield "onnxruntime's optimizations disabled. Weights: the largest distance from the exact fold, in units in the last place"
    yield "(half a unit is the best there is). A tool that leaves the normalizations has no folded weights."
    yield ""
    tools = list(dict.fromkeys(tool for case in document["rows"] for tool in case["rows"]))
    yield from grid(["network", "type", "", *map(_bold, tools)])
    for case in document["rows"]:
        if "failure" in case:
            yield row([case["network"], case["export"], case["failure"]])
            continue
        kind = "float32" if case["export"] == "clean" else case["export"]
        yield row(
            [case["network"], kind, "output error", *(_figure(case["rows"].get(tool), "error_max", ".1e") for tool in tools)]
        )
        yield row(["", "", "weights, ulp", *(_figure(case["rows"].get(tool), "ulp_max", ".2f") for tool in tools)])


def _figure(found: dict[str, Any] | None, key: str, form: str) -> str:
    if found is None or "failure" in found:
        return "failed"
    return "" if found[key] is None else format(found[key], form)


# -- the page -------------------------------------------------------------------------------------------------------------

SECTIONS = (
    Section("Tool cost", "tool_cost.json", "python benchmarks/run.py --only tool-cost", tool_cost),
    Section("Scaling", "scaling.json", "python benchmarks/run.py --only scaling", scaling),
    Section("Inference", "inference.json", "python benchmarks/run.py --only inference", inference),
    Section("Numerical error", "numerical.json", "python benchmarks/run.py --only numerical", numerical),
)


def grid(titles: list[str]) -> Iterator[str]:
    """The head of a table: the first column to the left, the others to the right."""
    yield row(titles)
    yield row(["---", *("--:" for _ in titles[1:])])


def row(cells: Iterable[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _bold(tool: str) -> str:
    return f"**{tool}**" if tool == _BNFOLD else tool


def _met(value: float, limit: float) -> str:
    return "yes" if value <= limit else "**no**"


def page() -> str:
    """The page as Markdown."""
    lines = ["# Results", "", "Written by `python benchmarks/run.py`; how each is measured stands in its script.", ""]
    for section in SECTIONS:
        recorded = HERE / section.recorded
        if not recorded.exists():
            continue
        document = json.loads(recorded.read_text("utf-8"))
        versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
        where = f"{document['date']}, {document['machine']}, Python {document['python']}, {versions}"
        size = "; small models (`--quick`), so the targets say little" if document.get("quick") else ""
        lines += [f"## {section.title}", "", f"`{section.command}`: {where}{size}.", "", *section.lines(document), ""]
    return "\n".join(lines)


def write() -> None:
    """Writes the page."""
    PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    write()
