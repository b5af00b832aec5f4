"""What a benchmark measured: values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bnfold.runtime.bench_profile import OperatorTime
from bnfold.runtime.bench_statistics import Difference, Interval
from bnfold.runtime.placement import Placement


@dataclass(frozen=True)
class Subject:
    """One model that was measured.

    Attributes:
        path: as the caller wrote it; what messages call it for a model in memory.
        size_bytes: of the file and its external data.
        operators: operator → number of nodes in the file, bodies and functions included.
    """

    path: str
    size_bytes: int
    operators: Mapping[str, int]


@dataclass(frozen=True)
class Timing:
    """One model at one setting.

    Attributes:
        latency: seconds for one run; the median over the blocks with its interval.
        runs: how many were timed.
        creation: seconds to create a session, likewise.
        operators: what onnxruntime runs after its optimization.
        placement: where it ran, and how.
    """

    latency: Interval
    runs: int
    creation: Interval
    operators: tuple[OperatorTime, ...]
    placement: Placement

    @property
    def nodes(self) -> int:
        """How many nodes one run executes."""
        return sum(each.count for each in self.operators)


@dataclass(frozen=True)
class Row:
    """Both models at one setting.

    Attributes:
        setting: one of `bnfold.runtime.bench.SETTINGS`.
        original: of the first model.
        candidate: of the second one; None where there is none.
        noise: how much two sessions of the original differ; as in `Difference`.
        difference: what may be said about the candidate; None where there is none.
    """

    setting: str
    original: Timing
    candidate: Timing | None
    noise: float
    difference: Difference | None


@dataclass(frozen=True)
class Benchmark:
    """What `bnfold bench` measured.

    Attributes:
        original: the first model.
        candidate: the second one; None where one model was measured alone.
        rows: one for each setting.
        shapes: input name → shape of what was fed.
        batch: samples in one run: the first extent of the first input.
        threads: onnxruntime's threads within an operator.
        blocks: how many times the sessions were created anew.
        duration_s: seconds of measuring that each setting was given.
        on_device: whether inputs and outputs stayed on the device (IOBinding).
        onnxruntime: its version.
        elapsed_s: seconds it took in all.
    """

    original: Subject
    candidate: Subject | None
    rows: tuple[Row, ...]
    shapes: Mapping[str, Sequence[int]]
    batch: int
    threads: int
    blocks: int
    duration_s: float
    on_device: bool
    onnxruntime: str
    elapsed_s: float

    def throughput(self, timing: Timing) -> float:
        """Samples per second, one run after the other."""
        return self.batch / timing.latency.median

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "original": asdict(self.original),
            "candidate": None if self.candidate is None else asdict(self.candidate),
            "batch": self.batch,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "threads": self.threads,
            "blocks": self.blocks,
            "duration_s": self.duration_s,
            "on_device": self.on_device,
            "onnxruntime": self.onnxruntime,
            "rows": [self._row(row) for row in self.rows],
            "elapsed_s": self.elapsed_s,
        }

    def _row(self, row: Row) -> dict[str, Any]:
        return {
            "setting": row.setting,
            "original": self._timing(row.original),
            "candidate": None if row.candidate is None else self._timing(row.candidate),
            "noise": row.noise,
            "difference": None if row.difference is None else row.difference.to_dict(),
        }

    def _timing(self, timing: Timing) -> dict[str, Any]:
        return {
            "latency_s": timing.latency.to_dict(),
            "throughput": self.throughput(timing),
            "runs": timing.runs,
            "creation_s": timing.creation.to_dict(),
            "operators": [asdict(each) for each in timing.operators],
            "provider": timing.placement.to_dict(),
        }
