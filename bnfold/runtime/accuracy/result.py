"""What a run on labelled data found: values only, with the statistics that follow from the counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bnfold.errors import GateFailed
from bnfold.runtime.accuracy.intervals import CONFIDENCE, mcnemar, mean_bound, tango, wilson
from bnfold.runtime.accuracy.tally import Counts, Tally
from bnfold.verdict import Note

_TOP5_CLASSES = 5


@dataclass(frozen=True)
class Score:
    """How well one model does.

    Attributes:
        model: what it is called: its path.
        sha256: of its file, and of its external data if it has any.
        samples: how many were judged.
        top1: right answers; None where no classes were compared.
        top5: samples whose label is among the five largest outputs; None where there are not more than five classes.
        metric: mean of the user's metric; None without one.
        non_finite: samples whose outputs hold NaN; they count as wrong.
    """

    model: str
    sha256: str
    samples: int
    top1: int | None
    top5: int | None
    metric: float | None
    non_finite: int

    @property
    def accuracy(self) -> float | None:
        """Top-1 accuracy, 0 to 1."""
        return None if self.top1 is None else self.top1 / max(1, self.samples)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's interval for the accuracy."""
        return None if self.top1 is None else wilson(self.top1, self.samples)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "accuracy": self.accuracy, "interval": self.interval}


@dataclass(frozen=True)
class Pairs:
    """The same samples through both models.

    Attributes:
        samples: how many.
        lost: the reference is right and the candidate is wrong.
        gained: the other way round.
        both_right: both right.
        both_wrong: both wrong, with whatever answers.
        wrong_to_wrong: both wrong, with different answers; a part of `both_wrong`.
        ties: flips of decisions that were no clearer than `margin`; a part of `flips`.
        margin: in units of the output.
    """

    samples: int
    lost: int
    gained: int
    both_right: int
    both_wrong: int
    wrong_to_wrong: int
    ties: int
    margin: float

    @property
    def flips(self) -> int:
        """Samples on which the two models answer differently."""
        return self.lost + self.gained + self.wrong_to_wrong

    @property
    def counted_flips(self) -> int:
        """Flips that are no ties."""
        return self.flips - self.ties

    @property
    def agreement(self) -> float:
        """The share of samples with the same answer, 0 to 1."""
        return 1 - self.flips / max(1, self.samples)

    @property
    def agreement_interval(self) -> tuple[float, float]:
        """Wilson's interval for it."""
        low, high = wilson(self.flips, self.samples)
        return 1 - high, 1 - low

    @property
    def mcnemar(self) -> float:
        """The p-value of McNemar's exact test. A large one is no proof of equality."""
        return mcnemar(self.lost, self.gained)

    @property
    def drop(self) -> float:
        """Accuracy of the reference less that of the candidate."""
        return (self.lost - self.gained) / max(1, self.samples)

    @property
    def drop_interval(self) -> tuple[float, float]:
        """Tango's interval for the drop."""
        return tango(self.lost, self.gained, self.samples)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            **asdict(self),
            "flips": self.flips,
            "agreement": self.agreement,
            "agreement_interval": self.agreement_interval,
            "mcnemar_p": self.mcnemar,
            "drop": self.drop,
            "drop_interval": self.drop_interval,
            "confidence": CONFIDENCE,
        }


@dataclass(frozen=True)
class Gate:
    """One condition that the candidate has to meet.

    Attributes:
        option: which option states it: "--max-drop" or "--max-flips".
        ok: whether it is met.
        sentence: what was found, and what was asked for.
    """

    option: str
    ok: bool
    sentence: str


