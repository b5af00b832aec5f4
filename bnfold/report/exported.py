"""What an export found and did: diagnostics of the module, agreements of the files with it, and the report of both."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bnfold.errors import GateFailed
from bnfold.report.report import Report, document

if TYPE_CHECKING:
    from bnfold.runtime.compare import Comparison


@dataclass(frozen=True)
class Diagnostic:
    """Something about the module that the user should know before the file is used.

    Attributes:
        code: the stable code, `BNFnnn`.
        sentence: what was found, after the names it is about.
        names: which parts of the module, by their dotted path.
        remedy: what to do about it.
        fatal: whether nothing was written because of it.
    """

    code: str
    sentence: str
    names: tuple[str, ...]
    remedy: str
    fatal: bool = False


@dataclass(frozen=True)
class Agreement:
    """Two of: the PyTorch module, the unfolded and the folded file, on the same inputs.

    Attributes:
        left: "PyTorch" or "unfolded", as the reference.
        right: "unfolded" or "folded".
        comparisons: (output, input, what was measured), the worst input of each output.
        inputs: how many inputs there were.
    """

    left: str
    right: str
    comparisons: tuple[tuple[str, str, Comparison], ...]
    inputs: int

    @property
    def ok(self) -> bool:
        """Whether every output agrees."""
        return all(found.ok for _, _, found in self.comparisons)

    @property
    def failures(self) -> tuple[str, ...]:
        """One sentence for each output that does not."""
        rows = ((output, feed, found) for output, feed, found in self.comparisons if not found.ok)
        return tuple(f"Output `{output}` {found.problem} (input {feed})." for output, feed, found in rows)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        rows = [{"output": output, "input": feed, **found.to_dict()} for output, feed, found in self.comparisons]
        return {"left": self.left, "right": self.right, "ok": self.ok, "inputs": self.inputs, "outputs": rows}


@dataclass(frozen=True)
class ExportReport:
    """What `bnfold export` did.

    Attributes:
        source: what was exported, as the user named it.
        torch: PyTorch's version.
        destination: where the file was to go.
        written: whether it is there.
        size_bytes: of the file with its external data; None when nothing was written.
        opset: version of the default domain.
        ir_version: of the file.
        dynamic_batch: whether the first axis is open.
        normalizations: normalization layers in the module: class name → how many.
        kept: BatchNormalization nodes in the unfolded file.
        set_to_eval: how many parts of the module were in training mode and were set to eval() for the export.
        weights: the state dict that was loaded; "" where none was.
        diagnostics: what was found in the module.
        agreements: PyTorch against the unfolded file, and with folding against the folded file, and the two files.
        folded: what folding did; None when it was not asked for.
        elapsed_s: seconds in all.
    """

    source: str
    torch: str
    destination: str
    written: bool
    size_bytes: int | None
    opset: int
    ir_version: int
    dynamic_batch: bool
    normalizations: dict[str, int]
    kept: int
    set_to_eval: int
    weights: str
    diagnostics: tuple[Diagnostic, ...]
    agreements: tuple[Agreement, ...]
    folded: Report | None
    elapsed_s: float

    @property
    def failures(self) -> tuple[str, ...]:
        """Why nothing was written; () when it was."""
        fatal = [f"{each.code}: {', '.join(each.names)} {each.sentence}" for each in self.diagnostics if each.fatal]
        apart = [f"{each.left} and {each.right}: {text}" for each in self.agreements for text in each.failures]
        unproved = (
            () if self.folded is None or self.folded.ok or self.folded.verification is None else self.folded.verification.failures
        )
        return (*fatal, *apart, *unproved)

    @property
    def ok(self) -> bool:
        """Whether the module could be exported, and every file computes what it does."""
        return not self.failures

    def raise_for_status(self) -> None:
        """Raises `GateFailed` with the failures unless `ok`."""
        if self.failures:
            raise GateFailed(f"{self.source} was not exported: {'; '.join(self.failures)}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with `schema` and the bnfold version."""
        failure = f"{self.source} was not exported: {'; '.join(self.failures)}" if self.failures else ""
        own = ("diagnostics", "agreements", "folded")
        return document(
            failure,
            **{name: value for name, value in vars(self).items() if name not in own},
            diagnostics=[asdict(each) for each in self.diagnostics],
            agreements=[each.to_dict() for each in self.agreements],
            folded=None if self.folded is None else self.folded.to_dict(),
        )
