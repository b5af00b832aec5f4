"""The plots of the page of results: one function for each, from the recorded document to a figure of matplotlib.

bnfold is blue and drawn last. The colours are those of Okabe and Ito, which colour-blind people can tell apart, and every tool
has a marker of its own besides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, StrMethodFormatter

from benchmarks import cells as order
from benchmarks.cells import IDEAL
from benchmarks.creation_results import TARGET as CREATION_TARGET
from benchmarks.inference_results import RAW_TARGETS
from benchmarks.markdown import BNFOLD
from benchmarks.numerical_results import type_of
from benchmarks.processes import CONTROL
from benchmarks.session_cells import measured
from models.pictures import save, style

WIDTH = 9.6
GREY, BAND = "#767676", "#D9D9D9"
LOOKS = {
    "cp": (GREY, "s"),
    "onnx.load": (GREY, "d"),
    "onnx.load + onnx.save": (GREY, "D"),
    "onnxruntime": ("#000000", "v"),
    "onnxsim": ("#E69F00", "^"),
    "onnxslim": ("#D55E00", "s"),
    "onnxoptimizer": ("#009E73", "D"),
    "onnxscript": ("#CC79A7", "P"),
    IDEAL: ("#56B4E9", "X"),
    BNFOLD: ("#0072B2", "o"),
}
"""Tool → colour and marker, in the order in which they are drawn."""


def draw(name: str, document: dict[str, Any], path: Path, description: str) -> None:
    """Writes one plot, by its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with style():
        save(PLOTS[name](document), path, description)


# -- whole processes ------------------------------------------------------------------------------------------------------


def tool_cost(document: dict[str, Any]) -> Figure:
    """A row for each file: time to the left, memory to the right."""
    cases = document["cases"]
    figure = Figure(figsize=(WIDTH, 0.7 + 1.75 * len(cases)), layout="constrained")
    panels = figure.subplots(len(cases), 2, sharex="col", squeeze=False)
    for case, (time, memory) in zip(cases, panels, strict=True):
        tools = {tool: found for tool, found in case["tools"].items() if tool != CONTROL}
        limit_s = case["target"]["times_of_cp"] * tools["cp"]["wall_s"]
        _dots(time, {tool: (found.get("wall_s"), found.get("failure", "")) for tool, found in tools.items()}, "{:.2f} s")
        _dots(memory, {tool: (found["peak_mb"], found.get("failure", "")) for tool, found in tools.items()}, "{:,.0f} MB")
        for axes, limit in ((time, limit_s), (memory, case["target"]["peak_mb"])):
            axes.axvline(limit, color=LOOKS[BNFOLD][0], linestyle="--", linewidth=1)
        time.set_title(f"{case['name']} ({case['bytes'] / 1e9:.2f} GB); target {case['target']['times_of_cp']} × cp", fontsize=9)
        memory.set_title(f"target {case['target']['peak_mb']:.0f} MB", fontsize=9)
        memory.set_yticklabels([])
    panels[-1][0].set_xlabel("time of the whole process, s")
    panels[-1][1].set_xlabel("peak memory, MB")
    for axes in panels[-1]:
        low, high = axes.get_xlim()
        axes.set_xlim(low, high * 6)  # room for the figures
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    return figure


def _dots(axes: Axes, found: dict[str, tuple[float | None, str]], form: str) -> None:
    """A line for each tool, with its value; where it has none, why. What a tool took that failed is hollow."""
    axes.set_xscale("log")
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
    aside = {"textcoords": "offset points", "va": "center", "fontsize": 8, "bbox": ground}
    for place, (tool, (value, failure)) in enumerate(found.items()):
        colour, marker = LOOKS[tool]
        if value is None:
            why = re.sub(r"^[\w.]+\.(\w+:)", r"\1", failure)  # without the module of an exception
            axes.annotate(f"failed: {why[:48]}", (0, place), (6, 0), xycoords=("axes fraction", "data"), **aside)
            continue
        axes.plot([value], [place], marker=marker, color=colour, markersize=6, markerfacecolor="white" if failure else colour)
        label = form.format(value) + (", failed" if failure else "")
        axes.annotate(label, (value, place), (7, 0), fontweight="bold" if tool == BNFOLD else "normal", **aside)
    axes.set_yticks(range(len(found)), list(found))
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)


