"""PyTorch module to ONNX file, with every BatchNormalization left in place: `bnfold.export` without its checks."""

from pathlib import Path

import onnx
import torch

from bnfold.exporter.names import tidy as name_after_modules
from bnfold.exporter.plumbing import remove_plumbing
from bnfold.exporter.torch_calls import OPSET, dynamic_shapes, trace
from bnfold.exporter.torch_calls import to_onnx as write


def export(
    module: torch.nn.Module,
    path: Path,
    example: torch.Tensor,
    *,
    raw: bool = False,
    input_name: str = "image",
    output_name: str = "logits",
) -> None:
    """Writes `module` to `path`, with a dynamic batch axis `batch`.

    Args:
        module: a module in eval mode, so that normalizations use their moving averages.
        path: the file to write; weights are stored inside it.
        example: an input of the module; its batch size does not end up in the file, but must not be 1.
        raw: leave the file as `torch.onnx.export` wrote it. Otherwise it is cleaned (see `tidy`).
        input_name: what the input is called.
        output_name: what the output is called.
    """
    model = to_onnx(module, example, input_name, output_name)
    if not raw:
        tidy(model)
    save(model, path)


def to_onnx(
    module: torch.nn.Module, example: torch.Tensor, input_name: str = "image", output_name: str = "logits"
) -> onnx.ModelProto:
    """The model exactly as PyTorch's exporter makes it; the arguments are those of `export`."""
    if module.training:
        raise ValueError("export() needs a module in eval mode: call .eval() first")
    shapes = dynamic_shapes((example,), dynamic_batch=True)
    return write(trace(module, (example,), shapes), shapes, [input_name], [output_name], OPSET)


def save(model: onnx.ModelProto, path: Path) -> None:
    """Checks `model` and writes it to `path`; the same model gives the same bytes."""
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def tidy(model: onnx.ModelProto) -> None:
    """Takes out computed constants, such as absent biases, names nodes after their modules, and removes metadata."""
    remove_plumbing(model)
    name_after_modules(model)
