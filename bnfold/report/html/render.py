"""Pages as text: the template, the style and the script of this folder, and the libraries that they use, in one file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from bnfold import __version__
from bnfold.report.html import libraries
from bnfold.report.html.neighbourhood import Picture
from bnfold.report.html.parts import Chart, Facts, Page
from bnfold.report.page import clean

if TYPE_CHECKING:
    import jinja2


def render(page: Page) -> str:
    """The whole file. It loads nothing: its policy forbids it to.

    Raises:
        EnvironmentUnfit: the extra `html` is not installed.
    """
    libraries.require()
    packages = {"tables": libraries.TABLES} | ({"graphs": libraries.GRAPHS} if page.has_graphs else {})
    text: str = (
        _environment()
        .get_template("page.html.j2")
        .render(
            page=page,
            version=__version__,
            scripts={name: libraries.packed_source(file) for name, file in packages.items()},
            library_style=libraries.source(libraries.TABLES_STYLE),
        )
    )
    return text


def inside(
    before: Picture | None, after: Picture | None, titles: tuple[str, str], facts: Facts, charts: Sequence[Chart] = ()
) -> str:
    """What opens below a row of a table, packed."""
    pictures = [(title, picture) for title, picture in zip(titles, (before, after), strict=True) if picture is not None]
    text: str = _environment().get_template("inside.html.j2").render(pictures=pictures, facts=facts, charts=charts)
    return libraries.packed(text)


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bnfold.report.html"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
    )
    environment.tests["kind"] = lambda block, name: type(block).__name__ == name
    environment.filters["svg"] = _svg
    environment.filters["breakable"] = _breakable
    return environment


def _printable(value: Any) -> Any:
    """Names come from models: control characters have no place in a page."""
    return clean(value) if type(value) is str else value


def _breakable(name: str) -> str:
    """A name that may be broken behind its separators."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"(?<=[/._:])(?=[^/._:])", "<wbr>", str(escape(clean(name)))))


def _svg(chart: Chart, which: str) -> str:
    """One of the drawings."""
    from markupsafe import Markup

    return Markup(getattr(chart, which))  # Vega escapes what it draws
