"""The networks that verification is measured on: those that ship, those built at test size, and real ones where present."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = {path.stem: path for path in sorted((ROOT / "models").glob("*.onnx"))}
SHARED = ROOT.parent / "shared" / "data" / "models"


def built(folder: Path, raw: bool = False, only: Collection[str] = ()) -> Iterator[tuple[str, Path]]:
    """Exports every network of models/networks.py, or those named, at test size into `folder`; none without PyTorch."""
    if find_spec("torch") is None or find_spec("onnxscript") is None:
        return
    import torch

    from models.export import export
    from models.networks import NETWORKS

    torch.set_num_threads(1)
    for name, network in NETWORKS.items():
        if only and name not in only:
            continue
        path = folder / f"{name}{'.raw' if raw else ''}.onnx"
        if not path.exists():
            module, example = network.build(small=True), network.example(small=True)
            export(module, path, example, raw=raw, input_name=network.input, output_name=network.output)
        yield path.name.removesuffix(".onnx"), path


def real() -> Iterator[tuple[str, Path]]:
    """Trained networks from elsewhere, where they lie beside the repository."""
    for path in sorted(SHARED.glob("*.onnx")):
        yield path.stem, path


def everything(folder: Path, only: Collection[str] = ()) -> Iterator[tuple[str, Path]]:
    """All of them, or those named; those that ship go by the names of their files, as some are built at another size as well."""
    yield from ((path.name, path) for path in SHIPPED.values() if not only or path.name in only)
    yield from built(folder, only=only)
    yield from ((name, path) for name, path in real() if not only or name in only)
