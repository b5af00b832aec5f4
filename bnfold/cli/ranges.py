"""`bnfold ranges`: how far each channel of the weights reaches, before and after folding."""

from __future__ import annotations

from pathlib import Path

import click

from bnfold.cli import console

_EXAMPLES = """\b
Examples:
  bnfold ranges model.onnx model.folded.onnx
  bnfold ranges model.onnx model.folded.onnx --json | jq '.notes'"""


@click.command(short_help="What 8-bit quantization will see of the weights.", epilog=_EXAMPLES)
@click.argument("original", type=click.Path(path_type=Path))
@click.argument("folded", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON document, every channel included.")
@click.option("-q", "--quiet", is_flag=True, help="Print only warnings.")
@click.option("-v", "--verbose", is_flag=True, help="Show the weights that did not change, too.")
def command(original: Path, folded: Path, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Compares the ranges of the weights' channels in ORIGINAL and FOLDED.

    The spread is how many times as far as the smallest channel the largest one reaches. Each doubling costs the smallest
    channel one of 8 bits when one scale is used for the whole tensor, and nothing when each channel has its own. Where
    folding leaves less than 4 bits, it says so (BNF060).
    """
    console.refuse_both(quiet, verbose)
    from bnfold.model import Model
    from bnfold.ranges import weight_ranges
    from bnfold.report.ranges_text import ranges_document, ranges_text

    with console.working(f"reading {folded} …", quiet=quiet or as_json):
        found = weight_ranges(Model.open(original), Model.open(folded))
    if as_json:
        console.show_json(ranges_document(str(original), str(folded), found))
    else:
        text = ranges_text(
            str(original), str(folded), found, style=console.style(), width=console.width(), verbose=verbose, quiet=quiet
        )
        console.show(text)
    return 0
