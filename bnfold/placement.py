"""Decides where new constants go: in the place of the old weight, or beside it. Part of the plan; `bnfold.apply` writes it down.

A folded weight takes the place of the old one, under its name, when nobody else reads that: same initializer or Constant node,
same doc string, same external file. Otherwise it becomes a new initializer where its reader stands, or a Constant node inside
functions, which have no initializers. Two folded weights that came from one by the same map are stored once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import onnx
import onnx_graphsurgeon as gs

from bnfold.graph import Scope, View
from bnfold.weights import Scaled, Stored, Weight


@dataclass(frozen=True, eq=False, slots=True)
class Placement:
    """Where one new constant is stored.

    Attributes:
        tensor: the constant, under its final name.
        weight: its values.
        scope: the scope of its reader.
        replaced: the stored tensor whose place it takes; None for a new initializer.
        origin: the view's tensor for `replaced`.
        node: the Constant node that holds it; None for an initializer.
    """

    tensor: gs.Tensor
    weight: Weight
    scope: Scope
    replaced: Stored | None = None
    origin: gs.Tensor | None = None
    node: gs.Node | None = None


def place_constants(view: View) -> Iterator[Placement]:
    """Names every new constant and says where it goes; Constant nodes are put into the view."""
    made: dict[tuple[int, tuple[bytes, ...]], Placement] = {}
    copies = Counter(id(origin) for each in view.new_constants() if (origin := view.origin(each)) is not None)
    annotated = _annotated(view)
    for scope in view.scopes:
        for reader, index, tensor in list(_new_constants(view, scope)):
            weight, origin = view.stored(tensor), view.origin(tensor)
            assert weight is not None
            shares = isinstance(weight, Scaled) and origin is not None and copies[id(origin)] > 1
            key = (id(origin), weight.key()) if isinstance(weight, Scaled) and shares else None
            same = made.get(key) if key is not None else None
            if same is not None and (same.replaced is not None or same.scope is scope):  # visible here
                view.set_input(reader, index, same.tensor)
                continue
            placement = _placement(view, scope, reader, tensor, weight, annotated)
            if key is not None:
                made[key] = placement
            yield placement


def _new_constants(view: View, scope: Scope) -> Iterator[tuple[gs.Node, int, gs.Tensor]]:
    for node in view.nodes_of(scope):
        for index, tensor in enumerate(node.inputs):
            if view.is_new(tensor):
                yield node, index, tensor


def _placement(view: View, scope: Scope, reader: gs.Node, tensor: gs.Tensor, weight: Weight, annotated: set[str]) -> Placement:
    origin = view.origin(tensor)
    stored = view.stored(origin) if origin is not None else None
    taken = origin is None or origin.name in annotated or id(origin) in view.replaced
    if origin is not None and not taken and isinstance(stored, Stored) and _is_free(view, origin, stored, weight):
        tensor.name = origin.name
        view.replaced.add(id(origin))
        return Placement(tensor, weight, scope, stored, origin)
    tensor.name = view.names.fresh(tensor.name)
    # Functions have no initializers, and before IR 4 those of a body would have to be its inputs.
    if scope.is_function or (view.proto.ir_version < 4 and scope.parent is not None):
        return Placement(tensor, weight, scope, node=view.insert_before(reader, "Constant", [], tensor))
    return Placement(tensor, weight, scope)


def _is_free(view: View, origin: gs.Tensor, stored: Stored, weight: Weight) -> bool:
    """Whether `origin` is a tensor of its own, of the same type, that nobody reads any more."""
    maker = view.producer(origin)
    own = maker is None or (view.op_type(maker) == "Constant" and maker.outputs[0] is origin)
    return own and not view.is_read(origin) and stored.elem_type == weight.elem_type


def _annotated(view: View) -> set[str]:
    """The tensors that quantization parameters are noted for: they would not fit the folded values."""
    graphs = (scope.proto for scope in view.scopes if isinstance(scope.proto, onnx.GraphProto))
    return {note.tensor_name for graph in graphs for note in graph.quantization_annotation}
