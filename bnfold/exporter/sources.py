"""What the user names on the command line: a module in a package or a file, an exported program, or a reference network."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputError
from bnfold.exporter.torch_calls import quiet

if TYPE_CHECKING:
    import torch

_CHECKPOINTS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")


@dataclass(frozen=True)
class Source:
    """A module or a program, and what is known of its inputs and outputs.

    Attributes:
        label: what messages and the report call it.
        module: an nn.Module or an ExportedProgram.
        args: example inputs; () where only the user knows them.
        inputs: names of the inputs; () for those of `forward`.
        outputs: names of the outputs; () where nobody has named them.
    """

    label: str
    module: Any
    args: tuple[torch.Tensor, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


def open_source(source: str) -> Source:
    """Loads what `source` names. A factory is called without arguments; its code runs.

    Args:
        source: `package.module:factory`, `file.py:factory`, a `.pt2` file, or the name of a reference network.

    Raises:
        InputError: there is no such thing, its code fails, or what it makes is no module.
    """
    if source.endswith(".pt2"):
        return Source(source, _program(Path(source)))
    if source.endswith(_CHECKPOINTS):
        raise InputError(
            f"{source} holds weights, and no network. Name the code that makes it and pass the file with --weights: "
            f"bnfold export file.py:factory --weights {source}"
        )
    if source.endswith(".onnx"):
        raise InputError(f"{source} is an ONNX file already. To fold it: bnfold optimize {source}")
    place, colon, name = source.rpartition(":")
    if not colon:
        return _reference(source)
    home = _file(Path(place)) if place.endswith(".py") else _package(place)
    return Source(source, _made(home, name, source))


def _program(path: Path) -> torch.export.ExportedProgram:
    import torch

    if not path.is_file():
        raise InputError(f"{path} does not exist.")
    try:
        with quiet():  # it logs a traceback before it raises
            return torch.export.load(path)
    except Exception as error:  # zip, JSON and version errors of torch's own
        raise InputError(
            f"{path} is no program that torch {torch.__version__} can load: {_brief(error)} Save it again."
        ) from error


def _reference(name: str) -> Source:
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / "models" / "networks.py").is_file():
        raise InputError(
            f"{name!r} is neither package.module:factory, nor file.py:factory, nor a .pt2 file. The reference networks have "
            "names, but they are part of bnfold's repository and not of the installed package: run it from a checkout."
        )
    if str(checkout) not in sys.path:
        sys.path.append(str(checkout))
    built = importlib.import_module("models.networks").NETWORKS
    trained = importlib.import_module("models.trained")
    network = trained.TRAINED.get(name) or built.get(name)
    if network is None:
        raise InputError(
            f"{name!r} is neither package.module:factory, nor file.py:factory, nor a .pt2 file, nor one of the reference "
            f"networks: {', '.join((*trained.TRAINED, *built))}."
        )
    module = trained.pretrained(name) if name in trained.TRAINED else network.build()
    return Source(name, module, (network.example(),), (network.input,), (network.output,))


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"{path} does not exist.")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as for `python file.py`: it may import its neighbours
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses and pickles look for it there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(f"{path} cannot be run: {_brief(error)}") from error
    return module


def _package(name: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as for `python -m`
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise InputError(f"{name} cannot be imported: {_brief(error)}") from error


def _made(home: ModuleType, name: str, source: str) -> Any:
    import torch

    made: Any = home
    for part in name.split("."):
        if not hasattr(made, part):
            known = sorted(each for each, value in vars(home).items() if _makes_modules(value, home))
            there = f" It has {', '.join(known)}." if known else ""
            raise InputError(f"{source}: there is no {name!r} in {home.__name__}.{there}")
        made = getattr(made, part)
    if not isinstance(made, torch.nn.Module | torch.export.ExportedProgram):
        if not callable(made):
            raise InputError(f"{source} is a {type(made).__name__}, and neither a module nor a function that makes one.")
        try:
            made = made()
        except (Exception, SystemExit) as error:
            wants = " Write a function that calls it with its arguments." if isinstance(error, TypeError) else ""
            raise InputError(f"{source}() fails: {_brief(error)}{wants}") from error
    if not isinstance(made, torch.nn.Module | torch.export.ExportedProgram):
        raise InputError(f"{source}() gives a {type(made).__name__}, and not an nn.Module.")
    return made


def _makes_modules(value: Any, home: ModuleType) -> bool:
    import torch

    if isinstance(value, torch.nn.Module):
        return True
    own = getattr(value, "__module__", None) == home.__name__
    return own and (issubclass(value, torch.nn.Module) if isinstance(value, type) else callable(value))


def _brief(error: BaseException) -> str:
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return text if text.endswith(".") else f"{text}."
