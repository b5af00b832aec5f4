"""Constants wherever exporters put them: one function that sees through small pure subgraphs.

Arithmetic on float constants runs in float64, so that an epsilon is not lost in float16; only a Cast rounds. PyTorch's exporter
with `optimize=False` writes an absent bias as `Expand(CastLike(0, x), Shape(W)[0:1])`: CastLike needs only the *type* of x. For a
BatchNorm without scale and shift (`affine=False`) it takes `Shape(x)[1:2]`, of x itself, whose channels are known all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from bnfold.graph import View
from bnfold.shapes import Shapes
from bnfold.weights import FLOAT_TYPES, Computed, Stored, Weight, round_to

Array: TypeAlias = NDArray[Any]

_INT64 = onnx.TensorProto.INT64
_INTEGERS = {
    onnx.TensorProto.DataType.Value(name)
    for name in ("BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
}


class Constants:
    """Knows which tensors of a view are constant, and what they hold.

    Args:
        view: the model.
        shapes: its shapes; CastLike asks for an element type.
    """

    def __init__(self, view: View, shapes: Shapes) -> None:
        self._view = view
        self._shapes = shapes
        self._foldable: set[int] = set()
        known = -1
        while known != len(self._foldable):  # more than once only if it helps: onnxruntime takes unsorted graphs as well
            known = len(self._foldable)
            self._mark_pure_nodes()

    def is_constant(self, tensor: gs.Tensor) -> bool:
        """Whether the tensor's value does not depend on what a caller feeds."""
        if self._view.stored(tensor) is not None:
            return True
        producer = self._view.producer(tensor)
        return producer is not None and id(producer) in self._foldable

    def is_plumbing(self, node: gs.Node) -> bool:
        """Whether `node` does nothing but compute a constant."""
        return id(node) in self._foldable

    def weight(self, tensor: gs.Tensor) -> Weight | None:
        """The constant at `tensor`; None where it depends on the inputs, is no dense number, or cannot be evaluated."""
        stored = self._view.stored(tensor)
        if stored is not None:
            return stored
        pending = [tensor]
        while pending:
            top = pending[-1]
            if self._view.stored(top) is not None:
                pending.pop()
                continue
            node = self._view.producer(top)
            if node is None or id(node) not in self._foldable:
                return None
            missing = [each for each in self._operands(node) if self._view.stored(each) is None]
            if missing:
                pending.extend(missing)
                continue
            result = self._evaluate(node)
            if result is None:
                return None
            self._view.remember(top, result)
            pending.pop()
        return self._view.stored(tensor)

    def _operands(self, node: gs.Node) -> list[gs.Tensor]:
        op_type = self._view.op_type(node)
        if op_type == "Shape" and not self.is_constant(node.inputs[0]):
            return []
        return list(node.inputs[:1] if op_type == "CastLike" else node.inputs)

    def _mark_pure_nodes(self) -> None:
        for node in self._view.nodes():
            if id(node) not in self._foldable and self._is_pure(node):
                self._foldable.add(id(node))

    def _is_pure(self, node: gs.Node) -> bool:
        op_type = self._view.op_type(node)
        if op_type == "Constant":
            return len(node.outputs) == 1 and self._view.stored(node.outputs[0]) is not None
        if op_type not in _EVALUATORS or len(node.outputs) != 1 or self._view.attribute_reference(node):
            return False
        if not node.inputs or any(each.is_empty() for each in node.inputs):
            return False
        if op_type == "Shape" and not self.is_constant(node.inputs[0]):
            return self._fixed_extents(node) is not None
        return all(self.is_constant(each) for each in self._operands(node))

    def _fixed_extents(self, node: gs.Node) -> Array | None:
        """What a Shape with an end gives for a computed tensor; None where an extent is open, or only claimed."""
        end = self._view.attribute(node, "end")
        extents = self._shapes.proved_extents(node.inputs[0]) if end is not None else None
        wanted = extents[self._view.attribute(node, "start", 0) : end] if extents is not None else None
        if wanted is None or not all(isinstance(extent, int) for extent in wanted):
            return None
        return np.asarray(wanted, np.int64)

    def _evaluate(self, node: gs.Node) -> Weight | None:
        op_type = self._view.op_type(node)
        operands = [self._view.stored(each) for each in self._operands(node)]
        weights = [weight for weight in operands if weight is not None]
        if op_type == "Identity":
            return weights[0]
        elem_type = self._result_type(node, op_type, weights)
        if elem_type is None:
            return None
        if op_type == "Shape":
            extents = _shape(self._view, node, weights[0].shape) if weights else self._fixed_extents(node)
            return Computed(extents, elem_type) if extents is not None else None
        legacy = self._view.opset(node) < 7 and op_type in ("Add", "Sub", "Mul", "Div", "Pow")
        if legacy and len({weight.shape for weight in weights}) > 1:
            return None  # broadcasting by `axis`, which nothing writes constants with
        try:
            with np.errstate(all="ignore"):
                array = _EVALUATORS[op_type](self._view, node, [_operand(weight, op_type) for weight in weights])
        except (ValueError, IndexError, TypeError):
            return None  # the model is wrong here; onnxruntime will say so better than a guess would
        return Computed(_stored_as(np.asarray(array), elem_type, op_type), elem_type)

    def _result_type(self, node: gs.Node, op_type: str, weights: list[Weight]) -> int | None:
        if op_type == "CastLike":
            return _castable(self._shapes.elem_type(node.inputs[1]))
        if op_type == "Cast":
            return _castable(int(self._view.attribute(node, "to", 0)))
        if op_type == "Shape":
            return _INT64
        if op_type == "ConstantOfShape":
            value = self._view.attribute(node, "value")
            return int(value.data_type) if value is not None else onnx.TensorProto.FLOAT
        return weights[0].elem_type


