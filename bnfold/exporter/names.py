"""Names that lead back to the module, and nothing of the machine that the export ran on."""

from __future__ import annotations

import ast
from collections import Counter

import onnx
from google.protobuf.message import Message  # type: ignore[import-untyped]


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
        name = "/".join(filter(None, (module_path(node), node.op_type)))
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name]}"
        for position, output in enumerate(node.output):
            if output and output not in kept:
                new_names[output] = node.name if position == 0 else f"{node.name}:{position}"
    for node in graph.node:
        node.input[:] = [new_names.get(name, name) for name in node.input]
        node.output[:] = [new_names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                _rename_captures(body, new_names)
    shapes = [value for value in graph.value_info if value.name in new_names]  # an initializer has its own shape
    for value in shapes:
        value.name = new_names[value.name]
    del graph.value_info[len(shapes) :]
    for slot, value in zip(graph.value_info, shapes, strict=True):
        slot.CopyFrom(value)
    _strip(model)


def module_path(node: onnx.NodeProto) -> str:
    """The dotted path of the submodule that made `node`, as in `named_modules()`; "" for the module itself."""
    scopes = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), "['', '']")
    path = str(ast.literal_eval(scopes)[-2])
    return "" if path.startswith("_empty_nn_module_stack") else path


def _rename_captures(body: onnx.GraphProto, new_names: dict[str, str]) -> None:
    own = {value.name for value in (*body.input, *body.initializer)} | {name for node in body.node for name in node.output}
    outer = {old: new for old, new in new_names.items() if old not in own}
    for node in body.node:
        node.input[:] = [outer.get(name, name) for name in node.input]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename_captures(inner, outer)
    for value in body.output:
        value.name = outer.get(value.name, value.name)


def _strip(message: Message) -> None:
    """Clears metadata and doc strings of `message` and of all that it holds."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.type == field.TYPE_MESSAGE:
            for part in [value] if isinstance(value, Message) else value:
                _strip(part)
