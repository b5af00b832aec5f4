"""Puts a state dict into a module: every key, or an error that lists those that do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.errors import EnvironmentUnfit, InputError

if TYPE_CHECKING:
    import torch

_NESTED = ("state_dict", "model_state_dict", "model", "network", "net")
"""Where training scripts keep the state dict in what they save."""

_WRAPPERS = ("module", "_orig_mod")
"""What DataParallel and torch.compile put into the path of everything inside."""

_LISTED = 20


def load_weights(module: torch.nn.Module, path: Path) -> None:
    """Reads a state dict and puts it into `module`.

    Args:
        module: changed in place.
        path: `.safetensors`, or a file of `torch.save`, read with `weights_only=True`, so that none of its code runs.

    Raises:
        InputError: the file cannot be read, holds no state dict, or its keys or shapes are not those of the module.
        EnvironmentUnfit: safetensors is not installed.
    """
    import torch

    state = fitting_names(_state(path), module.state_dict().keys())
    misfits = _misfits(module, state)
    if misfits:
        raise InputError(f"{path} does not fit {type(module).__name__}: {'; '.join(misfits)}.")
    try:
        with torch.no_grad():
            module.load_state_dict(state, strict=False)  # what is missing has been looked at, and only counters may be
    except RuntimeError as error:
        raise InputError(f"{path} does not fit {type(module).__name__}: {' '.join(str(error).split())[:400]}") from error


def fitting_names(state: Mapping[str, Any], expected: Any) -> dict[str, Any]:
    """The state dict under the names that the module expects, as far as leaving out prefixes gets there.

    `module.` and `_orig_mod.` are left out anywhere in a name, and any first part that all names have in common.
    """
    names = set(expected)
    found = {name if name in names else _unwrapped(name): value for name, value in state.items()}
    while found and not names & found.keys():
        first = {name.partition(".")[0] for name in found}
        if len(first) > 1 or not all("." in name for name in found):
            break
        found = {name.partition(".")[2]: value for name, value in found.items()}
    return found


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _state(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise InputError(f"the weights {path} do not exist.")
    saved = _safetensors(path) if path.suffix == ".safetensors" else _torch_save(path)
    while isinstance(saved, Mapping):
        inner = next((saved[key] for key in _NESTED if isinstance(saved.get(key), Mapping)), None)
        if inner is None:
            break
        saved = inner
    if not isinstance(saved, Mapping) or not saved or not all(_is_tensor(value) for value in saved.values()):
        found = (
            f"a dict with {', '.join(map(str, list(saved)[:_LISTED]))}" if isinstance(saved, Mapping) else type(saved).__name__
        )
        raise InputError(f"{path} holds {found}, and no state dict. Save one: torch.save(module.state_dict(), {path.name!r}).")
    return {str(name): value for name, value in saved.items()}


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _safetensors(path: Path) -> Mapping[str, Any]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise EnvironmentUnfit(f"safetensors is not installed, and {path} needs it. Run: pip install safetensors") from error
    try:
        loaded: Mapping[str, Any] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is no safetensors file: {error}. Was the download complete?") from error
    return loaded


def _torch_save(path: Path) -> Any:
    import pickle

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds Python objects besides weights, and loading those would run their code, so it was not. "
            f"Save the weights alone: torch.save(module.state_dict(), {path.name!r})."
        ) from error
    except Exception as error:  # zip errors, EOF, and what torch raises for them
        raise InputError(
            f"{path} is no file of torch.save: {' '.join(str(error).split())[:200]}. Was the download complete?"
        ) from error


def _misfits(module: torch.nn.Module, state: Mapping[str, Any]) -> list[str]:
    from torch.nn.parameter import is_lazy

    expected = module.state_dict()
    # A counter says nothing at inference, and files from before PyTorch 0.4.1 have none.
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in expected]
    shapes = [
        f"{name} is {list(state[name].shape)}, and the module has {list(value.shape)}"
        for name, value in expected.items()
        if name in state and not is_lazy(value) and state[name].shape != value.shape
    ]
    found = ((missing, "missing"), (unexpected, "unexpected"), (shapes, "of another shape"))
    return [f"{len(names)} {what}: {_listed(names)}" for names, what in found if names]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f", … ({len(names) - _LISTED} more)" if len(names) > _LISTED else "")