def scaling(document: dict[str, Any]) -> Figure:
    """Chains to the left, by tool; shared tensors to the right."""
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    chains, shared = figure.subplots(1, 2, width_ratios=(1.5, 1), sharey=True)
    cases = _named(document, "a chain of Conv and BatchNormalization")
    for tool in (tool for tool in LOOKS if tool in cases[0]["tools"]):
        _growth(chains, tool, cases, tool)
    _linear(chains, cases)
    chains.set(title="a chain of Conv and BatchNormalization", xlabel="nodes", ylabel="processor time of the whole process, s")
    for name, line in (("one weight, many Conv", "-"), ("one tensor, many Conv", ":")):
        for tool in ("onnx.load + onnx.save", BNFOLD):
            _growth(shared, tool, _named(document, name), f"{tool}: {name.partition(',')[0]}", line)
    shared.set(title="one tensor that many Conv read", xlabel="Conv")
    for axes, some in ((chains, cases), (shared, _named(document, "one weight, many Conv"))):
        axes.xaxis.set_major_locator(FixedLocator([case["size"] for case in some]))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.3)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize=8, frameon=False)
    return figure


def _named(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [case for case in document["graphs"] if case["name"] == name]


def _growth(axes: Axes, tool: str, cases: list[dict[str, Any]], label: str, line: str = "-") -> None:
    """The line of one tool, up to a cross where it fails for the first time; a time that was too long is in the plot as such."""
    colour, marker = LOOKS[tool]
    runs = [(case["size"], case["tools"][tool]) for case in cases if tool in case["tools"]]  # peers take no part in the largest
    points = [(size, found["cpu_s"]) for size, found in runs if "cpu_s" in found]
    failed = next(((size, found["failure"]) for size, found in runs if "failure" in found), None)
    if failed is not None:
        size, why = failed
        label = f"{tool}: at {size:,} {why.partition(':')[0]} (✕)"
        too_long = re.match(r"more than (\d+) s", why)
        seconds = float(too_long[1]) if too_long else points[-1][1] if points else 1.0
        axes.plot(*zip(*points[-1:], (size, seconds), strict=True), ":", color=colour, linewidth=1.2)
        axes.annotate("✕", (size, seconds), color=colour, ha="center", va="center", fontsize=11)
    width = 2.5 if tool == BNFOLD else 1.2
    axes.loglog([x for x, _ in points], [y for _, y in points], line, color=colour, marker=marker, linewidth=width, label=label)


def _linear(axes: Axes, cases: list[dict[str, Any]]) -> None:
    """How steep linear growth is, below the last stretch of bnfold's line."""
    known = [(case["size"], case["tools"][BNFOLD]["cpu_s"]) for case in cases if "cpu_s" in case["tools"][BNFOLD]]
    if len(known) < 2:
        return
    (before, _), (size, seconds) = known[-2:]
    low, high = 0.7 * seconds * before / size, 0.7 * seconds
    axes.plot([before, size], [low, high], "--", color=GREY, linewidth=1, label="linear growth")


# -- sessions -------------------------------------------------------------------------------------------------------------


def inference(document: dict[str, Any]) -> Figure:
    """Latency, with the targets of raw exports."""
    cells = [cell for cell in measured(document) if (cell["threads"], cell["batch"]) == order.RUNS[0]]
    figure, panels = _sessions(cells, "latency relative to the original, one thread, batch 1")
    raw = panels.get(("default", "raw"))
    if raw is not None:
        axes, networks = raw
        for network, target in RAW_TARGETS.items():
            if network in networks:
                place = networks.index(network)
                axes.plot([1 / target] * 2, [place - 0.45, place + 0.45], color=LOOKS[BNFOLD][0], linestyle="--", linewidth=1.2)
    return figure


def session_creation(document: dict[str, Any]) -> Figure:
    """Processor time of creating a session, with its target."""
    figure, panels = _sessions(measured(document), "processor time relative to the original")
    for axes, _ in panels.values():
        axes.axvline(CREATION_TARGET, color=LOOKS[BNFOLD][0], linestyle="--", linewidth=1)
    return figure


def _sessions(cells: list[dict[str, Any]], label: str) -> tuple[Figure, dict[tuple[str, str], tuple[Axes, list[str]]]]:
    """A row for each level, a column for each export, a line for each network."""
    networks = list(dict.fromkeys(cell["network"] for cell in cells))
    exports = list(dict.fromkeys(cell["export"] for cell in cells))
    tools = [tool for tool in LOOKS if tool in cells[0]["rows"]]
    figure = Figure(figsize=(WIDTH, 1.2 + 2 * (0.5 + 0.25 * len(networks))), layout="constrained")
    grid = figure.subplots(len(order.LEVELS), len(exports), sharex=True, sharey=True, squeeze=False)
    panels = {}
    for level, line in zip(order.LEVELS, grid, strict=True):
        for export, axes in zip(exports, line, strict=True):
            some = [cell for cell in cells if (cell["level"], cell["export"]) == (level, export)]
            _ratios(axes, some, networks, tools)
            axes.set_title(f"{export}, {'default level' if level == 'default' else 'optimizations disabled'}", fontsize=9)
            panels[level, export] = (axes, networks)
    grid[0][0].set_ylim(len(networks) - 0.5, -0.5)
    figure.supxlabel(label, fontsize=9)
    _legend(figure, tools, [Line2D([], [], color=BAND, linewidth=8, label="noise"), _line("target")])
    return figure, panels


def _ratios(axes: Axes, cells: list[dict[str, Any]], networks: list[str], tools: list[str]) -> None:
    axes.set_xscale("log")
    axes.axvline(1, color=GREY, linewidth=1)
    for cell in cells:
        place, band = networks.index(cell["network"]), min(cell["noise"], 0.9)
        axes.barh(place, 2 * band, left=1 - band, height=0.9, color=BAND, zorder=0)
        _points(axes, place, {tool: cell["rows"][tool].get("ratio") for tool in tools})
    axes.set_yticks(range(len(networks)), networks)
    axes.xaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.grid(axis="x", alpha=0.3)


def _points(axes: Axes, place: int, values: dict[str, float | None]) -> None:
    """The values of one line: bnfold in its middle and larger, the others a little above or below, so that equal ones show."""
    others = [tool for tool in values if tool != BNFOLD]
    for tool, value in values.items():
        colour, marker = LOOKS[tool]
        if value is not None:
            lift = 0.0 if tool == BNFOLD else 0.6 * (others.index(tool) / max(len(others) - 1, 1) - 0.5)
            axes.plot([value], [place + lift], marker=marker, color=colour, markersize=6.5 if tool == BNFOLD else 4)


def _legend(figure: Figure, tools: Iterable[str], more: list[Line2D]) -> None:
    looks = {tool: {"color": LOOKS[tool][0], "marker": LOOKS[tool][1]} for tool in tools}
    points = [
        Line2D([], [], linestyle="none", label=tool, markersize=6.5 if tool == BNFOLD else 5, **looks[tool]) for tool in looks
    ]
    handles = [*reversed(points), *more]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=8, frameon=False, columnspacing=1.2)


