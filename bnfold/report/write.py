"""Writes a report to files, each in the format that its suffix names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from bnfold.errors import InputError

FORMATS = (".json", ".md", ".xml", ".sarif", ".html")
"""The suffixes that `--report` takes: JSON, Markdown, JUnit, SARIF, a page to look at."""

Renderings: TypeAlias = Mapping[str, Callable[[], str]]
"""Suffix → what renders the report at hand in that format; for every suffix in `FORMATS`."""


def as_json(document: dict[str, Any]) -> str:
    """One JSON document, strict, ASCII and indented, ending in a newline."""
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def write_reports(renderings: Renderings, paths: Iterable[Path]) -> None:
    """Writes a report to each of `paths`, whose suffixes are in `FORMATS`.

    Raises:
        InputError: a file cannot be written.
    """
    for path in paths:
        text = renderings[path.suffix]()
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write the report {path}: {error.strerror}. Name another file with --report.") from error