@dataclass(frozen=True)
class Settings:
    """What a run's figures depend on.

    Attributes:
        data: the data set as the user named it.
        data_sha256: of the data, before preprocessing.
        preprocess: as stated; "" where nothing was.
        metric: "top1", or `file.py:function`.
        output: the output that holds the classes.
        batch: samples in one run of a model.
        limit: how many samples at most; None for all.
        level: onnxruntime's optimization.
        execution: provider, and its options where they matter: see `bnfold.runtime.placement.Placement.facts`.
        onnxruntime: its version.
    """

    data: str
    data_sha256: str
    preprocess: str
    metric: str
    output: str
    batch: int
    limit: int | None
    level: str
    execution: dict[str, str]
    onnxruntime: str


@dataclass(frozen=True)
class Accuracy:
    """What `bnfold accuracy` found.

    Attributes:
        reference: the first model.
        candidate: the second; None if there was one model only.
        pairs: the two on the same samples; None without a candidate, or where no classes were compared.
        tally: all counts, the first flips among them.
        gates: the conditions that were stated.
        notes: what looks wrong: BNF051, BNF052, BNF031.
        settings: what the figures depend on.
        elapsed_s: seconds it took.
    """

    reference: Score
    candidate: Score | None
    pairs: Pairs | None
    tally: Tally
    gates: tuple[Gate, ...]
    notes: tuple[Note, ...]
    settings: Settings
    elapsed_s: float

    @property
    def ok(self) -> bool:
        """Whether every stated condition is met."""
        return all(gate.ok for gate in self.gates)

    @property
    def failures(self) -> tuple[str, ...]:
        """What the failed conditions found."""
        return tuple(gate.sentence for gate in self.gates if not gate.ok)

    @property
    def metric_drop(self) -> float | None:
        """Mean of the user's metric, reference less candidate; None without a metric or a candidate."""
        if self.candidate is None or self.reference.metric is None:
            return None
        return self.tally.drops / max(1, self.tally.samples)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "ok": self.ok,
            "samples": self.reference.samples,
            "classes": self.tally.classes or None,
            "reference": self.reference.to_dict(),
            "candidate": None if self.candidate is None else self.candidate.to_dict(),
            "pairs": None if self.pairs is None else self.pairs.to_dict(),
            "metric_drop": self.metric_drop,
            "flips": [asdict(flip) for flip in self.tally.flips],
            "gates": [asdict(gate) for gate in self.gates],
            "notes": [asdict(note) for note in self.notes],
            "settings": asdict(self.settings),
            "elapsed_s": self.elapsed_s,
        }

    def raise_for_status(self) -> None:
        """Raises `GateFailed` with what failed unless `ok`."""
        if not self.ok:
            raise GateFailed(f"the candidate does not meet what was asked for: {' '.join(self.failures)}")


def score(model: str, sha256: str, tally: Tally, counts: Counts, has_metric: bool) -> Score:
    """One model's figures."""
    return Score(
        model,
        sha256,
        tally.samples,
        counts.top1 if tally.classified else None,
        counts.top5 if tally.classified and tally.classes > _TOP5_CLASSES else None,
        counts.score / max(1, tally.samples) if has_metric else None,
        counts.non_finite,
    )


def pairs(tally: Tally, margin: float) -> Pairs:
    """The two models' figures."""
    both_right = tally.reference.top1 - tally.lost
    return Pairs(
        tally.samples,
        tally.lost,
        tally.gained,
        both_right,
        tally.samples - both_right - tally.lost - tally.gained,
        tally.wrong_to_wrong,
        tally.ties,
        margin,
    )


def metric_bound(tally: Tally) -> float:
    """Upper confidence bound of the drop of the user's metric.

    Tango's for values 0 and 1. Otherwise the normal interval of the paired differences; where no sample's value changed, Wilson's
    bound on the share of samples that do, times the range of the values.
    """
    if tally.zero_one:
        return tango(tally.score_lost, tally.score_gained, tally.samples)[1]
    if tally.changed == 0:
        return wilson(0, tally.samples)[1] * (tally.highest - tally.lowest)
    return mean_bound(tally.samples, tally.drops, tally.squares)
