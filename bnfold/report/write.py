"""Writes a report to a file in the format that its suffix names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bnfold.errors import InputError
from bnfold.report.markdown import optimize_markdown
from bnfold.report.report import Report


def as_json(document: dict[str, Any]) -> str:
    """One JSON document, strict, ASCII and indented, ending in a newline."""
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _report_json(report: Report) -> str:
    return as_json(report.to_dict())


FORMATS: dict[str, Callable[[Report], str]] = {".json": _report_json, ".md": optimize_markdown}
"""File suffix → what renders a report for it."""


def write_report(report: Report, path: Path) -> None:
    """Writes `report` to `path`, whose suffix is a key of `FORMATS`.

    Raises:
        InputError: the file cannot be written.
    """
    text = FORMATS[path.suffix](report)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the report {path}: {error.strerror}. Name another file with --report.") from error
