"""What bnfold says about each normalization: exactly one `Fold` or `Refusal`. A "no" is a value, never an exception."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, TypeAlias


@dataclass(frozen=True)
class Note:
    """Something worth knowing that stops nothing, such as a weight that had to be copied (BNF016).

    Attributes:
        code: the stable code, `BNFnnn`.
        sentence: what was found, with the names in it.
        node: the node or tensor it is about.
        scope: the graph it is in; "" is the main graph.
    """

    code: str
    sentence: str
    node: str = ""
    scope: str = ""


@dataclass(frozen=True)
class Reason:
    """Why something cannot be done.

    Attributes:
        code: the stable code, `BNFnnn`.
        sentence: why, in words that continue "it stays because": "its input `t` is also read by Relu `r`".
        remedy: what would help; "" where nothing would.
    """

    code: str
    sentence: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Normalization:
    """One normalization of the model: which one it is and what stands around it.

    Attributes:
        name: the node's name, or its output tensor's where it has none.
        scope: the graph it is in: "" for the main graph, "if_1/then_branch" for a body, "function domain::name".
        op_type: "BatchNormalization", or the primitives that spell one, as "Sub, Div, Mul, Add".
        output: the tensor it produces. A fold into the operator before it keeps this name.
        producer: what makes its input, as "Conv conv1"; "" for a graph input.
        readers: what reads its output, as "Relu relu1"; "graph output" is one of them.
        channels: how many channels the map has; None when its parameters are not constant.
        epsilon: the epsilon used; None for a map that has none.
    """

    name: str
    scope: str
    op_type: str
    output: str
    producer: str = ""
    readers: tuple[str, ...] = ()
    channels: int | None = None
    epsilon: float | None = None


@dataclass(frozen=True, slots=True)
class NewConstant:
    """A constant that a fold changed or made.

    Attributes:
        operator: what reads it in the folded model, as "Conv `conv1`".
        input: as which of its inputs.
        old: the original's name of what it was made from; "" where there was nothing, as for a bias that was absent.
        new: its name in the folded model, which often is the same: the values differ all the same.
    """

    operator: str
    input: int
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Change:
    """What one fold did to the names of the graph: `bnfold.fold_map` reads it.

    Attributes:
        normalization: the name of what was folded.
        scope: the graph that it was in; "" is the main graph.
        output: the tensor that it made. After a fold into the operators before it, the tensor is still there with its values.
        into: the operators that took it, as "Conv `conv1`".
        gone: tensors of the original that the folded model does not have, as the former output of the Conv.
        moved: tensors that are still there and hold other values, as those on the way from the Conv to the normalization.
        constants: the constants that it changed or made.
    """

    normalization: str
    scope: str
    output: str
    into: tuple[str, ...]
    gone: tuple[str, ...]
    moved: tuple[str, ...]
    constants: tuple[NewConstant, ...]


@dataclass(frozen=True, slots=True)
class Fold:
    """This normalization goes into neighbouring operators.

    Attributes:
        normalization: which one.
        into: the operators that take it, as "Conv conv1".
        notes: remarks that come with this fold.
    """

    normalization: Normalization
    into: tuple[str, ...]
    notes: tuple[Note, ...] = ()
    kind: ClassVar[str] = "fold"


@dataclass(frozen=True)
class Refusal:
    """This normalization stays, and why.

    Attributes:
        normalization: which one.
        code: the stable code, `BNFnnn`.
        sentence: why, in one sentence that names nodes and tensors.
        remedy: what would let it fold; "" where nothing would.
        notes: further remarks, such as statistics that look untrained.
    """

    normalization: Normalization
    code: str
    sentence: str
    remedy: str = ""
    notes: tuple[Note, ...] = ()
    kind: ClassVar[str] = "refusal"


Verdict: TypeAlias = Fold | Refusal


@dataclass(frozen=True)
class Plan:
    """All verdicts of a model in graph order, computed without changing it.

    Attributes:
        verdicts: one for each normalization in every scope.
        operators_before: operator type → count over all scopes, as the model stands.
        operators_after: the same once the folds are applied.
        notes: remarks about the model that belong to no single normalization.
        changes: what the folds do to the names of the graph, in the order in which they are made.
    """

    verdicts: tuple[Verdict, ...]
    operators_before: dict[str, int] = field(default_factory=dict)
    operators_after: dict[str, int] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    changes: tuple[Change, ...] = ()

    @property
    def folds(self) -> tuple[Fold, ...]:
        """The normalizations that fold."""
        return tuple(verdict for verdict in self.verdicts if isinstance(verdict, Fold))

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """The normalizations that stay."""
        return tuple(verdict for verdict in self.verdicts if isinstance(verdict, Refusal))

    @property
    def all_notes(self) -> tuple[Note, ...]:
        """The plan's own notes and those of its verdicts."""
        return self.notes + tuple(note for verdict in self.verdicts for note in verdict.notes)

    def refused_with(self, code: str) -> Sequence[Refusal]:
        """The refusals that carry `code`."""
        return [refusal for refusal in self.refusals if refusal.code == code]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: verdicts with their `kind`, operator counts and notes."""
        return {
            "verdicts": [{"kind": verdict.kind, **asdict(verdict)} for verdict in self.verdicts],
            "operators_before": self.operators_before,
            "operators_after": self.operators_after,
            "notes": [asdict(note) for note in self.notes],
            "changes": [asdict(change) for change in self.changes],
        }
