"""A function of the user's, named as `file.py:function`."""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bnfold.errors import InputError


def load_object(spec: str, role: str) -> Any:
    """Runs `file.py` and takes the object of that name from it.

    Args:
        spec: `file.py:name`.
        role: what it is for, such as "the preprocessing", for messages.

    Raises:
        InputError: there is no such file or name, or the file fails.
    """
    file, _, name = spec.rpartition(":")
    path = Path(file)
    if path.suffix != ".py" or not name.isidentifier():
        raise InputError(f"{role} {spec!r} is not of the form file.py:function.")
    if not path.is_file():
        raise InputError(f"{role} {spec}: {path} does not exist.")
    module_spec = importlib.util.spec_from_file_location(f"_bnfold_user_{path.stem}", path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:  # it is the user's code: anything may come
        raise InputError(f"{role} {spec}: {failure(error, path)}") from error
    if not hasattr(module, name):
        raise InputError(f"{role} {spec}: {path} defines no `{name}`.")
    return getattr(module, name)


def load_function(spec: str, role: str) -> Callable[..., Any]:
    """The function `file.py:function`; when it fails, an `InputError` says so and where.

    Raises:
        InputError: as for `load_object`, or it cannot be called.
    """
    function = load_object(spec, role)
    if not callable(function):
        raise InputError(f"{role} {spec} is a {type(function).__name__} and not a function.")

    def guarded(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{role} {spec}: {failure(error, Path(spec.rpartition(':')[0]))}") from error

    return guarded


def failure(error: Exception, path: Path) -> str:
    """What went wrong in the user's file `path`, in one line, with the line number."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path.absolute()]
    lines = lines or [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    where = f" in line {lines[-1]} of {path}" if lines else ""
    return f"{type(error).__name__}{where}: {' '.join(str(error).split()) or 'no message'}."
