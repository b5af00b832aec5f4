"""`bnfold explain`: the page of one code."""

from __future__ import annotations

import click

from bnfold.cli import console
from bnfold.errors import InputError


@click.command(short_help="Say what a code means and what helps.")
@click.argument("code")
def command(code: str) -> int:
    """Explains CODE, such as BNF004: what it means, an example, what to do, and when to ignore it."""
    from bnfold.codes import CODES
    from bnfold.report.text import explain_text

    row = CODES.get(code.upper())
    if row is None:
        listed = "\n".join(f"  {known.code}  {known.title}" for known in CODES.values())
        raise InputError(f"there is no code {code!r}. These exist:\n{listed}")
    console.show(explain_text(row, style=console.style(), width=console.width()))
    return 0
