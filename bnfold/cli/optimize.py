"""`bnfold optimize`: fold, verify, write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bnfold.cli import console
from bnfold.cli.data import data_options
from bnfold.cli.options import EXIT_CODES, input_options, provider_options, report_option
from bnfold.collector import paused
from bnfold.errors import EnvironmentUnfit, GateFailed, InputError

_EXAMPLES = """\b
Examples:
  bnfold optimize model.onnx                      writes model.folded.onnx
  bnfold optimize model.onnx -o small.onnx --report report.md
  bnfold optimize model.onnx --input-shapes x:1,3,224,224
  bnfold optimize exports/ -o folded/             every model in the folder
  bnfold optimize model.onnx --keep 'backbone.*' --dry-run"""


@click.command(short_help="Fold, verify, and write the result.", epilog=f"{_EXAMPLES}\n\n{EXIT_CODES}")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write. [default: name.folded.onnx for name.onnx]")
@click.option("--in-place", is_flag=True, help="Replace MODEL itself, once the result is verified.")
@click.option("--no-verify", is_flag=True, help="Do not run the two models against each other.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="Processes, for a folder or for --data. [default: 1]")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
@click.option("--keep", multiple=True, metavar="GLOB", help="Leave normalizations with such a name alone; repeatable.")
@click.option("--only", multiple=True, metavar="GLOB", help="Fold only normalizations with such a name; repeatable.")
@click.option("--force", is_flag=True, help="Take folds that would not pay, too (see BNF020).")
@click.option("--flush-subnormals", is_flag=True, help="Store folded values that are subnormal as zero (see BNF009).")
@click.option("--no-metadata", is_flag=True, help="Do not note in the result what it was made of.")
@click.option("--no-batchnorm", is_flag=True, help="Write what stays as Mul and Add, for targets without the operator.")
@click.option(
    "--freeze-initializers",
    is_flag=True,
    help="Make constants of the initializers that callers could override (see BNF006).",
)
@input_options
@data_options(required=False)
@provider_options
@report_option
@click.option("--per-layer", is_flag=True, help="Print what was measured at every layer that was folded.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print only problems.")
@click.option("-v", "--verbose", is_flag=True, help="Print the verdict on every normalization.")
def command(
    model: Path,
    output: Path | None,
    in_place: bool,
    no_verify: bool,
    no_metadata: bool,
    jobs: int,
    reports: tuple[Path, ...],
    per_layer: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> int:
    """Folds the batch normalizations of MODEL, a file or a folder of them, into the operators around them.

    Before the result is written, it is run against MODEL on the same inputs. MODEL itself stays as it is unless you
    say --in-place, and so does every normalization that cannot be folded, with the reason.
    """
    console.refuse_both(quiet, verbose)
    options["metadata"] = not no_metadata
    if model.is_dir():
        return _folder(model, output, in_place, jobs, reports, as_json, quiet, verify=not no_verify, **options)
    destination = _destination(model, output, in_place)
    with paused():
        from bnfold import pipeline
        from bnfold.report.text import optimize_text

    original = None
    if destination == model and any(report.suffix == ".html" for report in reports):
        from bnfold.report.html.models import shown

        original = shown(str(model), is_gone=True)
    try:
        with console.working(f"folding {model} …", quiet=quiet or as_json):
            report = pipeline.optimize(model, destination, verify=not no_verify, jobs=jobs, **options)
    except EnvironmentUnfit as error:
        raise _advised(error) from error
    if reports:
        from bnfold.report.renderings import optimize_renderings
        from bnfold.report.write import write_reports

        write_reports(optimize_renderings(report, console.command_line(), original), reports)
    if as_json:
        console.show_json(report.to_dict())
    else:
        text = optimize_text(
            report, style=console.style(), width=console.width(), verbose=verbose, quiet=quiet, per_layer=per_layer
        )
        console.show(text)
    console.annotate(report.failure, str(model))
    return 0 if report.ok else GateFailed.exit_code


def _folder(
    folder: Path,
    output: Path | None,
    in_place: bool,
    jobs: int,
    reports: tuple[Path, ...],
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    if in_place and output is not None:
        raise click.UsageError("--in-place and -o exclude each other.")
    if output is not None and _same_file(folder, output):
        raise InputError(f"-o {output} is the input itself. Choose another folder, or say --in-place to replace its models.")
    destination = folder if in_place else output or _beside(folder)
    from bnfold.folder import optimize_folder
    from bnfold.report.folder import folder_text

    with console.working(f"folding {folder} …", quiet=quiet or as_json):
        report = optimize_folder(folder, destination, jobs=jobs, **options)
    if reports:
        from bnfold.report.renderings import folder_renderings
        from bnfold.report.write import write_reports

        write_reports(folder_renderings(report, console.command_line()), reports)
    if as_json:
        console.show_json(report.to_dict())
    else:
        console.show(folder_text(report, style=console.style(), width=console.width(), quiet=quiet))
    for outcome in report.failed:
        console.annotate(outcome.failure, outcome.path)
    return 0 if report.ok else GateFailed.exit_code


def _advised(error: EnvironmentUnfit) -> EnvironmentUnfit:
    from bnfold.runtime.session import CannotRun

    return EnvironmentUnfit(f"{error} To fold without running it: --no-verify.") if isinstance(error, CannotRun) else error


def _destination(model: Path, output: Path | None, in_place: bool) -> Path:
    if in_place and output is not None:
        raise click.UsageError("--in-place and -o exclude each other.")
    if in_place:
        return model
    destination = output or model.with_name(model.name.removesuffix(".onnx") + ".folded.onnx")
    if _same_file(model, destination):
        raise InputError(f"-o {destination} is the input itself. Choose another name, or say --in-place to replace it.")
    return destination


def _beside(folder: Path) -> Path:
    """`exports.folded` for `exports`, and for "." and ".." beside the folder that they stand for."""
    place = folder if folder.name not in ("", "..") else folder.resolve()
    return place.parent / f"{place.name}.folded"


def _same_file(model: Path, destination: Path) -> bool:
    return model.exists() and destination.exists() and destination.samefile(model)
