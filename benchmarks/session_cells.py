"""What the sections of inference and of session creation ask of their cells."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from typing import Any

from benchmarks.markdown import BNFOLD


def measured(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells in which the original runs."""
    return [cell for cell in document["cells"] if "failure" not in cell]


def folded(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Those in which bnfold's file runs too."""
    return [cell for cell in measured(document) if "ratio" in cell["rows"][BNFOLD]]


def by_export(cells: list[dict[str, Any]]) -> Iterator[tuple[tuple[str, str], list[dict[str, Any]]]]:
    """The cells of each export and level."""
    for export, level in dict.fromkeys((cell["export"], cell["level"]) for cell in cells):
        yield (export, level), [cell for cell in cells if (cell["export"], cell["level"]) == (export, level)]


def tools_in(cells: list[dict[str, Any]]) -> list[str]:
    """Everyone but the original."""
    return list(dict.fromkeys(tool for cell in cells for tool in cell["rows"] if tool != "original"))


def running(cells: list[dict[str, Any]], tool: str) -> list[dict[str, Any]]:
    """What was measured of one tool, where its file runs."""
    return [cell["rows"][tool] for cell in cells if "ratio" in cell["rows"][tool]]


def geometric_mean(rows: list[dict[str, Any]], value: str) -> float:
    """Of one value of some contestants that run, at least one."""
    return math.exp(statistics.fmean(math.log(found[value]) for found in rows))


def met(missed: dict[str, float], total: int) -> str:
    """In how many cells a target is met, and the worst of those in which it is not."""
    worst = sorted(missed, key=lambda where: -missed[where])
    shown = "; ".join(f"{where} ({missed[where]:.3f})" for where in worst[:4])
    more = f"; {len(worst) - 4} more" if len(worst) > 4 else ""
    return f"{total - len(missed)} of {total} cells" + (f"; not {shown}{more}" if missed else "")
