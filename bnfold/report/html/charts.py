"""The pictures of figures: one function for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bnfold.report import figures
from bnfold.report.html.drawing import (
    AFTER,
    BAD,
    BEFORE,
    NARROW,
    by_model,
    drawn,
    interval_marks,
    intervals,
    log_scale,
    spoken,
    svg,
)
from bnfold.report.html.parts import Chart

if TYPE_CHECKING:
    from bnfold.ranges import WeightRange
    from bnfold.runtime.accuracy.result import Accuracy
    from bnfold.runtime.bench_result import Benchmark
    from bnfold.runtime.layers import Layer

_CHANNELS_DRAWN = 128


def operators(rows: Sequence[tuple[str, int, int]]) -> Chart:
    """How many nodes of each operator there were and are."""
    values = [
        {"operator": name, "model": model, "nodes": count, "told": f"{name}: {count} nodes {model}"}
        for name, *counts in rows
        for model, count in zip(("before", "after"), counts, strict=True)
    ]
    words = "; ".join(f"{name} {before} before, {after} after" for name, before, after in rows)

    def spec(width: int) -> dict[str, Any]:
        base = {
            "y": {"field": "operator", "type": "nominal", "sort": None, "title": None, "axis": {"ticks": False, "domain": False}},
            "yOffset": {"field": "model", "sort": ["before", "after"]},
            "x": {"field": "nodes", "type": "quantitative", "title": "nodes", "axis": {"tickMinStep": 1}},
        }
        return {
            "data": {"values": values},
            "height": {"step": 13},
            "encoding": base,
            "layer": [
                {"mark": {"type": "bar", "cornerRadiusEnd": 3}, "encoding": {**by_model("before", "after"), **spoken()}},
                {
                    "mark": {"type": "text", "align": "left", "dx": 4, "fontSize": 11, "fill": "var(--soft)", "aria": False},
                    "encoding": {"text": {"field": "nodes"}},
                },
            ],
        }

    return drawn("Operators, before and after", words, spec)


def layers(found: Sequence[Layer]) -> Chart:
    """The largest error of each layer against float64, of both models."""
    values = []
    for place, layer in enumerate(found):
        for model, error in (("original", layer.original), ("candidate", layer.candidate)):
            if error is not None and error.max_abs > 0:
                told = f"{layer.made_by}: {model}'s largest error {error.max_abs:.2e}"
                values.append({"layer": place + 1, "model": model, "error": error.max_abs, "told": told, "wrong": False})
        if layer.status == "wrong" and layer.algebra.max_abs > 0:
            told = f"{layer.where}: wrong by {layer.algebra.max_abs:.2e} in float64"
            values.append({"layer": place + 1, "model": "wrong", "error": layer.algebra.max_abs, "told": told, "wrong": True})
    names = ["original", "candidate"] + ["wrong"] * any(value["wrong"] for value in values)
    colours = [BEFORE, AFTER, BAD][: len(names)]
    worst = max(found, key=lambda layer: layer.severity)
    words = f"{len(found)} layers in graph order. The one nearest to its limit is {worst.where}."

    def spec(width: int) -> dict[str, Any]:
        colour = {"field": "model", "type": "nominal", "scale": {"domain": names, "range": colours}, "sort": None}
        shape = {
            "field": "model",
            "type": "nominal",
            "scale": {"domain": names, "range": ["circle", "diamond", "cross"][: len(names)]},
        }
        return {
            "data": {"values": values},
            "height": 220,
            "encoding": {
                "x": {
                    "field": "layer",
                    "type": "quantitative",
                    "title": "layer, in graph order",
                    "axis": {"tickMinStep": 1, "grid": False},
                    "scale": {"domain": [0.5, len(found) + 0.5], "nice": False},
                },
                "y": {
                    "field": "error",
                    "type": "quantitative",
                    "title": "largest error against float64",
                    "scale": log_scale(value["error"] for value in values),
                    "axis": {"format": ".0e", "tickCount": 5},
                },
                "color": colour,
                "shape": shape,
            },
            "layer": [
                {
                    "transform": [{"filter": "!datum.wrong"}],
                    "mark": {"type": "line", "strokeWidth": 1.2, "opacity": 0.45, "aria": False},
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 46 if len(found) < 80 else 18, "opacity": 1},
                    "encoding": spoken(),
                },
            ],
        }

    return drawn("Error of each layer", words, spec)


def accuracy(found: Accuracy) -> Chart:
    """The accuracy of one or two models with Wilson's intervals."""
    values = []
    for role, score in (("original", found.reference), ("candidate", found.candidate)):
        if score is not None and score.accuracy is not None and score.interval is not None:
            low, high = (100 * end for end in score.interval)
            share = 100 * score.accuracy
            values.append(
                {
                    "row": role,
                    "model": role,
                    "value": share,
                    "low": low,
                    "high": high,
                    "told": f"{role}: {share:.2f} %, {low:.2f} to {high:.2f} %",
                }
            )
    return intervals("Top-1 accuracy with its 95 % interval", "top-1 accuracy, %", values)


def latency(found: Benchmark) -> Chart:
    """The latency of one or two models at each setting, with intervals."""
    values = []
    for row in found.rows:
        for role, timing in (("original", row.original), ("candidate", row.candidate)):
            if timing is not None:
                median, low, high = (1e3 * each for each in (timing.latency.median, timing.latency.low, timing.latency.high))
                told = f"{row.setting}, {role}: {median:.4g} ms, {low:.4g} to {high:.4g} ms"
                values.append({"row": row.setting, "model": role, "value": median, "low": low, "high": high, "told": told})
    return intervals("Latency with its 95 % interval", "milliseconds for one run", values)


