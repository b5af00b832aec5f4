"""`bnfold bench`: how fast a model is, and whether another one is faster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnfold.cli import console
from bnfold.cli.options import EXIT_CODES, input_shapes, provider_options, report_option

if TYPE_CHECKING:
    from bnfold.runtime.providers import Target

_EXAMPLES = """\b
Examples:
  bnfold bench model.onnx model.folded.onnx
  bnfold bench model.onnx --batch 8 --threads 1 --duration 10
  bnfold bench model.onnx model.folded.onnx --provider cuda --profile --report bench.md"""
_SETTINGS = ("default", "no folding", "disabled")


@click.command(short_help="Measure how fast a model is, or two.", epilog=f"{_EXAMPLES}\n\n{EXIT_CODES}")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("candidate", type=click.Path(path_type=Path), required=False)
@click.option(
    "--inputs", type=click.Path(exists=True, path_type=Path), metavar="PATH", help="What to run on, instead of a random input."
)
@click.option(
    "--input-shapes",
    multiple=True,
    metavar="NAME:DIMS",
    callback=input_shapes,
    help="Shape of an input that the model leaves open, as x:1,3,224,224; repeatable.",
)
@click.option("--batch", type=click.IntRange(min=1), help="Samples in one run. [default: 1, or what --inputs has]")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the random input. [default: 0]")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads within an operator. [default: all of this process]")
@click.option(
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
    default=3.0,
    help="Seconds of measuring for each setting of the optimizer. [default: 3]",
)
@click.option(
    "--repeats",
    "blocks",
    type=click.IntRange(min=1),
    default=6,
    help="Blocks with new sessions; fewer than 6 can claim nothing. [default: 6]",
)
@click.option(
    "--optimizations",
    "settings",
    multiple=True,
    type=click.Choice(_SETTINGS),
    help="Only this setting of onnxruntime's optimizer; repeatable. [default: all three]",
)
@click.option("--no-io-binding", is_flag=True, help="On an NVIDIA GPU, count the copies to and from it, too.")
@provider_options
@click.option("--profile", is_flag=True, help="List the time of each operator.")
@report_option
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print only what may be said about the difference.")
def command(
    model: Path,
    candidate: Path | None,
    settings: tuple[str, ...],
    no_io_binding: bool,
    target: Target,
    profile: bool,
    reports: tuple[Path, ...],
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Measures MODEL, alone or against CANDIDATE.

    Both run in turns, beside a second session of MODEL that shows the noise. A difference is claimed only above it.
    """
    from bnfold.report.bench_text import bench_document, bench_text
    from bnfold.report.renderings import bench_renderings
    from bnfold.report.write import write_reports
    from bnfold.runtime.bench import bench

    with console.working(f"timing {model} …", quiet=quiet or as_json):
        benchmark = bench(
            model, candidate, settings=settings or _SETTINGS, io_binding=not no_io_binding, target=target, **options
        )
    write_reports(bench_renderings(benchmark, console.command_line()), reports)
    if as_json:
        console.show_json(bench_document(benchmark))
    else:
        look: dict[str, Any] = {"style": console.style(), "width": console.width()}
        console.show(bench_text(benchmark, profile=profile, quiet=quiet, **look))
    return 0
