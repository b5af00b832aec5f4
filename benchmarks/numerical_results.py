"""The section of numerical error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.markdown import bold, failed, footnotes, grid, row


def numerical(document: dict[str, Any]) -> Iterator[str]:
    """Errors of parameters and outputs against float64."""
    yield "Outputs: the largest error against the float64 truth of the unfolded file, relative to the largest true value, with"
    yield "onnxruntime's optimizations disabled. Weights: the largest distance from the exact fold, in units in the last place"
    yield "(half a unit is the best there is). The exact fold is that of a Conv and the BatchNormalization behind it: a tool that"
    yield "leaves it, or leaves its arithmetic to the runtime, has no folded weights, and so has a network without such pairs."
    yield "These figures have no noise: the inputs are the same each time, and so are the results."
    yield ""
    tools = list(dict.fromkeys(tool for case in document["rows"] for tool in case["rows"]))
    notes: list[str] = []
    yield from grid(["network", "type", "", *map(bold, tools)], words=3)
    for case in document["rows"]:
        kind = type_of(case)
        if "failure" in case:
            yield row([case["network"], kind, failed(case["failure"], notes), *("" for _ in tools)])
            continue
        found = [case["rows"][tool] for tool in tools]
        yield row([case["network"], kind, "output error", *(_figure(each, "error_max", ".1e", notes) for each in found)])
        yield row(["", "", "weights, ulp", *(_figure(each, "ulp_max", ".2f", notes) for each in found)])
    yield from footnotes(notes)


def type_of(case: dict[str, Any]) -> str:
    """What the weights of a row are stored in."""
    return "float32" if case["export"] == "clean" else case["export"]


def _figure(found: dict[str, Any], key: str, form: str, notes: list[str]) -> str:
    if "failure" in found:
        return failed(found["failure"], notes)
    return "" if found[key] is None else format(found[key], form)
