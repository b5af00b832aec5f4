"""`bnfold verify`: two models on the same inputs, output by output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bnfold.cli import console
from bnfold.cli.options import EXIT_CODES, cross_provider_options, input_options, report_option
from bnfold.errors import GateFailed

_EXAMPLES = """\b
Examples:
  bnfold verify model.onnx model.folded.onnx
  bnfold verify model.onnx other.onnx --inputs samples.npz --rtol 1e-3"""


@click.command(short_help="Run two models on the same inputs and compare.", epilog=f"{_EXAMPLES}\n\n{EXIT_CODES}")
@click.argument("reference", type=click.Path(path_type=Path))
@click.argument("candidate", type=click.Path(path_type=Path))
@input_options
@cross_provider_options
@report_option
@click.option("--per-layer", is_flag=True, help="Print what was measured at every layer that the two models make differently.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print only problems.")
@click.option("-v", "--verbose", is_flag=True, help="Print every output at every optimization level.")
def command(
    reference: Path,
    candidate: Path,
    reports: tuple[Path, ...],
    per_layer: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> int:
    """Runs REFERENCE and CANDIDATE on the same inputs and compares every output with the truth, computed in float64.

    CANDIDATE passes when it is as close to the truth as REFERENCE, but for rounding, and fails otherwise, with exit code 1 and
    the name of the layer where it began. With --atol or --rtol the difference between the two decides.
    """
    console.refuse_both(quiet, verbose)
    from bnfold.report.renderings import verify_renderings
    from bnfold.report.report import verification_document
    from bnfold.report.text import verify_text
    from bnfold.report.write import write_reports
    from bnfold.runtime.verify import verify

    with console.working(f"running {reference} and {candidate} …", quiet=quiet or as_json):
        verification = verify(reference, candidate, **options)
    write_reports(verify_renderings(str(reference), str(candidate), verification, console.command_line()), reports)
    if as_json:
        console.show_json(verification_document(str(reference), str(candidate), verification))
    else:
        names = (str(reference), str(candidate))
        console.show(
            verify_text(
                *names,
                verification,
                style=console.style(),
                width=console.width(),
                verbose=verbose,
                quiet=quiet,
                per_layer=per_layer,
            )
        )
    console.annotate("; ".join(verification.failures), str(candidate))
    return 0 if verification.ok else GateFailed.exit_code
