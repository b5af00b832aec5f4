"""`bnfold accuracy`: one or two models on labelled data."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from bnfold.cli import console
from bnfold.cli.data import data_options, jobs_option
from bnfold.cli.options import EXIT_CODES, provider_options, report_option
from bnfold.errors import GateFailed

_EXAMPLES = """\b
Examples:
  bnfold accuracy model.onnx model.folded.onnx --data mnist:idx-test --preprocess mnist --max-flips 0
  bnfold accuracy model.onnx model.folded.onnx --data val/ --preprocess imagenet --max-drop 0.1pp --jobs 8
  bnfold accuracy model.onnx --data data.npz:image=x_test,label=y_test --preprocess prepare.py:prepare
  bnfold accuracy model.onnx --data loader.py:samples --limit 1000"""

_STEPS = 200  # how often a bar is drawn, at most


@click.command(short_help="Accuracy on labelled data, before and after.", epilog=f"{_EXAMPLES}\n\n{EXIT_CODES}")
@click.argument("reference", type=click.Path(path_type=Path))
@click.argument("candidate", type=click.Path(path_type=Path), required=False)
@data_options(required=True)
@jobs_option
@click.option("--output", metavar="NAME", help="The output with one value for each class, where there are several.")
@click.option("--batch", type=click.IntRange(min=1), help="Samples in one run. [default: 64, or what the model fixes]")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Stop after the first N samples.")
@click.option(
    "--resume",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep the state of the run in this file, and go on from it when it is there.",
)
@provider_options
@report_option
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print only problems.")
@click.option("-v", "--verbose", is_flag=True, help="Print the table of pairs, more flips, and how the models were run.")
def command(
    reference: Path,
    candidate: Path | None,
    reports: tuple[Path, ...],
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> int:
    """Counts right answers of REFERENCE, and of CANDIDATE on the same samples.

    The data are read as a stream, so memory does not grow with them. Preprocessing is what you state, never a guess.
    """
    console.refuse_both(quiet, verbose)
    if candidate is None and not (options["max_drop"] is options["max_flips"] is None):
        raise click.UsageError("--max-drop and --max-flips compare two models: name CANDIDATE, too.")
    from bnfold.report.accuracy_report import accuracy_document, accuracy_renderings
    from bnfold.report.accuracy_text import accuracy_text
    from bnfold.report.write import write_reports
    from bnfold.runtime.accuracy import accuracy

    with progress(f"running {candidate or reference}", quiet=quiet or as_json) as report_progress:
        found = accuracy(reference, candidate, progress=report_progress, **options)
    write_reports(accuracy_renderings(found, console.command_line()), reports)
    if as_json:
        console.show_json(accuracy_document(found))
    else:
        console.show(accuracy_text(found, style=console.style(), width=console.width(), verbose=verbose, quiet=quiet))
    console.annotate(" ".join(found.failures), str(candidate or reference))
    return 0 if found.ok else GateFailed.exit_code


@contextlib.contextmanager
def progress(message: str, *, quiet: bool) -> Iterator[Callable[[int, int | None], None] | None]:
    """A progress bar on a terminal, while the block runs; it gives the function to report progress with."""
    if quiet or not sys.stderr.isatty():
        with console.working("", quiet=True):
            yield None
        return
    bar: Any = None
    shown = 0

    def update(done: int, total: int | None) -> None:
        nonlocal bar, shown
        if bar is None:
            nothing = (each for each in range(0))  # click takes an unknown length only with an iterable
            steps = max(1, (total or 0) // _STEPS)
            bar = click.progressbar(nothing, total, message, file=sys.stderr, show_pos=True, update_min_steps=steps)
            bar.__enter__()
        bar.update(done - shown)
        shown = done

    try:
        with console.working("", quiet=True):
            yield update
    finally:
        if bar is not None:
            bar.__exit__(None, None, None)
