"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from bnfold.report.write import FORMATS

if TYPE_CHECKING:
    from bnfold.runtime.providers import Target

Command = TypeVar("Command", bound=Callable[..., Any])

EXIT_CODES = """\b
Exit codes:
  0    done
  1    a gate failed: a verification, an accuracy, a check; nothing was written
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
    """Refuses, before the work starts, files that could not be written after it, and pages that could not be made."""
    paths = tuple(Path(value) for value in values)
    for path in paths:
        if path.suffix not in FORMATS:
            raise click.BadParameter(f"{str(path)!r} has no suffix that names a format. There are {', '.join(FORMATS)}.")
        if path.is_dir() or not path.parent.is_dir():
            raise click.BadParameter(f"{str(path)!r} is a folder, or its folder does not exist.")
    if any(path.suffix == ".html" for path in paths):
        from bnfold.report.html.libraries import require

        require()
    return paths


def report_option(command: Command) -> Command:
    """Adds `--report`, which gives a command `reports`."""
    return click.option(
        "--report",
        "reports",
        multiple=True,
        metavar="FILE",
        callback=report_files,
        help=f"Write the report here too, by suffix {', '.join(FORMATS)}; repeatable.",
    )(command)


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
            type=click.Path(exists=True, path_type=Path),
            metavar="PATH",
            help="Run on these, not on random inputs: a .npz by input name, a .npy, a folder of them, or an ONNX test_data_set.",
        ),
        click.option(
            "--match-statistics",
            is_flag=True,
            help="Run also on inputs that look like the training data, found from the statistics that normalizations store.",
        ),
        click.option(
            "--atol",
            type=float,
            callback=tolerance,
            help="Allow this absolute difference between the two, instead of asking the float64 truth. [default: by precision]",
        ),
        click.option(
            "--rtol",
            type=float,
            callback=tolerance,
            help="Allow a difference relative to the largest value, likewise. [default: by precision, 1e-4 for float32]",
        ),
        click.option(
            "--levels",
            type=click.Choice(("disabled", "default", "both")),
            default="both",
            help="onnxruntime's optimizations to compare under. [default: both]",
        ),
        click.option(
            "--verify-budget",
            "budget_s",
            type=float,
            callback=tolerance,
            default=30.0,
            metavar="SECONDS",
            help="Begin nothing optional after this time; one input is evaluated in float64 in any case. [default: 30]",
        ),
        click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the random inputs. [default: 0]"),
    )
    for option in reversed(options):
        command = option(command)
    return command


def provider_options(command: Command) -> Command:
    """Adds where models run. The command gets `target`, a `bnfold.runtime.providers.Target`."""

    @functools.wraps(command)
    def with_target(
        *arguments: Any, provider: str, provider_option: dict[str, str], provider_library: tuple[str, Path] | None, **rest: Any
    ) -> Any:
        fallback = rest.pop("allow_fallback")
        return command(*arguments, target=_target(provider, provider_option, provider_library, fallback), **rest)

    options = (
        click.option(
            "--provider",
            default="cpu",
            metavar="NAME",
            help="Run on this execution provider: cpu, cuda, tensorrt, openvino, … [default: cpu]",
        ),
        click.option(
            "--provider-option",
            multiple=True,
            metavar="KEY=VALUE",
            callback=provider_settings,
            help="An option of the provider, as device_id=1; repeatable.",
        ),
        click.option(
            "--provider-library",
            metavar="NAME=PATH",
            callback=provider_library,
            help="Shared library of a plug-in provider, which --provider NAME then asks for.",
        ),
        click.option(
            "--allow-fallback",
            is_flag=True,
            help="Let other providers run what this one does not, and say how much (see BNF031).",
        ),
    )
    wrapped: Any = with_target
    for option in reversed(options):
        wrapped = option(wrapped)
    return cast(Command, wrapped)


def cross_provider_options(command: Command) -> Command:
    """Adds `provider_options` and where the reference runs instead.

    The command gets `target`, where the reference runs, and `candidate_target`, None where the candidate runs there too.
    """

    @functools.wraps(command)
    def with_targets(*arguments: Any, target: Target, reference_provider: str | None, **rest: Any) -> Any:
        if reference_provider is None:
            return command(*arguments, target=target, candidate_target=None, **rest)
        reference = _target(reference_provider, {}, None, False)
        return command(*arguments, target=reference, candidate_target=target, **rest)

    wrapped: Any = click.option(
        "--reference-provider",
        metavar="NAME",
        help="Run the reference on this one instead, as cpu beside --provider cuda. [default: as --provider]",
    )(with_targets)
    return cast(Command, provider_options(wrapped))


def provider_settings(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Reads `KEY=VALUE`; the first "=" ends the key."""
    settings: dict[str, str] = {}
    for value in values:
        key, equals, setting = value.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE, such as device_id=1.")
        if key in settings:
            raise click.BadParameter(f"{key!r} is given twice.")
        settings[key] = setting
    return settings


def provider_library(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, Path] | None:
    """Reads `NAME=PATH`."""
    if value is None:
        return None
    name, equals, path = value.partition("=")
    if not name or not equals or not path:
        raise click.BadParameter(f"{value!r} is not NAME=PATH, such as mine=./libmine.so.")
    return name, Path(path)


def _target(provider: str, settings: dict[str, str], library: tuple[str, Path] | None, allow_fallback: bool) -> Target:
    from bnfold.runtime.providers import Target, short_name

    if library is not None and short_name(library[0]) != short_name(provider):
        raise click.UsageError(f"--provider-library {library[0]}=… is for --provider {library[0]}, and --provider is {provider}.")
    target = Target(provider, settings, allow_fallback, None if library is None else library[1])
    if target.is_cpu and (settings or allow_fallback):
        what = "--provider-option" if settings else "--allow-fallback"
        raise click.UsageError(f"{what} needs another --provider than cpu.")
    return target
