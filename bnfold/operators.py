"""Names of operators that more than one module goes by."""

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
