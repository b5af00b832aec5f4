"""How pictures of figures are drawn: with Vega-Lite, for a wide and for a narrow screen.

Colours are those of the page's style, so that they follow dark and light.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bnfold.report.html.parts import Chart

WIDE, NARROW = 1040, 310  # pixels of the drawing area and its axes together
BEFORE, AFTER, BAD = "var(--before)", "var(--after)", "var(--bad)"
_CONFIG: dict[str, Any] = {
    "background": None,
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {
        "domainColor": "var(--line)",
        "gridColor": "var(--line)",
        "gridOpacity": 0.6,
        "tickColor": "var(--line)",
        "labelColor": "var(--soft)",
        "titleColor": "var(--soft)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelLimit": 220,
    },
    "legend": {
        "labelColor": "var(--ink)",
        "labelFontSize": 12,
        "title": None,
        "orient": "top",
        "symbolOpacity": 1,
        "symbolStrokeWidth": 2,
        "offset": 6,
    },
}


def drawn(title: str, words: str, spec: Callable[[int], dict[str, Any]]) -> Chart:
    """A chart from what makes its specification for a width in pixels."""
    return Chart(title, words, *(svg({"width": width, **spec(width)}) for width in (WIDE, NARROW)))


def svg(spec: dict[str, Any]) -> str:
    """A specification as SVG."""
    import vl_convert

    whole = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": _CONFIG,
        **spec,
    }
    text: str = vl_convert.vegalite_to_svg(whole)
    return text


def intervals(title: str, axis: str, values: Sequence[Mapping[str, Any]]) -> Chart:
    """Values with their intervals, one row for each."""
    words = "; ".join(str(value["told"]) for value in values)
    models = list(dict.fromkeys(str(value["model"]) for value in values))

    def spec(width: int) -> dict[str, Any]:
        rows = {"field": "row", "type": "nominal", "sort": None, "title": None, "axis": {"ticks": False, "domain": False}}
        return {
            "data": {"values": values},
            "height": {"step": 15 if len(models) > 1 and len({value["row"] for value in values}) > 1 else 34},
            "encoding": {
                "y": rows,
                **(
                    {"yOffset": {"field": "model", "sort": models}}
                    if len({value["row"] for value in values}) * len(models) > len(models)
                    else {}
                ),
            },
            "layer": interval_marks(
                {"x": {"type": "quantitative", "title": axis, "scale": {"zero": False}, "axis": {"tickCount": width // 110}}},
                by_model(*models),
            ),
        }

    return drawn(title, words, spec)


def interval_marks(position: dict[str, Any], colour: dict[str, Any]) -> list[dict[str, Any]]:
    """A line from `low` to `high` and a point at `value`, each figure with its words."""
    x = position["x"]
    return [
        {
            "mark": {"type": "rule", "strokeWidth": 3, "strokeCap": "round", "aria": False},
            "encoding": {"x": {"field": "low", **x}, "x2": {"field": "high"}, **colour},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
            "encoding": {"x": {"field": "value", **x}, **colour, **spoken()},
        },
    ]


def by_model(*names: str) -> dict[str, Any]:
    """The colour of what was before and after, or of the original and the candidate."""
    scale = {"domain": list(names), "range": [BEFORE, AFTER][: len(names)]}
    legend = {"legend": None} if len(names) == 1 else {}
    return {"color": {"field": "model", "type": "nominal", "scale": scale, "sort": None, **legend}}


def spoken() -> dict[str, Any]:
    """What a mark says to who cannot see it, and under the pointer."""
    return {"description": {"field": "told"}}


def log_scale(values: Iterable[Any]) -> dict[str, Any]:
    """A logarithmic scale that reaches a little further than the values."""
    shown = [float(value) for value in values]
    return {"type": "log", "nice": False, "domain": [min(shown) / 1.6, max(shown) * 1.6]}
