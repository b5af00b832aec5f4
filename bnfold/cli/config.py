"""`bnfold config`: the settings in force, and where each comes from."""

from __future__ import annotations

from typing import Any

import click

from bnfold.cli import console
from bnfold.cli.settings import OWN, SHARED, Setting, Settings, in_force, strangers
from bnfold.report.page import Page

_EXAMPLES = """\b
Settings, from the weakest to the strongest:
  [tool.bnfold] in pyproject.toml or bnfold.toml     max-flips = 0           for every command with such an option
  [tool.bnfold.check] there                          ignore = ["BNF017"]     for one command
  BNFOLD_SEED=1                                                              for every command with such an option
  BNFOLD_CHECK_IGNORE=BNF017                                                 for one command
  flags"""


@click.command(short_help="Show the settings in force, and where each comes from.", epilog=_EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON document.")
@click.option("-v", "--verbose", is_flag=True, help="Also list what is left at its default.")
@click.pass_context
def command(context: click.Context, as_json: bool, verbose: bool) -> int:
    """Shows what `pyproject.toml`, `bnfold.toml` and the environment set for each command."""
    from bnfold.cli.main import cli

    settings: Settings = context.find_object(Settings) or Settings()
    commands = cli.commands_by_name()
    every = [one for name, each in commands.items() for one in in_force(name, each, context.parent or context)]
    ignored = strangers(commands)
    if as_json:
        from bnfold.report.report import document

        rows = [{"command": one.command, "option": one.option, "value": _plain(one.value), "origin": one.origin} for one in every]
        console.show_json(
            document("", file=None if settings.path is None else str(settings.path), settings=rows, ignored=ignored)
        )
    else:
        console.show(_text(settings, [one for one in every if verbose or one.is_set], ignored))
    return 0


def _text(settings: Settings, shown: list[Setting], ignored: list[str]) -> str:
    page = Page(console.style(), console.width())
    absent = f"no {OWN}, and no {SHARED} with a [tool.bnfold] table, from here upwards"
    lines = [page.style(f"settings from {settings.path}" if settings.path else absent, "strong"), ""]
    rows = [(one.command, one.option, _shown(one), page.style(one.origin, "dim")) for one in shown]
    widths = [max((len(cell) for cell in column), default=0) for column in zip(*rows, strict=True)]
    lines += ["  " + "   ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [] if rows else ["  every option is at its default"]
    for name in ignored:
        lines += page.entry("ignored", f"{name} is set in the environment, and no command has such an option", "warn")
    return "\n".join(lines)


def _shown(one: Setting) -> str:
    plain = _plain(one.value)
    return ", ".join(map(str, plain)) if isinstance(plain, list) else str(plain)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return [f"{key}:{','.join(map(str, each))}" for key, each in value.items()]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
