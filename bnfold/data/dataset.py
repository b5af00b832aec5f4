"""A data set as the rest of bnfold sees it: samples from a reader, preprocessed one by one, stacked into batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bnfold.errors import InputError

Inputs: TypeAlias = Mapping[str, NDArray[Any]]
"""Input name → one sample without the batch dimension. The name "" stands for the model's only input."""

Sample: TypeAlias = tuple[Inputs, Any]
"""The inputs of one sample and its label; None for a sample without one."""

Preprocess: TypeAlias = Callable[[Inputs], Inputs]


class Reader(Protocol):
    """One format."""

    @property
    def name(self) -> str:
        """The data set in messages and reports."""

    @property
    def count(self) -> int | None:
        """How many samples there are; None where only reading to the end would tell."""

    @property
    def sequential(self) -> bool:
        """Whether reaching a sample means reading all before it, and reading is cheap.

        One process reads such data for all; the samples of other readers are decoded by the processes that need them.
        """

    def samples(self, start: int) -> Iterator[Sample]:
        """All samples from the position `start` on."""

    def digest(self) -> str:
        """SHA-256 of the content, in hexadecimal."""

    def identity(self) -> str:
        """What must be unchanged for a run to be resumed: the digest, or something that can be had without a full read."""


@dataclass(frozen=True)
class Batch:
    """Consecutive samples.

    Attributes:
        inputs: input name → array `[n, …]`; the name "" stands for the model's only input.
        labels: `[n, …]`; None for data without labels.
        start: position of the first sample in the data set.
    """

    inputs: dict[str, NDArray[Any]]
    labels: NDArray[Any] | None
    start: int

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))


@dataclass(frozen=True)
class Data:
    """A data set with its preprocessing.

    Attributes:
        reader: where the samples come from.
        preprocess: what is done to each sample.
        preprocessing: its name, as stated by the user; "" where nothing was stated.
    """

    reader: Reader
    preprocess: Preprocess = field(default=lambda inputs: inputs)
    preprocessing: str = ""

    @property
    def name(self) -> str:
        """What messages and reports call the data set."""
        return self.reader.name

    @property
    def count(self) -> int | None:
        """How many samples there are; None where only reading to the end would tell."""
        return self.reader.count

    @property
    def sequential(self) -> bool:
        """Whether one process should read for all: see `Reader`."""
        return self.reader.sequential

    def sha256(self) -> str:
        """SHA-256 of the data before preprocessing, in hexadecimal: of the file, of the list of files with their hashes
        where there are several, of the samples where a function makes them.

        Raises:
            InputError: a file cannot be read.
        """
        return self.reader.digest()

    def batches(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """Samples `start` to `stop` (all by default) in batches of `size`; the last may be smaller.

        Raises:
            InputError: a sample cannot be read or preprocessed, or does not stack with its neighbours.
        """
        samples = self.reader.samples(start)
        if stop is not None:
            samples = islice(samples, max(0, stop - start))
        position = start
        while chunk := list(islice(samples, size)):
            ready = [self._prepared(inputs, position + offset) for offset, (inputs, _) in enumerate(chunk)]
            yield Batch(self._stacked(ready, position), self._labels([label for _, label in chunk], position), position)
            position += len(chunk)

    def _prepared(self, inputs: Inputs, position: int) -> Inputs:
        try:
            return self.preprocess(inputs)
        except InputError as error:
            raise InputError(f"{self.name}, sample {position}: {error}") from error

    def _stacked(self, samples: list[Inputs], position: int) -> dict[str, NDArray[Any]]:
        described = {
            ", ".join(f"{name} {array.dtype} {list(array.shape)}".strip() for name, array in each.items()) for each in samples
        }
        if len(described) > 1:
            first, other = sorted(described)[:2]
            raise InputError(
                f"{self.name}: samples {position} to {position + len(samples) - 1} do not stack: one is {first}, "
                f"another {other}. State a preprocessing that brings all to one size: --preprocess."
            )
        return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}

    def _labels(self, labels: list[Any], position: int) -> NDArray[Any] | None:
        if labels[0] is None:
            return None
        try:
            return np.stack([np.asarray(label) for label in labels])
        except ValueError:
            last = position + len(labels) - 1
            raise InputError(f"{self.name}: the labels of samples {position} to {last} differ in shape.") from None
