"""Settings from a file and from the environment, below the flags of the command line.

The file is the nearest `bnfold.toml`, or `pyproject.toml` with a `[tool.bnfold]` table, from the working folder upwards. A
key at the top is for every command that has such an option; one in the table of a command, as `[tool.bnfold.optimize]`, is for
that command. `BNFOLD_ATOL` and `BNFOLD_OPTIMIZE_ATOL` do the same from the environment, and are stronger than the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from bnfold.errors import InputError

PREFIX = "BNFOLD"
DEBUG = "BNFOLD_DEBUG"
OWN = "bnfold.toml"
SHARED = "pyproject.toml"


@dataclass(frozen=True)
class Settings:
    """What a settings file says.

    Attributes:
        path: the file; None where there is none.
        values: command → parameter → value, with the keys for all commands spread over those that have them.
        origins: command → parameter → where it stands, as "[tool.bnfold.optimize]".
    """

    path: Path | None = None
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    origins: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """One option in force.

    Attributes:
        command: the command.
        option: its name as a flag has it, without the dashes.
        value: what it is set to.
        origin: "default", an environment variable, or a file with its table.
    """

    command: str
    option: str
    value: Any
    origin: str

    @property
    def is_set(self) -> bool:
        """Whether somebody set it."""
        return self.origin != "default"


def read_settings(load: Callable[[], Mapping[str, click.Command]]) -> Settings:
    """Reads the file that is in force in the working folder.

    Args:
        load: gives every command by its name; called only where there is a file, as it imports them all.

    Raises:
        InputError: the file cannot be read, is no TOML, or has a key that no command knows.
    """
    found = _find(Path.cwd())
    if found is None:
        return Settings()
    commands = load()
    path, table, title = found
    values: dict[str, dict[str, Any]] = {name: {} for name in commands}
    origins: dict[str, dict[str, str]] = {name: {} for name in commands}
    tables = [(f"[{title}]" if title else "top level", key, value) for key, value in table.items() if key not in commands]
    for origin, key, value in tables:
        takers = {name: option for name, command in commands.items() if (option := options_of(command).get(_flag(key)))}
        if not takers:
            known = [option for command in commands.values() for option in options_of(command)]
            raise _unknown(path, origin, key, [*known, *commands])
        for name, option in takers.items():
            values[name][str(option.name)] = _value(path, origin, key, option, value)
            origins[name][str(option.name)] = origin
    for name, command in commands.items():
        origin = f"[{'.'.join(filter(None, (title, name)))}]"
        for key, value in _table(path, origin, table.get(name, {})).items():
            option = options_of(command).get(_flag(key))
            if option is None:
                raise _unknown(path, origin, key, list(options_of(command)))
            values[name][str(option.name)] = _value(path, origin, key, option, value)
            origins[name][str(option.name)] = origin
    return Settings(path, values, origins)


def options_of(command: click.Command) -> dict[str, click.Option]:
    """The options of a command that a file or the environment can set, as their flags say them: "max_flips" for --max-flips."""
    options = (one for one in command.params if isinstance(one, click.Option) and one.name not in ("help", "version"))
    return {_flag(max(one.opts, key=len).lstrip("-")): one for one in options}


def variables(command: str, option: str) -> tuple[str, str]:
    """The environment variables that set an option of `options_of`: the stronger, for this command alone, first."""
    return f"{PREFIX}_{command.upper()}_{option.upper()}", f"{PREFIX}_{option.upper()}"


def _find(folder: Path) -> tuple[Path, dict[str, Any], str] | None:
    for place in (folder, *folder.parents):
        if (path := place / OWN).is_file():
            return path, _load(path), ""
        if (path := place / SHARED).is_file():
            table = _table(path, "[tool]", _load(path).get("tool", {})).get("bnfold")
            if table is not None:
                return path, _table(path, "[tool.bnfold]", table), "tool.bnfold"
    return None


def _load(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no valid TOML: {error}.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None


def _table(path: Path, origin: str, table: object) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise InputError(f"{path}: {origin} has to be a table of settings.")
    return table


def _flag(key: str) -> str:
    return key.replace("-", "_")


def _value(path: Path, origin: str, key: str, option: click.Option, value: Any) -> Any:
    """The value as click takes it; refuses types that click would bend, as `true` to 1 for a number."""
    kind, fits = _kind(option)
    given = value if option.multiple and isinstance(value, list) else [value]
    if not all(isinstance(each, fits) and (option.is_flag or not isinstance(each, bool)) for each in given):
        wanted = f"{kind}, or a list of such" if option.multiple else kind
        raise InputError(f"{path}: {origin} sets {key} to {value!r}. It takes {wanted}.")
    return tuple(given) if option.multiple else value


def _kind(option: click.Option) -> tuple[str, type | tuple[type, ...]]:
    if option.is_flag:
        return "true or false", bool
    if isinstance(option.type, click.types.IntParamType):
        return "a whole number", int
    if isinstance(option.type, click.types.FloatParamType):
        return "a number", (int, float)
    return "a string", (str, int, float)


def _unknown(path: Path, origin: str, key: str, known: list[str]) -> InputError:
    import difflib

    near = difflib.get_close_matches(_flag(key), known, 1)
    hint = f" Did you mean {near[0].replace('_', '-')}?" if near else " `bnfold COMMAND --help` lists the options."
    return InputError(f"{path}: {origin} sets {key}, which no command has as an option.{hint}")


def in_force(name: str, command: click.Command, parent: click.Context) -> Iterator[Setting]:
    """Each option of a command with its value and where that comes from, as a run without flags would have it.

    Raises:
        click.BadParameter: a value does not fit its option.
    """
    with click.Context(command, info_name=name, parent=parent) as context:
        for key, option in options_of(command).items():
            raw, source = option.consume_value(context, {})
            context.set_parameter_source(str(option.name), source)  # for the message, should the value not fit
            value = None if option.value_is_missing(raw) else option.process_value(context, raw)  # a required flag
            yield Setting(name, key.replace("_", "-"), value, origin_of(context, option) or "default")


def origin_of(context: click.Context, option: click.Parameter) -> str:
    """Which variable or which file set an option that has been read; "" where it was a flag, or nothing."""
    source = context.get_parameter_source(str(option.name))
    if source is click.core.ParameterSource.ENVIRONMENT:
        return next((name for name in option.envvar or () if os.environ.get(name)), "")
    settings = context.find_object(Settings)
    if source is click.core.ParameterSource.DEFAULT_MAP and settings is not None:
        return f"{settings.path} {settings.origins[str(context.info_name)][str(option.name)]}"
    return ""


def strangers(commands: Mapping[str, click.Command]) -> list[str]:
    """Environment variables that look like settings and set nothing."""
    known = {each for name, command in commands.items() for option in options_of(command) for each in variables(name, option)}
    return sorted(name for name in os.environ if name.startswith(f"{PREFIX}_") and name not in known | {DEBUG})
