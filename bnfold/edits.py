"""Maps on tensor axes, and edits as data: what an operator answers when it takes part in a fold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx_graphsurgeon as gs

from bnfold.affine import Affine
from bnfold.shapes import Extent
from bnfold.weights import Computed, Weight


@dataclass(frozen=True, eq=False, slots=True)
class Map:
    """An affine map on named axes of a tensor.

    Attributes:
        affine: the map; its arrays have one axis for each of `axes`.
        axes: the tensor's axes that it varies along, counted from the front, ascending. Empty for one map of all elements.
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

    def after(self, inner: Map) -> Map:
        """The composition `x ↦ self(inner(x))`, on the axes of both."""
        axes = tuple(sorted({*self.axes, *inner.axes}))
        rank = axes[-1] + 1 if axes else 0
        both = self.over(rank).after(inner.over(rank))
        shape = [both.shape[axis] for axis in axes]
        return Map(Affine.of(*(array.reshape(shape) for array in both.arrays)), axes)

    def on(self, axes: tuple[int, ...]) -> Map:
        """The same map on other axes, given in the order of this map's own; they may come in any order."""
        order = np.argsort(axes, kind="stable").tolist()
        arrays = (np.transpose(array, order) for array in self.affine.arrays)
        return Map(Affine.of(*arrays), tuple(axes[place] for place in order))

    def over(self, rank: int) -> Affine:
        """The map with arrays that broadcast against a tensor of `rank`."""
        extents = dict(zip(self.axes, self.affine.shape, strict=True))
        shape = [extents.get(axis, 1) for axis in range(rank)]
        return Affine.of(*(array.reshape(shape) for array in self.affine.arrays))

    def take(self, axis: int, start: int, stop: int, step: int = 1) -> Map:
        """The part of the map that lies on a slice of `axis`; the whole map when it does not vary along it."""
        if axis not in self.axes:
            return self
        index = [slice(None)] * len(self.axes)
        index[self.axes.index(axis)] = slice(start, stop, step)
        return Map(Affine.of(*(array[tuple(index)] for array in self.affine.arrays)), self.axes)

    def placed(self, axis: int, extent: int, start: int, step: int = 1) -> Map:
        """The map on a tensor of which only a slice of `axis` is mapped; the rest keeps its values.

        Args:
            axis: the sliced axis; a map of all elements, or one that lies on it, can be placed.
            extent: the whole tensor's extent along `axis`.
            start: where the slice begins.
            step: its step.
        """
        arrays = []
        for array, neutral in zip(self.affine.arrays, (1.0, 0.0, 0.0), strict=True):
            wide = np.full((extent,), neutral)
            wide[start : start + step * self.channels : step] = array
            arrays.append(wide)
        return Map(Affine.of(*arrays), (axis,))

    def reshaped(self, source: tuple[Extent, ...], target: tuple[Extent, ...]) -> Map | None:
        """The map on the same elements after a reshape, or None where that is not proved.

        Row-major order keeps a suffix of the axes together when its extents multiply to the same number, so the two shapes are
        cut into groups from the end. The map is followed through its groups element by element, by index and never by value:
        it ends on those axes along which the index of its channel changes.

        Args:
            source: the extents where the map lies.
            target: the extents after the reshape.
        """
        if not self.axes:
            return self
        found = _enclosing_group(source, target, self.axes)
        if found is None:
            return None
        (first, last), (start, stop) = found
        inside = [extent for extent in source[first:last] if isinstance(extent, int)]
        outside = [extent for extent in target[start:stop] if isinstance(extent, int)]
        shape = [extent if first + place in self.axes else 1 for place, extent in enumerate(inside)]
        if math.prod(shape) != self.channels:
            return None
        index = np.broadcast_to(np.arange(self.channels).reshape(shape), inside).reshape(outside)
        axes = []
        for place in range(len(outside)):
            if (index != np.take(index, [0], axis=place)).any():
                axes.append(start + place)
            else:
                index = np.take(index, [0], axis=place)
        flat = index.reshape([outside[axis - start] for axis in axes])
        return Map(Affine.of(*(array.ravel()[flat] for array in self.affine.arrays)), tuple(axes))


def _enclosing_group(
    source: tuple[Extent, ...], target: tuple[Extent, ...], axes: tuple[int, ...]
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The smallest runs of source and target axes that hold the same elements and cover `axes`, all extents known."""
    cuts = [(len(source), len(target))]
    while (group := _last_group(source[: cuts[-1][0]], target[: cuts[-1][1]])) is not None:
        cuts.append((cuts[-1][0] - group[0], cuts[-1][1] - group[1]))
    if cuts[-1] == (1, 1):  # one axis each is left, whatever its extent: they hold the same elements
        cuts.append((0, 0))
    starts = [cut for cut in cuts if cut[0] <= min(axes)]
    ends = [cut for cut in cuts if cut[0] > max(axes)]
    if not starts or not ends:
        return None
    (first, start), (last, stop) = starts[0], ends[-1]
    known = all(isinstance(extent, int) for extent in (*source[first:last], *target[start:stop]))
    return ((first, last), (start, stop)) if known else None


def _last_group(source: tuple[Extent, ...], target: tuple[Extent, ...]) -> tuple[int, int] | None:
    """How many axes at the end of each shape multiply to the same number; None where that is not known."""
    if not source or not target:
        return None
    left, right = source[-1], target[-1]
    if isinstance(left, str) and left == right:
        return 1, 1
    taken, given = 1, 1
    while isinstance(left, int) and isinstance(right, int) and left != right:
        if left < right:
            taken += 1
            left = _times(left, source, taken)
        else:
            given += 1
            right = _times(right, target, given)
    return (taken, given) if isinstance(left, int) and isinstance(right, int) else None


def _times(product: int, extents: tuple[Extent, ...], from_end: int) -> int | None:
    extent = extents[-from_end] if from_end <= len(extents) else None
    return product * extent if isinstance(extent, int) else None


@dataclass(frozen=True, eq=False, slots=True)
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
    """A runtime value read as input `index` of `node` is mapped first: `scale·value + offset`, in small nodes of their own."""

    node: gs.Node
    index: int
    scale: Computed
    offset: Computed

    @property
    def steps(self) -> list[tuple[str, Computed]]:
        """The operators that it takes, with their constants."""
        factor = [("Mul", self.scale)] if (self.scale.array != 1).any() else []
        return [*factor, ("Add", self.offset)] if self.offset.array.any() else factor


@dataclass(frozen=True, eq=False)
class AddOutput:
    """A constant is added to output 0 of `node`, in a new node of its own."""

    node: gs.Node
    offset: Computed


Edit: TypeAlias = SetConstant | SetAttribute | MapInput | AddOutput


@dataclass(frozen=True, eq=False, slots=True)
class Step:
    """An operator's yes: it can let the map that meets it through, or take it for good.

    Attributes:
        edits: what changes at this operator.
        onward: where maps must go from here: (input index, map) going backward, (output index, map) going forward.
        leaves_offset: going backward, the operator took the scale only, and whoever asked must add `affine.offset` itself.
    """

    edits: tuple[Edit, ...] = ()
    onward: tuple[tuple[int, Map], ...] = ()
    leaves_offset: bool = False
