"""`bnfold recalibrate`: population statistics from data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bnfold.cli import console
from bnfold.cli.options import EXIT_CODES
from bnfold.errors import GateFailed

_EXAMPLES = """\b
Examples:
  bnfold recalibrate model.onnx --data fashion_mnist:idx-train --preprocess mnist --batch 256
  bnfold recalibrate model.onnx --inputs training.npz --batches 100 -o fresh.onnx"""


@click.command(short_help="Measure statistics of normalizations on data.", epilog=f"{_EXAMPLES}\n\n{EXIT_CODES}")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Where to write. [default: name.recalibrated.onnx for name.onnx]"
)
@click.option("--data", metavar="SPEC", help="Training data, as PATH[:format]; `bnfold accuracy` reads the same.")
@click.option("--preprocess", metavar="NAME", help="What is done to each sample: a preset, or file.py:function.")
@click.option(
    "--inputs",
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE.npz",
    help="Instead of --data: one array for each input, with all samples.",
)
@click.option("--batch", type=click.IntRange(min=1), help="Samples in a batch. [default: what the model fixes, or 64]")
@click.option("--batches", type=click.IntRange(min=1), help="How many batches at most. [default: all]")
@click.option("--biased", is_flag=True, help="Average the variances without the factor m / (m − 1).")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print only problems.")
@click.option("-v", "--verbose", is_flag=True, help="List every normalization.")
def command(model: Path, output: Path | None, as_json: bool, quiet: bool, verbose: bool, **options: Any) -> int:
    """Gives every BatchNormalization of MODEL the population statistics of training data, and inference mode.

    The network runs in training mode over the batches, as in Algorithm 2 of the batch normalization paper. MODEL may have
    been exported in training mode, without statistics, or with moving averages that lag. Afterwards its normalizations
    can be folded.
    """
    console.refuse_both(quiet, verbose)
    if (options["data"] is None) == (options["inputs"] is None):
        raise click.UsageError("Statistics need data: give either --data or --inputs.")
    destination = output or model.with_name(model.name.removesuffix(".onnx") + ".recalibrated.onnx")
    from bnfold.population.recalibrate import recalibrate
    from bnfold.report.recalibrate_text import recalibrate_text

    with console.working(f"measuring {model} …", quiet=quiet or as_json):
        report = recalibrate(model, destination, **options)
    if as_json:
        console.show_json(report.to_dict())
    else:
        console.show(recalibrate_text(report, style=console.style(), width=console.width(), verbose=verbose, quiet=quiet))
    return 0 if report.ok else GateFailed.exit_code