def _castable(elem_type: int | None) -> int | None:
    """The type, if casting to it has no rules of its own, as saturation for the 8-bit floats."""
    return elem_type if elem_type in FLOAT_TYPES or elem_type in _INTEGERS else None


def _operand(weight: Weight, op_type: str) -> Array:
    """The value of an operand. A Cast sees it as the model has it: 0.7 · 10 in float32 is 7, and truncates to that."""
    values = weight.values()
    if op_type not in ("Cast", "CastLike") or weight.elem_type not in FLOAT_TYPES:
        return values
    return round_to(values, weight.elem_type).astype(np.float64)


def _stored_as(array: Array, elem_type: int, op_type: str) -> Array:
    if elem_type in FLOAT_TYPES:
        wide = array.astype(np.float64)
        return round_to(wide, elem_type).astype(np.float64) if op_type in ("Cast", "CastLike") else wide
    return array.astype(onnx.helper.tensor_dtype_to_np_dtype(elem_type))


def _shape(view: View, node: gs.Node, shape: tuple[int, ...]) -> Array:
    start, end = view.attribute(node, "start", 0), view.attribute(node, "end", None)
    return np.asarray(shape[start:end], np.int64)


def _expand(view: View, node: gs.Node, operands: list[Array]) -> Array:
    shape = np.broadcast_shapes(operands[0].shape, tuple(int(extent) for extent in operands[1]))
    return np.broadcast_to(operands[0], shape)


def _reshape(view: View, node: gs.Node, operands: list[Array]) -> Array:
    wanted = operands[1] if len(operands) > 1 else view.attribute(node, "shape")
    keep_zero = bool(view.attribute(node, "allowzero", 0))
    shape = [operands[0].shape[axis] if extent == 0 and not keep_zero else int(extent) for axis, extent in enumerate(wanted)]
    return operands[0].reshape(shape)


def _axes(view: View, node: gs.Node, operands: list[Array]) -> tuple[int, ...] | None:
    found = operands[1] if len(operands) > 1 else view.attribute(node, "axes")
    return tuple(int(axis) for axis in found) if found is not None else None


def _squeeze(view: View, node: gs.Node, operands: list[Array]) -> Array:
    return np.squeeze(operands[0], _axes(view, node, operands))


def _unsqueeze(view: View, node: gs.Node, operands: list[Array]) -> Array:
    axes = _axes(view, node, operands)
    if axes is None:
        raise ValueError("Unsqueeze without axes")
    return np.expand_dims(operands[0], axes)


def _transpose(view: View, node: gs.Node, operands: list[Array]) -> Array:
    return np.transpose(operands[0], view.attribute(node, "perm"))


def _concat(view: View, node: gs.Node, operands: list[Array]) -> Array:
    return np.concatenate(operands, view.attribute(node, "axis", 1))


def _gather(view: View, node: gs.Node, operands: list[Array]) -> Array:
    return np.take(operands[0], operands[1].astype(np.int64), view.attribute(node, "axis", 0))


def _slice(view: View, node: gs.Node, operands: list[Array]) -> Array:
    if view.opset(node) < 10:
        starts, ends = view.attribute(node, "starts"), view.attribute(node, "ends")
        axes = view.attribute(node, "axes") or range(len(starts))
        steps = [1] * len(starts)
    else:
        starts, ends, *rest = (operand.tolist() for operand in operands[1:])
        axes = rest[0] if rest else range(len(starts))
        steps = rest[1] if len(rest) > 1 else [1] * len(starts)
    index = [slice(None)] * operands[0].ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 1:
            raise ValueError("backward Slice")
        index[axis] = slice(start, end, step)
    return operands[0][tuple(index)]


def _constant_of_shape(view: View, node: gs.Node, operands: list[Array]) -> Array:
    value = view.attribute(node, "value")
    fill = Stored(value, view.folder).values().reshape(()) if value is not None else np.float64(0)
    return np.broadcast_to(fill, tuple(int(extent) for extent in operands[0]))


def _elementwise(function: Callable[..., Any]) -> Callable[[View, gs.Node, list[Array]], Array]:
    return lambda view, node, operands: np.asarray(function(*operands))


def _divide(numerator: Array, denominator: Array) -> Array:
    if np.issubdtype(numerator.dtype, np.floating):
        return np.asarray(numerator / denominator)
    return np.asarray(np.trunc(numerator / denominator))  # integer Div truncates


_EVALUATORS: dict[str, Callable[[View, gs.Node, list[Array]], Array]] = {
    "Add": _elementwise(np.add),
    "Cast": _elementwise(np.asarray),
    "CastLike": _elementwise(np.asarray),
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _elementwise(_divide),
    "Expand": _expand,
    "Gather": _gather,
    "Identity": _elementwise(np.asarray),
    "Mul": _elementwise(np.multiply),
    "Neg": _elementwise(np.negative),
    "Pow": _elementwise(np.power),
    "Reciprocal": _elementwise(lambda x: 1.0 / x),
    "Reshape": _reshape,
    "Shape": _elementwise(np.asarray),  # answered from the shape alone, without reading the weight
    "Slice": _slice,
    "Sqrt": _elementwise(np.sqrt),
    "Squeeze": _squeeze,
    "Sub": _elementwise(np.subtract),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
