"""The sections of whole processes: tool cost, verification and scaling."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.markdown import BNFOLD, Target, bold, failed, footnotes, grid, row
from benchmarks.processes import CONTROL

GROWTH_TARGET = 1.1
CHAIN_TARGET, NOTHING_TARGET, HELP_TARGET_S, TINY_TARGET = 6.0, 1.5, 0.1, 1.2
LINEAR_TARGET = 1.25
TINY = "bnfold optimize, a tiny model"


# -- tool cost ------------------------------------------------------------------------------------------------------------


def tool_cost(document: dict[str, Any]) -> Iterator[str]:
    """Time and memory of folding a large file."""
    yield "Whole processes on a file whose pages are cached, against `cp` of the same bytes. The model is a chain of Conv (3 × 3,"
    yield "1024 channels) and BatchNormalization, all of which folds. A tool that leaves normalizations, or dies, has no time."
    yield from _noise((case["tools"] for case in document["cases"]), "wall_s", "spread")
    notes: list[str] = []
    for case in document["cases"]:
        cp = case["tools"]["cp"]
        yield ""
        yield f"**{case['name']}** ({case['bytes'] / 1e9:.2f} GB)"
        yield ""
        yield from grid(["tool", "time", "× cp", "processor time", "peak memory", "spread"])
        for tool, found in case["tools"].items():
            if "failure" in found:
                yield row([bold(tool), failed(found["failure"], notes), "", "", f"{found['peak_mb']:,.0f} MB", ""])
                continue
            times = f"{found['wall_s'] / cp['wall_s']:.1f}"
            peak, spread = f"{found['peak_mb']:,.0f} MB", _strayed(found)
            yield row([bold(tool), f"{found['wall_s']:.2f} s", times, f"{found['cpu_s']:.2f} s", peak, spread])
    yield from footnotes(notes)


def tool_cost_targets(document: dict[str, Any]) -> Iterator[Target]:
    """Time and memory of each file, and that memory does not grow from the first to the second."""
    peaks = []
    for case in document["cases"]:
        cp, ours, target = case["tools"]["cp"], case["tools"][BNFOLD], case["target"]
        if "failure" in ours:
            yield Target(case["name"], "", ours["failure"], False)
            continue
        peaks.append(ours["peak_mb"])
        times, limit = ours["wall_s"] / cp["wall_s"], target["times_of_cp"]
        yield Target(f"{case['name']}: time", f"{limit} × cp", f"{times:.2f} × cp", times <= limit)
        limit = target["peak_mb"]
        yield Target(f"{case['name']}: memory", f"{limit} MB", f"{ours['peak_mb']:,.0f} MB", ours["peak_mb"] <= limit)
    if len(peaks) > 1:
        growth = peaks[1] / peaks[0]
        yield Target("memory, three times the file", f"{GROWTH_TARGET} ×", f"{growth:.2f} ×", growth <= GROWTH_TARGET)


# -- verification ---------------------------------------------------------------------------------------------------------


def verification(document: dict[str, Any]) -> Iterator[str]:
    """What `bnfold optimize` takes with each budget, and which part of it is verification."""
    yield f"Whole processes of `bnfold optimize` on {document['network']} ({document['bytes'] / 1e6:.0f} MB). How long the"
    yield "verification took is what its report says. Once the budget is spent nothing optional is begun; one input is evaluated"
    yield "in float64 in any case. *Noise:* the range of all runs stands in the last column."
    yield ""
    yield from grid(["budget", "time", "verification", "its share", "peak memory", "range"])
    notes: list[str] = []
    for found in document["rows"]:
        budget = "`--no-verify`" if found["budget_s"] is None else f"{found['budget_s']} s"
        if "failure" in found:
            yield row([budget, failed(found["failure"], notes), "", "", "", ""])
            continue
        times = f"{found['wall_s']:.2f} s", f"{found['verification_s']:.2f} s", f"{found['verification_s'] / found['wall_s']:.0%}"
        strayed = f"{found['low_s']:.2f} to {found['high_s']:.2f} s of {found['runs']}"
        yield row([budget, *times, f"{found['peak_mb']:,.0f} MB", strayed])
    yield from footnotes(notes)


def verification_targets(document: dict[str, Any]) -> Iterator[Target]:
    """That a budget is kept, but for what is done in any case."""
    least = next((found.get("verification_s") for found in document["rows"] if found["budget_s"] == 0), None)
    for found in document["rows"]:
        if not found["budget_s"]:
            continue
        work, allowed = f"{document['network']}, a budget of {found['budget_s']} s", "the budget, and what one of 0 s takes"
        if least is None or "failure" in found:
            yield Target(work, allowed, found.get("failure", "a budget of 0 s failed"), False)
            continue
        limit = found["budget_s"] + least
        told = f"{found['verification_s']:.1f} s of {limit:.1f} s"
        yield Target(work, allowed, told, found["verification_s"] <= limit)


# -- scaling --------------------------------------------------------------------------------------------------------------


def scaling(document: dict[str, Any]) -> Iterator[str]:
    """Processor time of graphs of many nodes, and of starting."""
    yield "Whole processes; processor time where nodes are counted, time by the clock where starting is."
    yield from _noise((case["tools"] for case in document["graphs"]), "cpu_s", "cpu_spread")
    tools = list(dict.fromkeys(tool for case in document["graphs"] for tool in case["tools"]))
    notes: list[str] = []
    yield ""
    yield from grid(["graph", "size", *map(bold, tools)])
    for case in document["graphs"]:
        yield row([case["name"], f"{case['size']:,}", *(_cpu(case["tools"].get(tool), notes) for tool in tools)])
    yield from footnotes(notes)
    yield ""
    yield from grid(["process", "time", "processor time", "spread of the time"])
    for name, found in document["starting"].items():
        times = (f"{1000 * found['wall_s']:.0f} ms", f"{1000 * found['cpu_s']:.0f} ms")
        yield row([f"`{name}`", *times, _strayed(found)])


def scaling_targets(document: dict[str, Any]) -> Iterator[Target]:
    """The cost of large graphs, that it is linear, and of starting."""
    for case in document["graphs"]:
        ours, both, load = (case["tools"][name].get("cpu_s") for name in (BNFOLD, "onnx.load + onnx.save", "onnx.load"))
        name = f"{case['name']}, {case['size']:,}"
        if not ours:
            yield Target(name, "", case["tools"][BNFOLD]["failure"], False)
        elif case["name"] == "nothing to fold":
            times = ours / load
            yield Target(name, f"{NOTHING_TARGET} × onnx.load", f"{times:.2f} ×", times <= NOTHING_TARGET)
        elif case["name"].startswith("a chain"):
            times = ours / both
            yield Target(name, f"{CHAIN_TARGET} × load + save", f"{times:.1f} ×", times <= CHAIN_TARGET)
    start_s = document["starting"][TINY]["cpu_s"]
    for name, cases in itertools.groupby(document["graphs"], key=lambda case: case["name"]):
        yield from _linear(name, list(cases)[-2:], start_s)
    bare, help_, load, tiny = (found["wall_s"] for found in document["starting"].values())
    over = help_ - bare
    yield Target("`bnfold --help`", f"{HELP_TARGET_S} s over python", f"{over:.3f} s", over <= HELP_TARGET_S)
    yield Target("a tiny model", f"{TINY_TARGET} × import onnx", f"{tiny / load:.2f} ×", tiny / load <= TINY_TARGET)


def _linear(name: str, cases: list[dict[str, Any]], start_s: float) -> Iterator[Target]:
    """How much faster than the graph the time grows, beyond what it takes to start."""
    seconds = [case["tools"][BNFOLD].get("cpu_s") for case in cases]
    if len(cases) < 2 or None in seconds:
        return
    small, large = (each - start_s for each in seconds)
    work, allowed = f"{name}, {cases[0]['size']:,} to {cases[1]['size']:,}: linear", f"{LINEAR_TARGET} × as fast as the graph"
    if small <= 0:
        yield Target(work, allowed, "the smaller costs no more than starting", None)
        return
    growth = large / small / (cases[1]["size"] / cases[0]["size"])
    yield Target(work, allowed, f"{growth:.2f} ×", growth <= LINEAR_TARGET)


def _cpu(found: dict[str, Any] | None, notes: list[str]) -> str:
    if found is None:
        return ""
    return failed(found["failure"], notes) if "failure" in found else f"{found['cpu_s']:.2f} s"


def _strayed(found: dict[str, Any]) -> str:
    return f"{found['spread']:.0%} of {found['runs']}" if found["runs"] > 1 else "1 run"


def _noise(cases: Iterable[dict[str, Any]], seconds: str, spread: str) -> Iterator[str]:
    """How far the figures stray, in words: by their spread, and by the control."""
    spreads, controls = [], []
    for tools in cases:
        spreads += [found[spread] for found in tools.values() if found.get("runs", 0) > 1]
        pair = [tools.get(name, {}).get(seconds) for name in (BNFOLD, CONTROL)]
        if all(pair):
            controls.append(abs(pair[1] / pair[0] - 1))
    middle, most = statistics.median(spreads), max(spreads)
    yield ""
    yield f"*Noise:* the interquartile range is {middle:.1%} of the median in the middle, and {most:.1%} at most."
    if controls:
        yield f"bnfold, measured twice in the same rounds (*{CONTROL}*), differs from itself by {max(controls):.1%} at most."
