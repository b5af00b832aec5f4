"""`bnfold doctor`: what this machine can do, and what it lacks."""

from __future__ import annotations

from pathlib import Path

import click

from bnfold.cli import console
from bnfold.cli.options import provider_library
from bnfold.errors import EnvironmentUnfit

_EPILOG = """\b
Exit codes:
  0    everything that bnfold needs works; a provider that does not start is no error
  3    something that bnfold needs is broken"""


@click.command(short_help="Say what this machine can run models on.", epilog=_EPILOG)
@click.option(
    "--provider-library",
    metavar="NAME=PATH",
    callback=provider_library,
    help="Shared library of a plug-in provider, to be tried, too.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON document.")
@click.option("-v", "--verbose", is_flag=True, help="Name the execution providers that this onnxruntime lacks, too.")
def command(provider_library: tuple[str, Path] | None, as_json: bool, verbose: bool) -> int:
    """Shows versions, the newest models that the installed onnxruntime loads, and each execution provider.

    Everything is tried rather than looked up: a provider counts as working when a session starts on it.
    """
    from bnfold.report.doctor_text import doctor_document, doctor_text
    from bnfold.runtime.environment import examine
    from bnfold.runtime.providers import Target

    plug_in = Target(provider_library[0], library=provider_library[1]) if provider_library else None
    with console.working("looking around …", quiet=as_json):
        environment = examine(plug_in)
    if as_json:
        console.show_json(doctor_document(environment))
    else:
        console.show(doctor_text(environment, style=console.style(), width=console.width(), verbose=verbose))
    return 0 if environment.ok else EnvironmentUnfit.exit_code