def _line(label: str) -> Line2D:
    """How a target is drawn."""
    return Line2D([], [], color=LOOKS[BNFOLD][0], linestyle="--", linewidth=1.2, label=label)


# -- numerical error ------------------------------------------------------------------------------------------------------


def numerical(document: dict[str, Any]) -> Figure:
    """Units in the last place: a column for each type, a line for each network."""
    rows = [case for case in document["rows"] if any(found.get("ulp_max") for found in case["rows"].values())]
    networks = list(dict.fromkeys(case["network"] for case in rows))
    types = list(dict.fromkeys(map(type_of, rows)))
    tools = [tool for tool in LOOKS if any(case["rows"].get(tool, {}).get("ulp_max") for case in rows)]
    figure = Figure(figsize=(WIDTH, 1.2 + 0.27 * len(networks)), layout="constrained")
    (line,) = figure.subplots(1, len(types), sharey=True, sharex=True, squeeze=False)
    for kind, axes in zip(types, line, strict=True):
        axes.axvline(0.5, color=LOOKS[BNFOLD][0], linestyle="--", linewidth=1)
        for case in rows:
            if type_of(case) == kind:
                found = {tool: case["rows"][tool].get("ulp_max") or None for tool in tools}  # nothing folded, nothing to draw
                _points(axes, networks.index(case["network"]), found)
        axes.set(title=kind, xlim=(0, None))
        axes.set_yticks(range(len(networks)), networks)
        axes.grid(axis="x", alpha=0.3)
    line[0].set_ylim(len(networks) - 0.5, -0.5)
    figure.supxlabel("largest distance of a folded weight from the exact one, units in the last place", fontsize=9)
    _legend(figure, tools, [_line("the best there is")])
    return figure


PLOTS: dict[str, Callable[[dict[str, Any]], Figure]] = {
    "tool_cost": tool_cost,
    "scaling": scaling,
    "inference": inference,
    "session_creation": session_creation,
    "numerical": numerical,
}
