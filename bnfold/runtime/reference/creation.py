"""Tensors out of nothing: constants, ranges, identity matrices."""

from __future__ import annotations

import numpy as np

from bnfold.runtime.reference.call import Call, Operator
from bnfold.runtime.reference.value import FLOAT, INT64, STRING, Array, Tensor, tensor_of, typed


def constant(call: Call) -> Tensor:
    """The value of whichever attribute is set."""
    ((name, value),) = call.attributes.items()
    if isinstance(value, Tensor):
        return value
    if name.startswith("value_string"):
        return Tensor(np.asarray(value, object), STRING)
    return tensor_of(np.asarray(value, np.float64), FLOAT) if "float" in name else tensor_of(np.asarray(value, np.int64), INT64)


def constant_of_shape(call: Call, shape: Tensor) -> Tensor:
    """`value` everywhere, float32 zero by default."""
    value = call.get("value", Tensor(np.zeros(1), FLOAT))
    return Tensor(np.full(shape.ints(), value.scalar(), value.array.dtype), value.elem_type)


def range_of(call: Call, start: Tensor, limit: Tensor, delta: Tensor) -> Array:
    """`start + i·delta` for i below `ceil((limit − start)/delta)`."""
    first, step = start.scalar(), delta.scalar()
    count = max(0, int(np.ceil((limit.scalar() - first) / step)))
    return np.asarray(first + np.arange(count) * step)


def eye_like(call: Call, X: Tensor) -> Tensor:
    """Ones on diagonal `k` of a matrix of X's shape."""
    return typed(np.eye(X.shape[0], X.shape[1], call.integer("k")), call.integer("dtype", X.elem_type))


OPERATORS: dict[str, Operator] = {
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "EyeLike": eye_like,
    "Range": range_of,
}
