"""What a rule may ask about the model: the view, its shapes and its constants, in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnx_graphsurgeon as gs

from bnfold.constants import Constants
from bnfold.graph import View, describe
from bnfold.shapes import Shapes
from bnfold.verdict import Reason
from bnfold.weights import FLOAT_TYPES, Weight, type_name

FREEZE = "If nobody overrides it, use --freeze-initializers (freeze_initializers=True)."


class Context:
    """A view with everything that is known of it, and what the user said about it.

    `kept` holds the ids of nodes that are to stay exactly as they are, `forms` and `normalizations` what `bnfold.parameters` has
    read of their attributes and their constants, and `traces` what `bnfold.trace` has noted of the folds.

    Args:
        proto: the model; only read.
        folder: where its external data lies.
        freeze_initializers: treat initializers that are also graph inputs as constants.
        force: take folds that do not pay, too.
    """

    def __init__(
        self, proto: onnx.ModelProto, folder: Path | None = None, freeze_initializers: bool = False, force: bool = False
    ) -> None:
        self.force = force
        self.kept: set[int] = set()
        self.forms: dict[int, Any] = {}
        self.normalizations: dict[tuple[Any, ...], Any] = {}
        self.traces: list[Any] = []
        self.view = View(proto, folder, freeze_initializers)
        self.shapes = Shapes(self.view)
        self.constants = Constants(self.view, self.shapes)

    def float_weight(self, tensor: gs.Tensor) -> Weight | Reason:
        """The constant of float type at `tensor`, or why there is none (BNF006, BNF019)."""
        weight = self.constants.weight(tensor)
        if weight is None:
            return self._not_constant(tensor)
        if weight.elem_type not in FLOAT_TYPES:
            return Reason("BNF019", f"`{tensor.name}` is of type {type_name(weight.elem_type)}, which cannot hold a folded value")
        return weight

    def _not_constant(self, tensor: gs.Tensor) -> Reason:
        if id(tensor) in self.view.overridable:
            return Reason("BNF006", f"`{tensor.name}` is an initializer that a caller may override", FREEZE)
        producer = self.view.producer(tensor)
        if producer is None:
            return Reason("BNF006", f"`{tensor.name}` is not a constant: it is fed at run time")
        return Reason("BNF006", f"`{tensor.name}` is not a constant: {describe(producer)} computes it")

    def other_readers(self, tensor: gs.Tensor, reader: gs.Node) -> Reason | None:
        """Why `tensor` is not `reader`'s alone (BNF004); None where it is."""
        if id(tensor) in self.view.escaping:
            return Reason("BNF004", f"`{tensor.name}` is also an output of the graph")
        home = self.view.scope(reader)
        reads = 0
        for each in self.view.readers(tensor):
            if self.constants.is_plumbing(each):  # CastLike of a constant: it reads the type alone
                continue
            reads += each is reader
            if each is not reader or reads > 1:
                where = "" if self.view.scope(each) is home else f" in {self.view.scope(each).name}"
                return Reason("BNF004", f"`{tensor.name}` is also read by {describe(each)}{where}")
        return None
