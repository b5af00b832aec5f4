"""The terminal: colours, width, and a word while the work goes on. Everything else only makes text."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import click

from bnfold.report.github import annotation
from bnfold.report.page import Role, Style, clean, plain
from bnfold.report.write import as_json

_ROLES: dict[Role, dict[str, Any]] = {
    "good": {"fg": "green"},
    "bad": {"fg": "red", "bold": True},
    "warn": {"fg": "yellow"},
    "dim": {"dim": True},
    "strong": {"bold": True},
}
COMMAND = "bnfold.command"
"""Under which the command line stands in the context's `meta`."""

_FILE_WIDTH = 100
_WIDEST = 120


def style() -> Style:
    """Colours on a terminal; none into a file or a pipe, with NO_COLOR set (https://no-color.org), or if TERM is dumb."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty():
        return plain
    return lambda text, role: click.style(text, **_ROLES[role])


def width() -> int:
    """Columns to fill: the terminal's, up to 120; 100 where there is none, so that files do not depend on a window."""
    return min(shutil.get_terminal_size().columns, _WIDEST) if sys.stdout.isatty() else _FILE_WIDTH


def command_line() -> str:
    """The command line as it was typed, quoted for a shell."""
    return str(click.get_current_context().meta.get(COMMAND, ""))


def show(text: str) -> None:
    """Prints `text` on stdout, if there is any, as it is: what may be coloured is coloured already."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without "Δ" shows "?" rather than failing
    if text:
        click.echo(text, color=True)


def show_json(document: dict[str, Any]) -> None:
    """Prints one JSON document on stdout."""
    click.echo(as_json(document), nl=False)


def complain(message: str) -> None:
    """Prints a problem on stderr, as every error of bnfold looks."""
    printable = "\n".join(clean(line) for line in message.splitlines())
    click.echo(f"bnfold: {printable}", err=True)
    annotate(message)


def annotate(message: str, path: str = "") -> None:
    """In a GitHub workflow, makes a failure an annotation too; elsewhere nothing."""
    if message and os.environ.get("GITHUB_ACTIONS") == "true":
        click.echo(annotation("error", message, file=path, title="bnfold"), err=True)


def refuse_both(quiet: bool, verbose: bool) -> None:
    """Raises a usage error for `-q -v`."""
    if quiet and verbose:
        raise click.UsageError("-q and -v exclude each other.")


@contextlib.contextmanager
def working(message: str, *, quiet: bool = False) -> Iterator[None]:
    """While the block runs: `message` on a terminal, and whatever libraries print on stdout goes to stderr instead."""
    visible = not quiet and sys.stderr.isatty()
    message = clean(message)[: shutil.get_terminal_size().columns - 1]  # on one line, or it could not be erased
    if visible:
        click.echo(message, err=True, nl=False)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if visible:
            click.echo(f"\r{' ' * len(message)}\r", err=True, nl=False)
