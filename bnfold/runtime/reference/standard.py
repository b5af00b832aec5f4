"""Operators that ONNX itself defines as functions of others: what the standard's body says is evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx

from bnfold.runtime.reference.call import Call
from bnfold.runtime.reference.program import decoded
from bnfold.runtime.reference.value import Tensor, Value

NAMES = frozenset(
    {
        "AffineGrid",
        "Attention",
        "CausalConvWithState",
        "DynamicQuantizeLinear",
        "LinearAttention",
        "NegativeLogLikelihoodLoss",
        "RotaryEmbedding",
        "SoftmaxCrossEntropyLoss",
        "SwiGLU",
    }
)
"""Operators whose body is right in float64, as the ONNX node tests show. Bodies come with the installed `onnx`."""


def is_defined(op_type: str, opset: int) -> bool:
    """Whether the installed `onnx` has a body for the operator at `opset`."""
    if op_type not in NAMES or opset > onnx.defs.onnx_opset_version() or not onnx.defs.has(op_type, opset, ""):
        return False
    schema: Any = onnx.defs.get_schema(op_type, opset, "")
    return bool(schema.has_function or schema.has_context_dependent_function)


def body_of(call: Call, inputs: Sequence[Value], outputs: Sequence[str]) -> onnx.FunctionProto:
    """The function that the operator stands for, given its attributes, the types of its inputs and which outputs are named."""
    schema: Any = onnx.defs.get_schema(call.op_type, call.opset, "")
    if not schema.has_context_dependent_function:
        return _parsed(schema.get_function_with_opset_version(_version(call, schema.function_opset_versions)))
    names = ["" if each is None else f"input_{place}" for place, each in enumerate(inputs)]
    named = [f"output_{place}" if name else "" for place, name in enumerate(outputs)]
    node = onnx.helper.make_node(call.op_type, names, named, **call.attributes)
    types = [_type(each).SerializeToString() for each in inputs]
    version = _version(call, schema.context_dependent_function_opset_versions)
    built = schema.get_context_dependent_function_with_opset_version(version, node.SerializeToString(), types)
    if not built:
        raise call.refuse("attributes or types for which ONNX has no body")
    return _parsed(built)


def _version(call: Call, written_for: Sequence[int]) -> int:
    """The newest opset for which there is a body and that is not newer than the model's; the body imports what it needs."""
    return max(version for version in written_for if version <= call.opset)


def defaults_of(op_type: str, opset: int) -> dict[str, Any]:
    """The operator's attributes that have a default."""
    attributes = onnx.defs.get_schema(op_type, opset, "").attributes
    defaults = {name: each.default_value for name, each in attributes.items() if each.default_value.type}
    return {name: decoded(each) for name, each in defaults.items()}


def _parsed(content: bytes) -> onnx.FunctionProto:
    function: onnx.FunctionProto = onnx.FunctionProto.FromString(content)
    return function


def _type(value: Value) -> onnx.TypeProto:
    if not isinstance(value, Tensor):
        return onnx.TypeProto()
    return onnx.helper.make_tensor_type_proto(value.elem_type, value.shape)
