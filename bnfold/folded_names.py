"""Finds the tensors of a model again after folding: what has kept its values, what is gone, and which weight became which.

    fold_map = bnfold.fold_map(bnfold.plan("model.onnx"))
    fold_map.tensor("bn1_out")             # "bn1_out": the Conv makes it now
    fold_map.tensor("conv1_out")           # None: the value before the normalization is nowhere any more
    fold_map.constants("conv1.weight")     # ("conv1.weight",): the name stayed, the values did not

A name alone does not tell. Where a map travels from a BatchNormalization through a Relu into a Conv, the tensors on its way keep
their names and hold other values. Tools that match two models by name, such as onnxruntime's `qdq_loss_debug`, would compare them
all the same; `FoldMap.carry` leaves them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from bnfold.verdict import Change, Plan

Known = TypeVar("Known")


class HasPlan(Protocol):
    """A `Report`, an `Inspection` or a `FoldResult`."""

    @property
    def plan(self) -> Plan:
        """What was decided."""


@dataclass(frozen=True)
class FoldMap:
    """From a model's names to those of the folded one: of its main graph and of the bodies in it, but not of local functions.

    Attributes:
        changes: what each fold did, in the order in which they were made.
    """

    changes: tuple[Change, ...]

    @property
    def lost(self) -> frozenset[str]:
        """The original's names under which the folded model has nothing, or other values."""
        tensors = {name for change in self._visible for name in (*change.gone, *change.moved)}
        return frozenset(tensors | {one.old for change in self._visible for one in change.constants if one.old == one.new})

    def tensor(self, name: str) -> str | None:
        """The folded model's name for the values that the original has as `name`; None where it does not compute them."""
        return None if name in self.lost else name

    def constants(self, old: str) -> tuple[str, ...]:
        """The folded model's constants that were made from the original's constant `old`; several where readers got copies."""
        made = [one.new for change in self._visible for one in change.constants if one.old == old]
        return tuple(dict.fromkeys(made))

    def original(self, new: str) -> str | None:
        """The original's constant that the folded model's `new` was made from: itself if no fold touched it, None if a fold made
        it from nothing, as the bias of a Conv that had none."""
        made = {one.new: one.old or None for change in self._visible for one in change.constants}
        return made.get(new, new)

    @property
    def _visible(self) -> tuple[Change, ...]:
        # A body's names differ from those around it, and a fold in a body may take a weight that the main graph holds.
        return tuple(change for change in self.changes if not change.scope.startswith("function "))

    def carry(self, known: Mapping[str, Known]) -> dict[str, Known]:
        """What is known of the original's tensors by name, for the folded model: without those that hold other values there.

        For activations that `qdq_loss_debug.collect_activations` collected, and for ranges that a calibrator found.
        """
        lost = self.lost
        return {name: value for name, value in known.items() if name not in lost}


def fold_map(decided: Plan | HasPlan) -> FoldMap:
    """The fold map of a plan, or of anything that holds one: a report of `optimize`, the result of `fold`.

    A model that is folded with the same options has the same plan, so `fold_map(plan(model))` fits a model that was folded
    elsewhere.
    """
    return FoldMap((decided if isinstance(decided, Plan) else decided.plan).changes)
