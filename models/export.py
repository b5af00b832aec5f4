"""PyTorch module to ONNX file, with every BatchNormalization left in place."""

import ast
import logging
import warnings
from collections import Counter
from pathlib import Path

import onnx
import torch
from google.protobuf.message import Message

OPSET = 18  # the exporter's native opset: nothing is converted; onnxruntime reads it (IR 10) since 1.18


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
        raw: leave the file as `torch.onnx.export` wrote it. Otherwise names and metadata are tidied (see `tidy`).
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its own internals here; none concerns the caller
        logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            optimize=False,  # the optimizer folds constants, and with them the hand-written normalizations
            opset_version=OPSET,
            input_names=[input_name],
            output_names=[output_name],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def save(model: onnx.ModelProto, path: Path) -> None:
    """Checks `model` and writes it to `path`; the same model gives the same bytes."""
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def tidy(model: onnx.ModelProto) -> None:
    """Names nodes and their outputs after the module they come from, and removes metadata and doc strings.

    A node becomes `<module path>/<operator>`, such as `bn1/BatchNormalization`, or the operator alone outside of any
    submodule; repeated names are numbered. The metadata has to go because the exporter's stack traces hold absolute
    paths of the machine it ran on.
    """
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    seen: Counter[str] = Counter()
    new_names: dict[str, str] = {}
    for node in graph.node:
        name = "/".join(filter(None, (_module_path(node), node.op_type)))
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name]}"
        for position, output in enumerate(node.output):
            if output and output not in kept:
                new_names[output] = node.name if position == 0 else f"{node.name}:{position}"
    for node in graph.node:
        node.input[:] = [new_names.get(name, name) for name in node.input]
        node.output[:] = [new_names.get(name, name) for name in node.output]
    shapes = [value for value in graph.value_info if value.name in new_names]  # an initializer has its own shape
    for value in shapes:
        value.name = new_names[value.name]
    del graph.value_info[len(shapes) :]
    for slot, value in zip(graph.value_info, shapes, strict=True):
        slot.CopyFrom(value)
    _strip(model)


def _module_path(node: onnx.NodeProto) -> str:
    """The dotted path of the submodule that made `node`, as in `named_modules()`; empty for the module itself."""
    scopes = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), "['', '']")
    path = ast.literal_eval(scopes)[-2]
    return "" if path.startswith("_empty_nn_module_stack") else path


def _strip(message: Message) -> None:
    """Clears metadata and doc strings of `message` and of all that it holds."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.type == field.TYPE_MESSAGE:
            for part in [value] if isinstance(value, Message) else value:
                _strip(part)
