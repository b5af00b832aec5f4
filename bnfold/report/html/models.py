"""The two models that a report is about, as far as its pictures need them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bnfold.errors import BnfoldError
from bnfold.model import Model, external_tensors
from bnfold.ranges import WeightRange, weight_ranges
from bnfold.report.html.index import Index, indices

MOST_BYTES = 1 << 30
"""Weight ranges are shown of models up to this size: both are read for them."""


@dataclass(frozen=True)
class Shown:
    """One model that pictures are drawn of.

    Attributes:
        model: without its large weights.
        is_gone: whether its file has been replaced since it was read, so that only the weights inside it are left.
    """

    model: Model
    is_gone: bool = False

    @cached_property
    def graphs(self) -> Mapping[str, Index]:
        """Its graphs by scope."""
        return indices(self.model.proto)

    @property
    def files(self) -> list[str]:
        """Its external data."""
        return [] if self.is_gone else [str(path) for path in self.model.external_files()]

    @property
    def has_weights(self) -> bool:
        """Whether its weights can be read."""
        return not self.is_gone or next(external_tensors(self.model.proto), None) is None


def shown(path: str | None, *, is_gone: bool = False) -> Shown | None:
    """Reads a model to draw; None where it is not there or cannot be read, which a report gets along with."""
    if not path:
        return None
    try:
        return Shown(Model.open(Path(path)), is_gone)
    except BnfoldError:
        return None


def changed_ranges(before: Shown | None, after: Shown | None) -> tuple[WeightRange, ...] | None:
    """The weight ranges that differ between two models; None where they are too large, or not at hand."""
    if before is None or after is None or not (before.has_weights and after.has_weights):
        return None
    if not before.is_gone and before.model.size_bytes > MOST_BYTES:
        return None
    try:
        return tuple(one for one in weight_ranges(before.model, after.model) if one.is_changed)
    except BnfoldError:
        return None
