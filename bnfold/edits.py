"""Edits as data: what an operator answers when it takes part in a fold. `bnfold.plan` carries them out on the view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import onnx_graphsurgeon as gs

from bnfold.affine import Affine
from bnfold.weights import Computed, Weight


@dataclass(frozen=True, eq=False)
class Map:
    """An affine map on named axes of a tensor.

    Attributes:
        affine: the map; its arrays have one axis for each of `axes`.
        axes: the tensor's axes it varies along, counted from the front, ascending.
    """

    affine: Affine
    axes: tuple[int, ...]

    @property
    def channels(self) -> int:
        """The number of separately mapped channels."""
        return int(self.affine.scale.size)

    def scale_only(self) -> Map:
        """The same map without center and shift."""
        return Map(Affine.of(self.affine.scale), self.axes)


@dataclass(frozen=True, eq=False)
class SetConstant:
    """Input `index` of `node` becomes a new constant."""

    node: gs.Node
    index: int
    weight: Weight


@dataclass(frozen=True, eq=False)
class SetAttribute:
    """Attribute `name` of `node` becomes `value`."""

    node: gs.Node
    name: str
    value: Any


@dataclass(frozen=True, eq=False)
class MapInput:
    """A runtime value read as input `index` of `node` is mapped first: `scale·value + offset`, in two small nodes."""

    node: gs.Node
    index: int
    scale: Computed
    offset: Computed


Edit: TypeAlias = SetConstant | SetAttribute | MapInput


@dataclass(frozen=True, eq=False)
class Step:
    """An operator's yes: it can let the map at its output go backward.

    Attributes:
        edits: what changes at this operator.
        onward: (input index, map) pairs that must be taken further up.
        leaves_offset: the operator took the scale only, and whoever asked must add `affine.offset` itself.
    """

    edits: tuple[Edit, ...] = ()
    onward: tuple[tuple[int, Map], ...] = ()
    leaves_offset: bool = False
