"""`bnfold deploy`: a model file as a server expects it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bnfold.cli import console

_EXAMPLES = """\b
Examples:
  bnfold optimize model.onnx -o folded.onnx
  bnfold deploy triton folded.onnx --name resnet --repository models/ --max-batch 32 --instance gpu"""


@click.group(name="deploy", short_help="Put a model where a server expects it.")
def command() -> None:
    """Writes what a server needs besides the model."""


@command.command(short_help="A model repository for the Triton Inference Server.", epilog=_EXAMPLES)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="What clients call the model.")
@click.option(
    "--repository", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The model repository, a folder."
)
@click.option("--version", type=click.IntRange(min=1), default=1, help="The model's version. [default: 1]")
@click.option("--max-batch", type=click.IntRange(min=0), default=0, help="Largest batch that Triton may form. [default: 0, none]")
@click.option("--instance", type=click.Choice(["auto", "cpu", "gpu"]), default="auto", help="Where it runs. [default: auto]")
@click.option("--count", type=click.IntRange(min=1), default=1, help="Instances for each device. [default: 1]")
@click.option("--target-ir", type=click.IntRange(min=1), help="Highest IR version that the server's onnxruntime loads.")
@click.option("-q", "--quiet", is_flag=True, help="Print only problems.")
def triton(model: Path, repository: Path, quiet: bool, **options: Any) -> int:
    """Copies MODEL with its external data into a Triton model repository, and writes its config.pbtxt.

    MODEL goes in as it is; fold it first with `bnfold optimize`.
    """
    from bnfold.deploy.triton import deploy

    written = deploy(model, repository, **options)
    if not quiet:
        console.show("\n".join(f"wrote {written.folder}/{file}" for file in written.files))
    return 0


@command.command(name="olive-config", short_help="Olive's package config, with a pass that folds.")
def olive_config() -> int:
    """Prints Olive's package config with the pass BnFold in it.

    The file that `olive run` is given as its package config replaces Olive's own, so it holds all of Olive's passes, too.
    """
    from bnfold.integrations.olive import package_config

    console.show_json(package_config())
    return 0
