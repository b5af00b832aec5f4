"""`bnfold check`: a linter for model files, for CI and pre-commit."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from bnfold.cli import console
from bnfold.cli.options import EXIT_CODES, report_option
from bnfold.collector import paused

_EXAMPLES = """\b
Examples:
  bnfold check models/                     every .onnx file below the folder
  bnfold check 'exports/**/*.onnx' --ignore BNF017
  bnfold check model.onnx --select ALL     also why each normalization stays
  bnfold check models/ --format github     annotations in a GitHub workflow"""

Format = Literal["text", "json", "github", "sarif", "junit"]


@click.command(short_help="Fail where a model holds what could be folded, or is broken.", epilog=f"{_EXAMPLES}\n\n{EXIT_CODES}")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--select",
    multiple=True,
    metavar="CODES",
    help="Report these codes, as BNF001,BNF030, their beginnings, or ALL. [default: errors, warnings]",
)
@click.option("--ignore", multiple=True, metavar="CODES", help="Do not report these codes; repeatable, or separated by commas.")
@click.option("--fix", is_flag=True, help="Fold in place what can be folded, verified, and report what is left.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json", "github", "sarif", "junit"]),
    default="text",
    help="How to print. [default: text]",
)
@report_option
@click.option("-q", "--quiet", is_flag=True, help="Print nothing when everything is good.")
def command(
    models: tuple[str, ...],
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    fix: bool,
    output_format: Format,
    reports: tuple[Path, ...],
    quiet: bool,
) -> int:
    """Looks into each MODEL (files, folders, glob patterns) for normalizations that could be folded, and for signs that the
    model was not exported for inference. Without --fix nothing is run and nothing is changed.

    Fails with exit code 1 when a foldable normalization or another error is left; warnings alone do not fail.
    """
    with paused():
        from bnfold.check import check
        from bnfold.report.lint import check_github, check_text
        from bnfold.report.renderings import check_renderings
        from bnfold.report.write import write_reports

    with console.working(f"checking {', '.join(models)} …", quiet=quiet or output_format != "text"):
        found = check(models, select=_split(select), ignore=_split(ignore), fix=fix)
    for broken in found.unreadable if output_format != "github" else ():
        console.complain(broken.told)
    write_reports(check_renderings(found, console.command_line()), reports)
    if output_format == "json":
        console.show_json(found.to_dict())
    elif output_format in ("sarif", "junit"):
        console.show(check_renderings(found)[{"sarif": ".sarif", "junit": ".xml"}[output_format]]().rstrip("\n"))
    elif output_format == "github":
        console.show(check_github(found))
    elif not (quiet and found.ok):
        console.show(check_text(found, style=console.style()))
    return found.exit_code


def _split(values: tuple[str, ...]) -> list[str]:
    return [code for value in values for code in value.split(",")]
