"""The verdict on two models, as values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from bnfold.errors import GateFailed
from bnfold.runtime.compare import Comparison
from bnfold.runtime.layers import Layer
from bnfold.runtime.session import Level
from bnfold.verdict import Note


@dataclass(frozen=True)
class OutputComparison:
    """One output at one optimization level, on the input where it comes closest to what is allowed.

    Attributes:
        output: its name.
        level: onnxruntime's optimization: "disabled" or "default".
        feed: what the input is called, as "normal(0, 1)".
        worst: what was measured there. Its argmax rows and its `non_finite` are summed over all inputs, and its `truth` is about
            all inputs that were evaluated in float64.
    """

    output: str
    level: Level
    feed: str
    worst: Comparison

    @property
    def ok(self) -> bool:
        """Whether the output is equivalent on every input."""
        return self.worst.ok

    @property
    def badness(self) -> tuple[bool, float]:
        """For ranking: the worst is the largest."""
        return not self.ok, self.worst.severity

    def plus(self, other: OutputComparison) -> OutputComparison:
        """The same output on more inputs."""
        worse = max(self, other, key=lambda row: row.badness)
        one, two = self.worst, other.worst
        truth = one.truth.plus(two.truth) if one.truth is not None and two.truth is not None else one.truth or two.truth
        counts = {
            name: getattr(one, name) + getattr(two, name)
            for name in ("argmax_changed", "argmax_total", "argmax_certified", "non_finite")
        }
        return replace(worse, worst=replace(worse.worst, truth=truth, **counts))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready and flat."""
        return {"output": self.output, "level": self.level, "feed": self.feed, **self.worst.to_dict()}


@dataclass(frozen=True)
class Verification:
    """Measured differences between two models, and from the truth.

    Attributes:
        outputs: one comparison for each output and level.
        failures: why the candidate is not equivalent, or why nothing can be said; one sentence each.
        notes: remarks that stop nothing by themselves (BNF031 to BNF036).
        feeds: how many inputs both models were run on.
        elapsed_s: seconds it took.
        truth_feeds: how many of them were evaluated in float64; 0 where there is no truth, and the difference alone decides.
        layers: what was measured where the two models make a tensor differently, in graph order.
        first_wrong: the layer where they part; None where they do not, or where no layer shows it.
    """

    outputs: tuple[OutputComparison, ...]
    failures: tuple[str, ...]
    notes: tuple[Note, ...]
    feeds: int
    elapsed_s: float
    truth_feeds: int = 0
    layers: tuple[Layer, ...] = ()
    first_wrong: Layer | None = None

    @property
    def ok(self) -> bool:
        """Whether the two models are equivalent on everything that was tried."""
        return not self.failures

    @property
    def worst(self) -> OutputComparison | None:
        """The output that comes closest to what is allowed or is furthest beyond it; None when nothing was measured."""
        return max(self.outputs, key=lambda row: row.badness, default=None)

    @property
    def argmax_changed(self) -> int:
        """Rows whose largest value moved, over all outputs and inputs, without optimizations."""
        return sum(row.worst.argmax_changed for row in self._decided)

    @property
    def argmax_total(self) -> int:
        """All rows that have a largest value, counted the same way."""
        return sum(row.worst.argmax_total for row in self._decided)

    @property
    def argmax_certified(self) -> int:
        """Rows whose largest value leads by more than twice the largest difference, counted the same way."""
        return sum(row.worst.argmax_certified for row in self._decided)

    @property
    def _decided(self) -> list[OutputComparison]:
        levels = [row.level for row in self.outputs]
        return [row for row in self.outputs if row.level == ("disabled" if "disabled" in levels else "default")]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; NaN and inf become None."""
        return {
            "ok": self.ok,
            "feeds": self.feeds,
            "truth_feeds": self.truth_feeds,
            "argmax_changed": self.argmax_changed,
            "argmax_total": self.argmax_total,
            "argmax_certified": self.argmax_certified,
            "failures": list(self.failures),
            "first_wrong": None if self.first_wrong is None else self.first_wrong.to_dict(),
            "notes": [asdict(note) for note in self.notes],
            "outputs": [row.to_dict() for row in self.outputs],
            "layers": [layer.to_dict() for layer in self.layers],
            "elapsed_s": self.elapsed_s,
        }

    def raise_for_status(self) -> None:
        """Raises `GateFailed` with the failures unless `ok`."""
        if self.failures:
            raise GateFailed(f"the candidate is not shown to be equivalent to the original: {' '.join(self.failures)}")
