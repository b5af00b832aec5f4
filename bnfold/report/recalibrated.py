"""What a recalibration measured, layer by layer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bnfold.errors import GateFailed
from bnfold.report.report import ModelFacts, document
from bnfold.verdict import Note, Refusal


@dataclass(frozen=True)
class Layer:
    """One normalization that got population statistics.

    Attributes:
        name: the node's name, or its output's.
        channels: how many statistics it has.
        values_per_batch: m of Algorithm 2: how many values each channel's batch statistics are of.
        before: what its statistics were: "stored", "untrained" (mean 0 and variance 1), or "none" (not constant).
        was_training: whether the file had it in training mode.
        mean_shift: the largest |Δmean| / σ over the channels, with σ² the new variance plus epsilon; None without old ones.
        variance_ratio: the smallest and the largest (new variance + epsilon) / (old variance + epsilon); None without old ones.
        batch_spread: the largest standard deviation of a channel's batch means, in units of σ: how far apart batches are.
    """

    name: str
    channels: int
    values_per_batch: int
    before: str
    was_training: bool
    mean_shift: float | None
    variance_ratio: tuple[float, float] | None
    batch_spread: float

    @property
    def has_moved(self) -> bool:
        """Whether its old statistics lie further away than batches lie apart: not a matter of sampling."""
        if self.mean_shift is None or self.variance_ratio is None:
            return True
        return self.mean_shift > 3 * self.batch_spread or self.variance_ratio[0] < 0.5 or self.variance_ratio[1] > 2


@dataclass(frozen=True)
class Recalibration:
    """What `bnfold recalibrate` did.

    Attributes:
        source: the model that came in.
        destination: where the result went.
        data: what the statistics were measured on.
        preprocessing: what was done to the samples; "" where nothing was stated.
        batch: samples in each batch.
        batches: how many batches.
        biased: whether the variances are plain averages, without the factor m / (m − 1).
        layers: the normalizations with new statistics, in graph order.
        refusals: those that stay as they were, and why.
        notes: remarks, such as a Dropout that was in training mode.
        failures: why nothing was written; () when it was.
        written: whether `destination` now holds the result.
        size_after_bytes: of the written model with its external data.
        data_files: files written beside `destination`; they must travel with it.
        elapsed_s: seconds in all.
    """

    source: ModelFacts
    destination: str
    data: str
    preprocessing: str
    batch: int
    batches: int
    biased: bool
    layers: tuple[Layer, ...]
    refusals: tuple[Refusal, ...]
    notes: tuple[Note, ...]
    failures: tuple[str, ...]
    written: bool
    size_after_bytes: int | None
    data_files: tuple[str, ...]
    elapsed_s: float

    @property
    def samples(self) -> int:
        """How many samples the statistics are of."""
        return self.batch * self.batches

    @property
    def ok(self) -> bool:
        """Whether the result was written."""
        return not self.failures

    def raise_for_status(self) -> None:
        """Raises `GateFailed` with the failures unless `ok`."""
        if self.failures:
            raise GateFailed(self._failure())

    def _failure(self) -> str:
        return f"{self.source.path} was not recalibrated: {' '.join(self.failures)}" if self.failures else ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with `schema` and the bnfold version."""
        return document(self._failure(), samples=self.samples, **asdict(self))