def changes(found: Benchmark) -> Chart:
    """How much less or more time the candidate takes, with the interval, beside the noise."""
    values = []
    for row in found.rows:
        if row.difference is not None:
            median, low, high = (
                100 * each for each in (row.difference.change.median, row.difference.change.low, row.difference.change.high)
            )
            noise = 100 * row.difference.noise
            told = f"{row.setting}: {median:+.1f} %, {low:+.1f} to {high:+.1f} %; noise {noise:.1f} %"
            values.append(
                {
                    "row": row.setting,
                    "model": "candidate",
                    "value": median,
                    "low": low,
                    "high": high,
                    "noise": noise,
                    "less": -noise,
                    "told": told,
                }
            )
    words = "; ".join(str(value["told"]) for value in values)

    def spec(width: int) -> dict[str, Any]:
        rows = {"field": "row", "type": "nominal", "sort": None, "title": None, "axis": {"ticks": False, "domain": False}}
        x = {
            "type": "quantitative",
            "title": "change of the latency, % (less is faster)",
            "scale": {"zero": False},
            "axis": {"tickCount": width // 70},
        }
        return {
            "data": {"values": values},
            "height": {"step": 34},
            "encoding": {"y": rows},
            "layer": [
                {
                    "mark": {"type": "bar", "height": 20, "color": "var(--line)", "opacity": 0.8, "aria": False},
                    "encoding": {"x": {"field": "less", **x}, "x2": {"field": "noise"}},
                },
                {
                    "mark": {"type": "rule", "color": "var(--soft)", "strokeDash": [3, 3], "aria": False},
                    "encoding": {"x": {"datum": 0}, "y": None},
                },
                *interval_marks({"x": x}, {"color": {"value": AFTER}}),
            ],
        }

    return drawn("Difference, beside the noise of the same model twice (grey)", words, spec)


def spreads(found: Sequence[WeightRange]) -> Chart:
    """How far the channels of each folded operator's weights lie apart, before and after."""
    values, lines = [], []
    for place, one in enumerate(found):
        for model, spread in zip(("before", "after"), _spreads(one), strict=True):
            told = f"{one.operator}: {figures.times(spread)} {model}"
            values.append({"operator": place + 1, "model": model, "spread": spread, "told": told})
        lines.append({"operator": place + 1, "low": min(_spreads(one)), "high": max(_spreads(one))})
    widest = max(found, key=lambda one: one.spread_after)
    words = f"{len(found)} operators in graph order. "
    words += f"The widest after folding is {widest.operator} with {figures.times(widest.spread_after)}."

    def spec(width: int) -> dict[str, Any]:
        x = {
            "field": "operator",
            "type": "quantitative",
            "title": "operator, in graph order",
            "axis": {"tickMinStep": 1, "grid": False},
            "scale": {"domain": [0.5, len(found) + 0.5], "nice": False},
        }
        y = {
            "type": "quantitative",
            "title": "widest / narrowest channel",
            "scale": log_scale(value["spread"] for value in values),
            "axis": {"tickCount": 5, "format": "~s"},
        }
        return {
            "height": 200,
            "layer": [
                {
                    "data": {"values": lines},
                    "mark": {"type": "rule", "color": "var(--line)", "strokeWidth": 2, "aria": False},
                    "encoding": {"x": x, "y": {"field": "low", **y}, "y2": {"field": "high"}},
                },
                {
                    "data": {"values": values},
                    "mark": {"type": "point", "filled": True, "size": 46 if len(found) < 80 else 18, "opacity": 1},
                    "encoding": {"x": x, "y": {"field": "spread", **y}, **by_model("before", "after"), **spoken()},
                },
            ],
        }

    return drawn("Spread of the channels' weight ranges", words, spec)


def channels(one: WeightRange) -> Chart:
    """The largest |w| of each output channel of one operator, before and after; of runs of channels where there are many."""
    step = -(-len(one.after) // _CHANNELS_DRAWN)
    values = [
        {"channel": place, "model": model, "range": max(ranges[place : place + step])}
        for model, ranges in (("before", one.before or ()), ("after", one.after))
        for place in range(0, len(ranges), step)
    ]
    low, high = min(one.after), max(one.after)
    words = f"{len(one.after)} output channels of {one.operator}; after folding from {low:.3g} to {high:.3g}."

    def spec(width: int) -> dict[str, Any]:
        return {
            "data": {"values": values},
            "height": 120,
            "mark": {"type": "line", "interpolate": "step", "strokeWidth": 1.4, "aria": False},
            "encoding": {
                "x": {
                    "field": "channel",
                    "type": "quantitative",
                    "title": f"output channel{f' (in runs of {step})' if step > 1 else ''}",
                    "axis": {"grid": False, "tickMinStep": 1, "tickCount": 5},
                    "scale": {"nice": False},
                },
                "y": {"field": "range", "type": "quantitative", "title": "max |w|", "axis": {"tickCount": 3}},
                **by_model("before", "after"),
            },
        }

    return Chart("Weight range of each output channel", words, svg({"width": NARROW, **spec(NARROW)}))


def _spreads(one: WeightRange) -> tuple[float, float]:
    return one.spread_before or 1.0, one.spread_after
