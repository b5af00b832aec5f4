"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bnfold.report.write import FORMATS

Command = TypeVar("Command", bound=Callable[..., Any])

EXIT_CODES = """\b
Exit codes:
  0    done
  1    the verification failed, and nothing was written
  2    wrong usage, or a model that cannot be read
  3    this machine cannot do it, such as an onnxruntime too old for the model
  4    a bug in bnfold
  130  interrupted (Ctrl-C)"""


def input_shapes(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, tuple[int, ...]] | None:
    """Reads `NAME:1,3,224,224` or `NAME:1x3x224x224`. The name may hold colons; the last one ends it."""
    shapes: dict[str, tuple[int, ...]] = {}
    for value in values:
        name, _, dimensions = value.rpartition(":")
        extents = dimensions.replace("x", ",").split(",")
        if not name or not all(extent.isascii() and extent.isdigit() and int(extent) > 0 for extent in extents):
            raise click.BadParameter(f"{value!r} is not NAME:DIMS, such as x:1,3,224,224 or x:1x3x224x224.")
        if name in shapes:
            raise click.BadParameter(f"the input {name!r} is named twice.")
        shapes[name] = tuple(int(extent) for extent in extents)
    return shapes or None


def tolerance(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Refuses what is negative, NaN or inf: with such a tolerance everything or nothing would pass."""
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise click.BadParameter(f"{value} is not a finite number that is 0 or more.")
    return value


def report_files(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[Path, ...]:
    """Refuses, before the work starts, files that could not be written after it."""
    paths = tuple(Path(value) for value in values)
    for path in paths:
        if path.suffix not in FORMATS:
            raise click.BadParameter(f"{str(path)!r} has no suffix that names a format. There are {', '.join(FORMATS)}.")
        if path.is_dir() or not path.parent.is_dir():
            raise click.BadParameter(f"{str(path)!r} is a folder, or its folder does not exist.")
    return paths


def input_options(command: Command) -> Command:
    """Adds what decides on which inputs two models are compared, and how closely."""
    options = (
        click.option(
            "--input-shapes",
            multiple=True,
            metavar="NAME:DIMS",
            callback=input_shapes,
            help="Shape of an input that the model leaves open, as x:1,3,224,224; repeatable.",
        ),
        click.option(
            "--inputs",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE.npz",
            help="Arrays to run on, by input name, instead of random ones.",
        ),
        click.option("--atol", type=float, callback=tolerance, help="Absolute tolerance. [default: by precision]"),
        click.option(
            "--rtol", type=float, callback=tolerance, help="Relative tolerance. [default: by precision, 1e-4 for float32]"
        ),
        click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the random inputs. [default: 0]"),
    )
    for option in reversed(options):
        command = option(command)
    return command
