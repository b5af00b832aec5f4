"""`bnfold run`: one model on inputs, its outputs into a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnfold.cli import console
from bnfold.cli.options import EXIT_CODES, input_shapes, provider_options

if TYPE_CHECKING:
    from bnfold.runtime.providers import Target

_EXAMPLES = """\b
Examples:
  bnfold run model.onnx --inputs x.npz -o y.npz
  bnfold run model.onnx --inputs test_data_set_0 -o answers
  bnfold run model.onnx --provider cuda -o y.npz"""


@click.command(short_help="Run a model and keep its outputs.", epilog=f"{_EXAMPLES}\n\n{EXIT_CODES}")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--inputs",
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="What to run on: .npz, .npy, a folder of them, or an ONNX test_data_set. [default: one random input]",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A .npz file, or for several inputs a folder.")
@click.option(
    "--input-shapes",
    multiple=True,
    metavar="NAME:DIMS",
    callback=input_shapes,
    help="Shape of an input that the model leaves open, as x:1,3,224,224; repeatable.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the random input. [default: 0]")
@click.option("--no-optimizations", is_flag=True, help="Run the graph as it is written.")
@provider_options
@click.option("--json", "as_json", is_flag=True, help="Print what was run as one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print only problems.")
def command(
    model: Path, output: Path | None, no_optimizations: bool, target: Target, as_json: bool, quiet: bool, **options: Any
) -> int:
    """Runs MODEL and shows the range of each output; -o keeps them, by output name."""
    from bnfold.report.run_text import answer_lines, provider_lines, run_document, summary
    from bnfold.runtime.output_files import write_outputs
    from bnfold.runtime.run import run_model

    with console.working(f"opening {model} …", quiet=quiet or as_json):
        run = run_model(model, target=target, level="disabled" if no_optimizations else "default", **options)
    answers = write_outputs(run, output) if output else ((answer, None) for answer in run.answers)
    look: dict[str, Any] = {"style": console.style(), "width": console.width()}
    if not as_json and (not quiet or run.placement.notes()):
        console.show("\n".join(provider_lines(run.placement, **look)))
    documents = []
    for answer, path in answers:
        written = None if path is None else str(path)
        if as_json:
            summaries = {name: summary(value) for name, value in answer.outputs.items()}
            documents.append({"input": answer.label, "output": written, "outputs": summaries})
        elif not quiet:
            console.show("\n".join(answer_lines(answer.label, answer.outputs, written, **look)))
    if as_json:
        console.show_json(run_document(str(model), run.placement, documents))
    return 0
