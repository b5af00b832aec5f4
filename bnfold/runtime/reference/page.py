"""The list of operators for docs/reference.md."""

from __future__ import annotations

from bnfold.runtime.reference import standard
from bnfold.runtime.reference.table import FAMILIES, OPERATORS


def coverage() -> str:
    """A Markdown table of the operators that are covered, a row for each module of the package."""
    lines = ["| family | operators |", "|---|---|"]
    for family in FAMILIES:
        name = family.__name__.rpartition(".")[2].replace("_", " ")
        lines.append(f"| {name} | {', '.join(sorted(family.OPERATORS))} |")
    lines.append(f"| as ONNX's own functions | {', '.join(sorted(standard.NAMES))} |")
    total = len(OPERATORS) + len(standard.NAMES)
    return "\n".join([*lines, "", f"{total} operators.", ""])
