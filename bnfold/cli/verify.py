"""`bnfold verify`: two models on the same inputs, output by output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bnfold.cli import console
from bnfold.cli.options import EXIT_CODES, input_options, report_option
from bnfold.errors import GateFailed

_EXAMPLES = """\b
Examples:
  bnfold verify model.onnx model.folded.onnx
  bnfold verify model.onnx other.onnx --inputs samples.npz --rtol 1e-3"""


@click.command(short_help="Run two models on the same inputs and compare.", epilog=f"{_EXAMPLES}\n\n{EXIT_CODES}")
@click.argument("reference", type=click.Path(path_type=Path))
@click.argument("candidate", type=click.Path(path_type=Path))
@input_options
@report_option
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print only problems.")
@click.option("-v", "--verbose", is_flag=True, help="Print every output at every optimization level.")
def command(
    reference: Path, candidate: Path, reports: tuple[Path, ...], as_json: bool, quiet: bool, verbose: bool, **options: Any
) -> int:
    """Runs REFERENCE and CANDIDATE on the same inputs and compares every output.

    A difference within the tolerance, by default one for the precision of REFERENCE, is fine; anything more fails, with
    exit code 1.
    """
    console.refuse_both(quiet, verbose)
    from bnfold.report.renderings import verify_renderings
    from bnfold.report.report import verification_document
    from bnfold.report.text import verify_text
    from bnfold.report.write import write_reports
    from bnfold.runtime.verify import verify

    with console.working(f"running {reference} and {candidate} …", quiet=quiet or as_json):
        verification = verify(reference, candidate, **options)
    write_reports(verify_renderings(str(reference), str(candidate), verification), reports)
    if as_json:
        console.show_json(verification_document(str(reference), str(candidate), verification))
    else:
        names = (str(reference), str(candidate))
        console.show(
            verify_text(*names, verification, style=console.style(), width=console.width(), verbose=verbose, quiet=quiet)
        )
    console.annotate("; ".join(verification.failures), str(candidate))
    return 0 if verification.ok else GateFailed.exit_code
