"""Makes the edits of a route on the view, and clears away what they leave unread."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from bnfold.affine import Affine, Float64
from bnfold.context import Context
from bnfold.edits import AddOutput, MapInput, SetAttribute, SetConstant
from bnfold.graph import View, optional_input
from bnfold.route import Route
from bnfold.sites import Site
from bnfold.weights import Computed, Stored

_LARGEST_STORED = 1 << 12  # elements; what is larger is left computed, so that no file grows


def commit(context: Context, site: Site, route: Route) -> None:
    """Makes the fold: the route's edits, and the normalization goes."""
    view = context.view
    make_edits(context, route)
    if route.forward:
        view.bypass_forward(site.source, site.nodes)
    elif route.offset is None:
        view.bypass_backward(site.source, site.nodes)
    else:  # a MatMul has no bias: what is left of the normalization is an Add
        replace_by_primitives(view, site, [("Add", route.offset)])


def make_edits(context: Context, route: Route) -> None:
    """Makes the edits alone, without touching the normalization."""
    view = context.view
    for edit in route.edits:
        if isinstance(edit, SetConstant):
            _set_constant(view, edit)
        elif isinstance(edit, SetAttribute):
            view.set_attribute(edit.node, edit.name, edit.value)
        elif isinstance(edit, AddOutput):
            _add_output(context, edit)
        else:
            _map_input(context, edit)


def _set_constant(view: View, edit: SetConstant) -> None:
    origin = optional_input(edit.node, edit.index)
    first = view.origin(origin) or origin if origin is not None else None
    name = f"{first.name}_folded" if first is not None else f"{edit.node.name or edit.node.outputs[0].name}.bias"
    view.set_input(edit.node, edit.index, view.new_constant(edit.weight, name, origin))


def _add_output(context: Context, edit: AddOutput) -> None:
    result = edit.node.outputs[0]
    offset = context.view.new_constant(edit.offset, f"{result.name}_offset")
    added = context.view.insert_behind(edit.node, "Add", offset)
    context.shapes.learn(added.inputs[0], context.shapes.extents(result), edit.offset.elem_type)


def _map_input(context: Context, edit: MapInput) -> None:
    view, elem_type = context.view, edit.scale.elem_type
    outer = Affine.of(edit.scale.array, 0.0, edit.offset.array)
    base, affine = _unmapped(context, edit.node.inputs[edit.index], edit.node, outer)
    composed = MapInput(edit.node, edit.index, Computed(affine.scale, elem_type), Computed(affine.offset, elem_type))
    known = context.shapes.extents(base)
    shape = np.broadcast_shapes([each for each in known if isinstance(each, int)], affine.shape) if known is not None else None
    tensor = base
    for op_type, weight in composed.steps:
        mapped = view.new_variable(f"{base.name}_{'scaled' if op_type == 'Mul' else 'shifted'}")
        context.shapes.learn(mapped, shape, weight.elem_type)
        constant = view.new_constant(weight, f"{mapped.name}_{op_type.lower()}")
        view.insert_before(edit.node, op_type, [tensor, constant], mapped)
        tensor = mapped
    view.set_input(edit.node, edit.index, tensor)


def _unmapped(context: Context, tensor: gs.Tensor, reader: gs.Node, outer: Affine) -> tuple[gs.Tensor, Affine]:
    """Takes out the nodes that an earlier fold mapped this value with: one Mul and one Add do for both."""
    view, gone = context.view, []
    node = view.producer(tensor)
    while node is not None and view.node_proto(node) is None and node.op in ("Mul", "Add"):
        constant = view.stored(node.inputs[1])
        if constant is None or context.other_readers(tensor, reader) is not None:
            break
        inner = Affine.of(constant.values()) if node.op == "Mul" else Affine.of(1.0, 0.0, constant.values())
        gone.append(node)
        outer, tensor, reader = outer.after(inner), node.inputs[0], node
        node = view.producer(tensor)
    for node in gone:
        view.remove(node)
    return tensor, outer


def replace_by_primitives(view: View, site: Site, steps: Sequence[tuple[str, Computed]]) -> None:
    """Puts primitives with constants in the place of a normalization, under the same output name."""
    tensor, result, last = site.source, site.result, site.nodes[-1]
    for node in site.nodes:
        view.remove(node)
    for place, (op_type, weight) in enumerate(steps):
        legacy = view.opset(last) < 7
        if legacy:  # broadcasting was by a contiguous run of axes from `axis` on, and a BatchNormalization maps from 1 on
            weight = Computed(_without_trailing_ones(weight.array), weight.elem_type)
        constant = view.new_constant(weight, f"{site.normalization.name}_{op_type.lower()}")
        made = result if place == len(steps) - 1 else view.new_variable(f"{result.name}_{op_type.lower()}")
        node = view.insert_before(last, op_type, [tensor, constant], made)
        if legacy:
            view.set_attribute(node, "broadcast", 1)
            view.set_attribute(node, "axis", 1)
        tensor = made


def _without_trailing_ones(values: Float64) -> Float64:
    while values.ndim > 1 and values.shape[-1] == 1:
        values = values[..., 0]
    return values


def store_type_casts(context: Context) -> None:
    """Stores the constants that only look computed: PyTorch's exporter writes `CastLike(0, x)`, where x lends its type alone.

    Runtimes take x for an operand, so they neither fold such a constant nor fuse the activation that has it as a bound.
    """
    view = context.view
    for node in list(view.nodes()):
        if id(node) in context.kept or context.constants.is_plumbing(node):
            continue
        for index, tensor in enumerate(node.inputs):
            if not _lends_a_type(context, tensor):
                continue
            weight = context.constants.weight(tensor)
            if weight is not None and math.prod(weight.shape) <= _LARGEST_STORED:
                view.set_input(node, index, view.new_constant(weight, tensor.name))


def _lends_a_type(context: Context, tensor: gs.Tensor) -> bool:
    """Whether a constant is computed by way of a CastLike to the type of something that is none."""
    pending, seen = [tensor], set()
    while pending:
        maker = context.view.producer(pending.pop())
        if maker is None or id(maker) in seen or not context.constants.is_plumbing(maker):
            continue
        seen.add(id(maker))
        if context.view.op_type(maker) == "CastLike" and not context.constants.is_constant(maker.inputs[1]):
            return True
        pending += maker.inputs
    return False


def prune(context: Context) -> None:
    """Takes out the constant plumbing that the folds left without a reader."""
    view = context.view
    origins = _origins_to_be_replaced(view)
    pending = list(view.released.values())
    while pending:
        tensor = pending.pop()
        node = view.producer(tensor)
        if node is None or id(node) in view.removed or not _makes_constant(context, node):
            continue
        if any(view.is_read(output) or id(output) in origins for output in node.outputs):
            continue
        view.remove(node)
        pending += list(node.inputs)


def _makes_constant(context: Context, node: gs.Node) -> bool:
    if context.constants.is_plumbing(node):
        return True
    return context.view.op_type(node) == "DequantizeLinear" and all(map(context.constants.is_constant, node.inputs))


def _origins_to_be_replaced(view: View) -> set[int]:
    """Constant nodes whose tensor a new constant will take the place of (see `bnfold.placement`)."""
    found = set()
    for tensor in view.new_constants():
        origin = view.origin(tensor)
        maker = view.producer(origin) if origin is not None else None
        if origin is None or maker is None or view.op_type(maker) != "Constant":
            continue
        weight, stored = view.stored(tensor), view.stored(origin)
        if isinstance(stored, Stored) and weight is not None and stored.elem_type == weight.elem_type:
            found.add(id(origin))
    return found
