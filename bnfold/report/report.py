"""What a run found: `Report` for optimize, `Inspection` for inspect. Values only; the renderings stand beside it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bnfold import __version__
from bnfold.errors import GateFailed
from bnfold.verdict import Plan

if TYPE_CHECKING:
    from bnfold.provenance import Folded
    from bnfold.runtime.accuracy import Accuracy
    from bnfold.runtime.verify import Verification

SCHEMA = 1
"""Version of the JSON documents. It rises when a key changes its meaning or goes; new keys do not raise it."""


@dataclass(frozen=True)
class ModelFacts:
    """What a model file says about itself.

    Attributes:
        path: as the caller wrote it; "" for a model in memory.
        ir_version: the file's IR version.
        opsets: domain → version; "" is the default domain.
        producer: the tool that wrote it, with its version; "" where the file does not say.
        size_bytes: of the file together with its external data.
        folded: the runs of bnfold that it has been through, the first one first, as far as it tells.
    """

    path: str
    ir_version: int
    opsets: dict[str, int]
    producer: str
    size_bytes: int
    folded: tuple[Folded, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """What `bnfold inspect` found, without changing or running the model.

    Attributes:
        facts: the file.
        plan: one verdict for each normalization.
    """

    facts: ModelFacts
    plan: Plan

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: schema and bnfold version, the facts and the plan."""
        return document("", source=asdict(self.facts), plan=self.plan.to_dict())


@dataclass(frozen=True)
class Report:
    """What `bnfold optimize` did.

    Attributes:
        source: the model that came in.
        destination: where the folded model was to go; None when it was to go nowhere.
        size_after_bytes: of the written model with its external data; None when nothing was written.
        plan: one verdict for each normalization.
        verification: the measured differences; None when it was not asked for, or there was nothing to compare.
        elapsed_s: seconds from opening the source to having written the destination.
        written: whether `destination` now holds the result.
        identical: whether the result is the source, byte for byte, because nothing folded.
        data_files: files written beside `destination` that hold its external data; they must travel with it.
        accuracy: what was counted on labelled data; None where there were none, or there was nothing to compare.
    """

    source: ModelFacts
    destination: str | None
    size_after_bytes: int | None
    plan: Plan
    verification: Verification | None
    elapsed_s: float
    written: bool
    identical: bool
    data_files: tuple[str, ...] = ()
    accuracy: Accuracy | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against the result: the verification and the gates on data passed, or there were none."""
        return (self.verification is None or self.verification.ok) and (self.accuracy is None or self.accuracy.ok)

    def raise_for_status(self) -> None:
        """Raises `GateFailed` with the verification's findings unless `ok`."""
        if not self.ok:
            raise GateFailed(self.failure)

    @property
    def failure(self) -> str:
        """What speaks against the result, in one sentence; "" when nothing does."""
        if self.accuracy is not None and not self.accuracy.ok:
            what = f"the folded {self.source.path or 'model'} failed on the labelled data, and nothing was written"
            return f"{what}: {' '.join(self.accuracy.failures)}"
        if self.verification is None or self.verification.ok:
            return ""
        what = f"the folded {self.source.path or 'model'} failed its verification, and nothing was written"
        return f"{what}: {_findings(self.verification)}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with `schema` and the bnfold version. NaN and inf, which JSON does not have, become None."""
        return document(
            self.failure,
            source=asdict(self.source),
            destination=self.destination,
            size_after_bytes=self.size_after_bytes,
            written=self.written,
            identical=self.identical,
            data_files=list(self.data_files),
            folded=len(self.plan.folds),
            kept=len(self.plan.refusals),
            plan=self.plan.to_dict(),
            verification=None if self.verification is None else self.verification.to_dict(),
            accuracy=None if self.accuracy is None else self.accuracy.to_dict(),
            elapsed_s=self.elapsed_s,
        )


def verification_document(reference: str, candidate: str, verification: Verification) -> dict[str, Any]:
    """The JSON document of `bnfold verify`: both paths and the verification."""
    failure = "" if verification.ok else f"{candidate} does not compute what {reference} does: {_findings(verification)}"
    return document(failure, reference=reference, candidate=candidate, verification=verification.to_dict())


def error_document(message: str, exit_code: int) -> dict[str, Any]:
    """The JSON document of a command that failed."""
    return document(message, exit_code)


def _findings(verification: Verification) -> str:
    return "; ".join(verification.failures) or "the outputs differ"


def document(failure: str, exit_code: int = GateFailed.exit_code, **content: Any) -> dict[str, Any]:
    """What every document starts with, `ok` and `error` among it, and then `content`."""
    error = {"message": failure, "exit_code": exit_code} if failure else None
    whole: dict[str, Any] = _finite({"schema": SCHEMA, "bnfold": __version__, "ok": error is None, "error": error, **content})
    return whole


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
