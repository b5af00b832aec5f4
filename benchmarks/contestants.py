"""The files that are measured against each other: a network in one export, folded by every tool, and folded by hand."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import onnx
from torch.fx.experimental.optimization import fuse

from benchmarks.cells import IDEAL
from models.export import export
from models.networks import NETWORKS

ROOT = Path(__file__).parents[1]
EXPORTS = ("clean", "raw", "inputs", "float16")
"""BatchNormalization kept and names tidied; exactly as `torch.onnx.export(optimize=False)` writes it; clean with its initializers
as graph inputs, as old exporters wrote them; clean in half precision."""

TOOLS = ("bnfold", "onnxsim", "onnxslim", "onnxoptimizer", "onnxscript")
"""onnxruntime itself is in every measurement: it is what runs the files."""

_TIMEOUT_S = 180


@dataclass(frozen=True)
class Contestant:
    """What one tool made of a file.

    Attributes:
        tool: its name, "original" or `IDEAL`.
        path: the file; None where there is none.
        failure: why there is none.
    """

    tool: str
    path: Path | None
    failure: str = ""


def contestants(network: str, kind: str, folder: Path, python: Path, small: bool = False) -> list[Contestant]:
    """Writes the network in one export and lets every tool fold it; files that are there already are taken as they are.

    Args:
        network: a key of `models.networks.NETWORKS`.
        kind: one of `EXPORTS`.
        folder: for the files.
        python: the interpreter of the peers' environment.
        small: the network at the size for tests.
    """
    home = folder / f"{network}-{kind}{'-small' if small else ''}"
    home.mkdir(parents=True, exist_ok=True)
    original = home / "original.onnx"
    if not original.exists():
        _export(network, kind, original, small)
    found = [Contestant("original", original)]
    found += [
        _folded(tool, original, home / f"{tool}.onnx", Path(sys.executable) if tool == "bnfold" else python) for tool in TOOLS
    ]
    return [*found, _ideal(network, kind, home / "by_hand.onnx", small)]


def _export(network: str, kind: str, path: Path, small: bool, folded: bool = False) -> None:
    known = NETWORKS[network]
    module, example = known.build(small=small), known.example(small=small)
    if folded:
        module = fuse(module)
    if kind == "float16":
        module, example = module.half(), example.half()
    export(module, path, example, raw=kind == "raw" and not folded, input_name=known.input, output_name=known.output)
    if kind == "inputs" and not folded:
        model = onnx.load(path)
        values = [onnx.helper.make_tensor_value_info(each.name, each.data_type, each.dims) for each in model.graph.initializer]
        model.graph.input.extend(values)
        onnx.save(model, path)


def _folded(tool: str, source: Path, destination: Path, python: Path) -> Contestant:
    told = destination.with_suffix(".failure")
    if not destination.exists() and not told.exists():
        failure = _run(tool, source, destination, python)
        if failure:
            told.write_text(failure, "utf-8")
    return Contestant(tool, destination) if destination.exists() else Contestant(tool, None, told.read_text("utf-8"))


def _run(tool: str, source: Path, destination: Path, python: Path) -> str:
    """Lets one tool fold a file. Returns why it did not."""
    command = [python, "-m", "benchmarks.fold_file", tool, source, destination]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"took more than {_TIMEOUT_S} s"
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return f"exit {done.returncode}: {last[:200]}" if done.returncode else ""


def _ideal(network: str, kind: str, path: Path, small: bool) -> Contestant:
    """Folded in PyTorch before the export, by torch.fx's own fusion of Conv and BatchNorm."""
    if not path.exists():
        try:
            _export(network, kind, path, small, folded=True)
        except Exception as error:  # whatever torch.fx cannot trace
            return Contestant(IDEAL, None, f"torch.fx: {type(error).__name__}: {str(error).splitlines()[0][:150]}")
    return Contestant(IDEAL, path)
