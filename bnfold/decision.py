"""Decides what to fold in a model with as little effort as it allows: by a scan of its nodes, from its protos, or on a view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import onnx

from bnfold.choice import Choice
from bnfold.collector import paused
from bnfold.model import Model
from bnfold.plain import fold_plain
from bnfold.protos import keep
from bnfold.scan import plan_by_scan
from bnfold.verdict import Plan

if TYPE_CHECKING:
    from bnfold.weights import Weight

    Pending: TypeAlias = list[tuple[onnx.TensorProto, Weight]]


@dataclass(frozen=True)
class Decision:
    """What was decided about a model, and how it is put into effect.

    Attributes:
        plan: one verdict for each normalization.
        apply: makes the folds in the model's proto, with subnormal values flushed or not, and returns those that stay in
            external data; None where nothing folds.
    """

    plan: Plan
    apply: Callable[[bool], Pending] | None = None


def decide(model: Model, choice: Choice, freeze_initializers: bool, force: bool = False) -> Decision:
    """Decides about every normalization; the model is not changed.

    Args:
        model: the model.
        choice: what is to fold.
        freeze_initializers: treat initializers that are also graph inputs as constants.
        force: take folds that do not pay (BNF020), too.
    """
    scanned = plan_by_scan(model.proto, choice)
    if scanned is not None:
        return Decision(scanned)
    with paused(), np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        plain = fold_plain(model.proto) if choice.is_everything else None
        if plain is not None:
            return Decision(plain.plan, plain.apply)
        from bnfold.planner import fold_on_view  # the view takes a while to load, too

        return Decision(*fold_on_view(model, choice, freeze_initializers, force))


def carry_out(decision: Decision, model: Model, freeze_initializers: bool, flush_subnormals: bool = False) -> Pending:
    """Makes the folds in the model's proto.

    Args:
        decision: what was decided about this very model.
        model: the model; its proto changes.
        freeze_initializers: take the initializers out of the graph's inputs, so that no caller can override them.
        flush_subnormals: store folded values that are subnormal as zero (BNF009).

    Returns:
        The tensors that stay external data, with the values that they are about to get.
    """
    graph = model.proto.graph
    if freeze_initializers and model.proto.ir_version >= 4:  # before IR 4 none could be overridden
        names = {tensor.name for tensor in graph.initializer}
        keep(graph.input, lambda value: value.name not in names)
    with paused(), np.errstate(invalid="ignore"):
        return decision.apply(flush_subnormals) if decision.apply is not None else []
