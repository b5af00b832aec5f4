"""The training batches: from a data set, from an .npz file, or from the caller."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bnfold.data import Data, open_data
from bnfold.errors import InputError
from bnfold.runtime.feeds import given_feeds
from bnfold.runtime.source import ValueSpec
from bnfold.verdict import Note

Inputs: TypeAlias = str | os.PathLike[str] | Iterable[Mapping[str, Any]]
Values: TypeAlias = Mapping[str, Any]

BATCH = 64
"""Samples in a batch, where neither the user nor the model says."""

_SORTED = 0.5  # batches with less than this part of all classes
_CLASSES = 4  # fewer are too few to judge


@dataclass
class Stream:
    """Batches of one size.

    Attributes:
        specs: the inputs of the model.
        name: what the data are called.
        preprocessing: what is done to them, as the user said it.
        size: samples in a batch; 0 where the caller's batches have sizes of their own.
        batches: the batches, with labels where there are any.
        last: the last one that was used.
    """

    specs: tuple[ValueSpec, ...]
    name: str
    preprocessing: str
    size: int
    batches: Iterable[tuple[Values, NDArray[Any] | None]]
    last: Values = field(default_factory=dict)
    _classes: list[set[int]] = field(default_factory=list)

    def feeds(self, limit: int | None) -> Iterator[Values]:
        """At most `limit` whole batches, checked against the model's inputs."""
        done = 0
        for values, labels in self.batches:
            if limit is not None and done == limit:
                return
            (feed,) = given_feeds(self.specs, [values])
            if self.size and done and len(next(iter(feed.values.values()))) < self.size:
                return  # of statistics over batches of one size, a smaller last one is no part
            if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu":
                self._classes.append(set(np.unique(labels).tolist()))
            self.last, done = feed.values, done + 1
            yield feed.values

    def notes(self) -> list[Note]:
        """Whether the data came sorted by class (BNF026): batches of one class have other statistics than mixed ones."""
        everything = set().union(*self._classes)
        if len(self._classes) < 2 or len(everything) < _CLASSES:
            return []
        typical = sorted(len(classes) for classes in self._classes)[len(self._classes) // 2]
        most = min(len(everything), self.size)
        if typical >= _SORTED * most:
            return []
        sentence = f"the data come sorted: a batch of {self.size} holds {typical} of {len(everything)} classes"
        return [Note("BNF026", sentence, self.name)]


def open_stream(
    specs: tuple[ValueSpec, ...], data: str | None, preprocess: str | None, inputs: Inputs | None, batch: int | None
) -> Stream:
    """The batches that the user asked for.

    Raises:
        InputError: there are none, or they cannot be read, or the model fixes another batch size.
    """
    if (data is None) == (inputs is None):
        raise InputError("statistics need data: either --data (data=…) or --inputs (inputs=…), and not both.")
    size = _size(specs, batch)
    if data is not None:
        opened = open_data(data, preprocess)
        return Stream(specs, opened.name, preprocess or "", size, _of_data(opened, specs, size))
    assert inputs is not None
    if isinstance(inputs, str | os.PathLike):
        (whole,) = given_feeds(_open_batch(specs), inputs)
        return Stream(specs, Path(inputs).name, "", size, _slices(whole.values, size))
    return Stream(specs, "the given batches", "", 0, ((values, None) for values in inputs))


def _size(specs: Sequence[ValueSpec], batch: int | None) -> int:
    fixed = {spec.shape[0] for spec in specs if spec.shape and isinstance(spec.shape[0], int)}
    if batch is not None and batch < 1:
        raise InputError(f"batches of {batch} samples cannot be made. Choose 2 or more.")
    if len(fixed) != 1:
        return batch or BATCH
    (only,) = fixed
    if batch is not None and batch != only:
        raise InputError(
            f"the model takes batches of {only}, and not of {batch}. Leave out --batch, or export it with an open batch."
        )
    return int(only)


def _of_data(data: Data, specs: Sequence[ValueSpec], size: int) -> Iterator[tuple[Values, NDArray[Any] | None]]:
    for batch in data.batches(size):
        named = {specs[0].name: batch.inputs[""]} if set(batch.inputs) == {""} and len(specs) == 1 else batch.inputs
        yield named, batch.labels


def _slices(values: Values, size: int) -> Iterator[tuple[Values, None]]:
    counts = {len(array) for array in values.values()}
    if len(counts) != 1:
        raise InputError(f"the arrays hold {' and '.join(map(str, sorted(counts)))} samples. Each needs one row for each sample.")
    (count,) = counts
    for start in range(0, count, size):
        yield {name: array[start : start + size] for name, array in values.items()}, None


def _open_batch(specs: Sequence[ValueSpec]) -> tuple[ValueSpec, ...]:
    """The inputs with their first axis open: the file holds all samples, whatever the model's batch is."""
    return tuple(ValueSpec(spec.name, spec.type, (None, *spec.shape[1:]) if spec.shape else spec.shape) for spec in specs)
