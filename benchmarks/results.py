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


# -- the page -------------------------------------------------------------------------------------------------------------

SECTIONS = (
    Section("Tool cost", "tool_cost.json", "python benchmarks/run.py --only tool-cost", tool_cost),
    Section("Scaling", "scaling.json", "python benchmarks/run.py --only scaling", scaling),
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
