"""`bnfold export`: from a PyTorch module to an ONNX file that keeps its normalizations, or to the folded one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bnfold.cli import console
from bnfold.cli.options import EXIT_CODES, input_shapes, tolerance
from bnfold.errors import GateFailed

_OPSET = 18

_EXAMPLES = """\b
Examples:
  bnfold export net.py:Net --weights net.pth --input-shapes x:1,3,224,224 -o net.onnx
  bnfold export package.models:resnet --inputs samples.npz -o resnet.onnx --fold
  bnfold export traced.pt2 -o traced.onnx
  bnfold export resnet18 -o resnet18.onnx         a reference network of bnfold's repository"""


@click.command(short_help="Write a PyTorch module as ONNX, normalizations kept.", epilog=f"{_EXAMPLES}\n\n{EXIT_CODES}")
@click.argument("source")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Where to write.")
@click.option("--weights", type=click.Path(path_type=Path), metavar="FILE", help="A state dict: .pt, .pth or .safetensors.")
@click.option("--dynamic-batch/--static", default=True, help="Leave the first axis open, or fix every shape. [default: open]")
@click.option("--opset", type=click.IntRange(7), default=_OPSET, help=f"Version of the ONNX operators. [default: {_OPSET}]")
@click.option("--output-name", "output_names", multiple=True, metavar="NAME", help="Name of an output; repeatable, in order.")
@click.option("--fold", is_flag=True, help="Fold the normalizations, and write the folded model.")
@click.option(
    "--placeholder-statistics",
    is_flag=True,
    help="Give normalizations without usable statistics mean 0 and variance 1, for `bnfold recalibrate` (see BNF024).",
)
@click.option("--data", metavar="SPEC", help="A data set to compare on, as PATH[:format]: its first 64 samples.")
@click.option("--preprocess", metavar="NAME", help="What is done to each sample of --data: a preset, or file.py:function.")
@click.option(
    "--input-shapes",
    multiple=True,
    metavar="NAME:DIMS",
    callback=input_shapes,
    help="Shape of an input, as x:1,3,224,224; repeatable, in the order of forward().",
)
@click.option(
    "--inputs",
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE.npz",
    help="Arrays by input name to trace with and to compare on, instead of random ones.",
)
@click.option("--atol", type=float, callback=tolerance, help="Absolute tolerance. [default: by precision]")
@click.option("--rtol", type=float, callback=tolerance, help="Relative tolerance. [default: by precision, 1e-4 for float32]")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the random inputs. [default: 0]")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print only problems.")
@click.option("-v", "--verbose", is_flag=True, help="Print every name and every output.")
def command(source: str, output: Path, as_json: bool, quiet: bool, verbose: bool, **options: Any) -> int:
    """Writes the PyTorch module SOURCE as an ONNX file, in eval mode, with every batch normalization in its place.

    SOURCE is `package.module:factory` or `file.py:factory`, where the factory is a module or a function or class that
    makes one without arguments; a program of torch.export (.pt2); or the name of a reference network. Its code runs.

    The file is compared with the module itself before it is written.
    """
    console.refuse_both(quiet, verbose)
    if options["inputs"] is not None and options["data"] is not None:
        raise click.UsageError("--inputs and --data exclude each other.")
    from bnfold.exporter.export import export_source
    from bnfold.report.export_text import export_text

    with console.working(f"exporting {source} …", quiet=quiet or as_json):
        report = export_source(source, output, **options)
    if as_json:
        console.show_json(report.to_dict())
    else:
        console.show(export_text(report, style=console.style(), width=console.width(), verbose=verbose, quiet=quiet))
    return 0 if report.ok else GateFailed.exit_code
