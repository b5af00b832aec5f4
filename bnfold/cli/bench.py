"""`bnfold bench`."""

from __future__ import annotations

import click


@click.command(short_help="In the making.", hidden=True)
def command() -> int:
    """In the making."""
    return 0
