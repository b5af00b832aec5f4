"""Options about labelled data, for `accuracy` and `optimize`."""

from __future__ import annotations

import math
from collections.abc import Callable

import click

from bnfold.cli.options import Command

_POINTS = "pp"


def max_drop(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Reads `0.1pp` as the share 0.001, and a number without a unit as it is, in units of the user's metric."""
    if value is None:
        return None
    number, has_unit = value.strip().removesuffix(_POINTS), value.strip().endswith(_POINTS)
    try:
        drop = float(number)
    except ValueError:
        drop = math.nan
    if not (math.isfinite(drop) and drop >= 0):
        raise click.BadParameter(f"{value!r} is no drop such as 0.1pp (percentage points).")
    if not has_unit and context.params.get("metric", "top1") == "top1":
        raise click.BadParameter(f"{value!r} has no unit. Percentage points are written {number or '0.1'}pp.")
    return drop / 100 if has_unit else drop


def data_options(*, required: bool) -> Callable[[Command], Command]:
    """Adds the labelled data and the gates, to `accuracy` and to `optimize`."""

    def add(command: Command) -> Command:
        options = (
            click.option(
                "--data",
                required=required,
                metavar="PATH[:FORMAT]",
                help="Labelled data: .npz, a folder of class folders, IDX, CIFAR-10, .csv or .jsonl list, file.py:loader.",
            ),
            click.option(
                "--preprocess", metavar="HOW", help="What is done to each sample: imagenet, mnist, none, or file.py:function."
            ),
            click.option(
                "--metric",
                default="top1",
                is_eager=True,
                metavar="METRIC",
                help="top1, or file.py:function of the outputs and the labels. [default: top1]",
            ),
            click.option(
                "--max-drop",
                callback=max_drop,
                metavar="DROP",
                help="Fail unless the drop in accuracy is below this, as 0.1pp, with 97.5 % confidence.",
            ),
            click.option("--max-flips", type=click.IntRange(min=0), metavar="N", help="Fail if more than N answers change."),
            click.option(
                "--margin",
                type=click.FloatRange(min=0),
                default=0.0,
                help="Changed answers that were no clearer than this, in units of the output, are ties. [default: 0]",
            ),
        )
        for option in reversed(options):
            command = option(command)
        return command

    return add


def jobs_option(command: Command) -> Command:
    """Adds `--jobs`."""
    return click.option("--jobs", type=click.IntRange(min=1), default=1, help="Processes; the result is the same. [default: 1]")(
        command
    )
