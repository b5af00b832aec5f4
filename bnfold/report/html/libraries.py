"""What a page is drawn with: Jinja2, Vega-Lite, DataTables and Graphviz, all from installed packages.

The scripts of DataTables and Graphviz are read from the packages' files. Importing these would load Jupyter.
"""

from __future__ import annotations

import base64
import gzip
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution

from bnfold.errors import EnvironmentUnfit

TABLES, TABLES_STYLE, GRAPHS = "itables/html/dt_bundle.js", "itables/html/dt_bundle.css", "graphviz_anywidget/static/widget.js"
_OWNERS = {"itables": (TABLES, TABLES_STYLE), "graphviz-anywidget": (GRAPHS,), "jinja2": (), "vl-convert-python": ()}


def require() -> None:
    """Says, before any work is done for it, that a page can be made.

    Raises:
        EnvironmentUnfit: the extra `html` is not installed, or not whole.
    """
    for package, files in _OWNERS.items():
        for file in files or ("",):
            _located(package, file)


def source(file: str) -> str:
    """The text of a script or style sheet that an installed package brings.

    Raises:
        EnvironmentUnfit: the extra `html` is not installed.
    """
    owner = next(package for package, files in _OWNERS.items() if file in files)
    with open(_located(owner, file), encoding="utf-8") as stream:
        return stream.read()


@cache
def packed_source(file: str) -> str:
    """The same as `packed`."""
    return packed(source(file))


def packed(text: str) -> str:
    """Text as base64 of gzip, which a page holds without escaping and unpacks when it is needed; the same for the same text."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode("ascii")


def _located(package: str, file: str) -> str:
    try:
        path = distribution(package).locate_file(file)
    except PackageNotFoundError:
        raise EnvironmentUnfit(
            f"an HTML report needs {package}, which is not installed. Install it with: pip install 'bnfold[html]'"
        ) from None
    from pathlib import Path

    if not Path(str(path)).exists():
        raise EnvironmentUnfit(
            f"an HTML report needs {file} of {package}, and this version does not have it. "
            "Install another one with: pip install --upgrade 'bnfold[html]'"
        )
    return str(path)
