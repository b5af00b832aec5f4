"""`bnfold inspect`: every normalization and its verdict, without running or writing anything."""

from __future__ import annotations

from pathlib import Path

import click

from bnfold.cli import console
from bnfold.collector import paused

_EXAMPLES = """\b
Examples:
  bnfold inspect model.onnx -v
  bnfold inspect model.onnx --json | jq '.plan.verdicts[].kind'"""


@click.command(short_help="Say what would fold, what would stay, and why.", epilog=_EXAMPLES)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--freeze-initializers", is_flag=True, help="As if no caller ever overrode an initializer (see BNF006).")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON document.")
@click.option("-v", "--verbose", is_flag=True, help="List every normalization with what stands around it.")
def command(model: Path, freeze_initializers: bool, as_json: bool, verbose: bool) -> int:
    """Shows the normalizations of MODEL: what stands around each, and whether it folds."""
    with paused():
        from bnfold import pipeline
        from bnfold.report.text import inspect_text

    with console.working(f"reading {model} …", quiet=as_json):
        inspection = pipeline.inspect(model, freeze_initializers=freeze_initializers)
    if as_json:
        console.show_json(inspection.to_dict())
    else:
        console.show(inspect_text(inspection, style=console.style(), width=console.width(), verbose=verbose))
    return 0
