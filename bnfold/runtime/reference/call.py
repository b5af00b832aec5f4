"""What an operator is told beside its inputs, and how one is entered in the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from bnfold.errors import InputError
from bnfold.runtime.reference.value import Array, Tensor, Value


class CannotEvaluate(InputError):
    """A node is beyond the reference, or it is wrong: the message names it."""


Result: TypeAlias = "Array | Tensor | list[Value] | tuple[Array | Tensor | Value, ...] | None"
"""What an operator returns: an array of the first input's declared type, a tensor, a sequence, or a tuple of several outputs."""

Operator: TypeAlias = Callable[..., Result]
"""A function of a `Call` and the node's inputs; absent inputs are None."""


@dataclass(frozen=True)
class Call:
    """One execution of a node.

    Attributes:
        op_type: the operator.
        attributes: name → decoded value: strings as str, tensors as `Tensor`.
        opset: version of the operator's domain.
        outputs: how many outputs are named, counted up to the last named one.
        run_body: runs the graph in an attribute on given inputs, and returns its outputs.
        bodies: the graphs in its attributes.
    """

    op_type: str
    attributes: Mapping[str, Any]
    opset: int
    outputs: int = 1
    run_body: Callable[[str, Sequence[Value]], list[Value]] | None = None
    bodies: Mapping[str, Any] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        """Whether the attribute is set."""
        return name in self.attributes

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or its default."""
        return self.attributes.get(name, default)

    def integer(self, name: str, default: int = 0) -> int:
        """An integer attribute."""
        return int(self.attributes.get(name, default))

    def number(self, name: str, default: float) -> float:
        """A float attribute. They are float32, and so are their defaults: 1e-5 is 9.99999974737875e-06."""
        return float(self.attributes.get(name, np.float32(default)))

    def integers(self, name: str, default: Sequence[int] = ()) -> list[int]:
        """A list of integers."""
        return [int(each) for each in self.attributes.get(name, default)]

    def text(self, name: str, default: str = "") -> str:
        """A string attribute."""
        return str(self.attributes.get(name, default))

    def body(self, name: str, inputs: Sequence[Value]) -> list[Value]:
        """Runs the graph in attribute `name`."""
        assert self.run_body is not None
        return self.run_body(name, inputs)

    def declared_outputs(self, name: str) -> Sequence[tuple[int, tuple[int, ...]]]:
        """Element type and extents that the graph in attribute `name` declares for its outputs; 0 where it does not say."""
        declared: Sequence[tuple[int, tuple[int, ...]]] = self.bodies[name].declared
        return declared

    def refuse(self, what: str) -> CannotEvaluate:
        """The error for a form of the operator that is not covered."""
        return CannotEvaluate(f"{self.op_type} with {what} is beyond the float64 reference")


def axes_of(call: Call, axes: Tensor | None, name: str = "axes") -> list[int] | None:
    """Axes from the input that newer opsets have, or from the attribute of older ones; None where neither is given."""
    if axes is not None:
        return axes.ints()
    return call.integers(name) if call.has(name) else None
