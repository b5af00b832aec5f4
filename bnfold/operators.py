"""Names of operators, and of their default domain, that more than one module goes by."""

from __future__ import annotations

from typing import Any

DEFAULT_DOMAINS = ("", "ai.onnx")
"""The names of the default operator domain."""

PRIMITIVES = frozenset({"Add", "Div", "Mul", "Neg", "Sub"})
"""What a normalization can be written in."""

EVALUATED = frozenset(
    {
        "Add",
        "Cast",
        "CastLike",
        "Concat",
        "ConstantOfShape",
        "Div",
        "Expand",
        "Gather",
        "Identity",
        "Mul",
        "Neg",
        "Pow",
        "Reciprocal",
        "Reshape",
        "Shape",
        "Slice",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Transpose",
        "Unsqueeze",
    }
)
"""The operators whose results are constants when their operands are (`bnfold.constants`)."""


def default_opset(imports: Any) -> int:
    """The version of the default domain that a model's or function's `opset_import` asks for; 0 where it does not say."""
    return max((each.version for each in imports if each.domain in DEFAULT_DOMAINS), default=0)
