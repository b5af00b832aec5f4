"""The constants of a model, read when a node needs them, and kept only where they are few."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import onnx

from bnfold.runtime.reference.value import Array, Tensor
from bnfold.weights import Stored

_KEPT_BYTES = 1 << 29
"""How many bytes of float64 constants are kept from one run to the next; beyond that each is read again when it is needed."""


@dataclass(frozen=True, eq=False)
class Dense:
    """A sparse initializer, filled up with zeros when it is read.

    Attributes:
        values_of: the non-zero values.
        indices_of: where they lie: in the flat tensor, or one row of places each.
        shape: of the full tensor.
    """

    values_of: Stored
    indices_of: Stored
    shape: tuple[int, ...]

    @property
    def elem_type(self) -> int:
        """The type of the values."""
        return self.values_of.elem_type

    def values(self) -> Array:
        """The full tensor."""
        values, places = self.values_of.values(), self.indices_of.values()
        full = np.zeros(self.shape, values.dtype)
        full[tuple(places.T) if places.ndim > 1 else np.unravel_index(places, self.shape)] = values
        return full


Constant: TypeAlias = Stored | Dense


def dense(sparse: onnx.SparseTensorProto, folder: Path | None) -> Dense:
    """A sparse tensor of the model."""
    return Dense(Stored(sparse.values, folder), Stored(sparse.indices, folder), tuple(sparse.dims))


class Constants:
    """Reads constants, and keeps them while they fit into 512 MiB, each as long as the program that it belongs to lives."""

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[Constant, Tensor] = WeakKeyDictionary()

    def read(self, constant: Constant) -> Tensor:
        """The constant's values, read-only."""
        known = self._kept.get(constant)
        if known is not None:
            return known
        array = np.asarray(constant.values())
        array.flags.writeable = False
        tensor = Tensor(array, constant.elem_type)
        if array.nbytes + sum(each.array.nbytes for each in self._kept.values()) <= _KEPT_BYTES:
            self._kept[constant] = tensor
        return tensor
