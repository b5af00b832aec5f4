"""What a linter says: one `Finding` for each thing that is left in a model file, and the `Check` of several files.

Values only. `lint`, `sarif` and `junit` beside this file render them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from bnfold.codes import CODES
from bnfold.codes import Level as CodeLevel
from bnfold.errors import GateFailed
from bnfold.report.report import document
from bnfold.verdict import Fold, Note, Plan, Refusal

Level: TypeAlias = Literal["error", "warning", "note"]
"""As SARIF names them: what a gate fails on, what is probably not meant, and what is only worth knowing."""

_OF_THE_RESULT = frozenset({"BNF009", "BNF016", "BNF022"})  # about what a fold would write, and not about the file at hand
_LEVELS: dict[CodeLevel, Level] = {"error": "error", "warning": "warning", "refusal": "note", "info": "note"}


@dataclass(frozen=True)
class Finding:
    """One thing that was found in one file.

    Attributes:
        path: the file, as the caller wrote it.
        code: the stable code, `BNFnnn`.
        node: the normalization, node or tensor it is about; "" for the model as a whole.
        scope: the graph it is in; "" is the main graph.
        sentence: what was found, with the names in it.
        remedy: what to do; "" where nothing helps.
    """

    path: str
    code: str
    node: str
    scope: str
    sentence: str
    remedy: str = ""

    @property
    def level(self) -> Level:
        """How much it matters: the level of its code."""
        return level_of(self.code)

    @property
    def place(self) -> str:
        """The node with its scope: "if_1/then_branch/bn1"."""
        return "/".join(filter(None, (self.scope, self.node)))


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be checked.

    Attributes:
        path: the file.
        message: why, and what to do.
        exit_code: of the error.
    """

    path: str
    message: str
    exit_code: int

    @property
    def told(self) -> str:
        """The message with the file in it, once."""
        return self.message if self.path in self.message else f"{self.path}: {self.message}"


@dataclass(frozen=True)
class Check:
    """What a linter run found.

    Attributes:
        files: every file that was looked at.
        findings: the selected findings, file by file, in graph order.
        unreadable: files that could not be checked.
    """

    files: tuple[str, ...]
    findings: tuple[Finding, ...]
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that the gate fails on."""
        return tuple(one for one in self.findings if one.level == "error")

    @property
    def ok(self) -> bool:
        """Whether the gate is passed."""
        return not self.errors and not self.unreadable

    @property
    def exit_code(self) -> int:
        """0 when passed, 1 when something is left, and the code of the error where a file could not be checked."""
        if self.unreadable:
            return max(one.exit_code for one in self.unreadable)
        return GateFailed.exit_code if self.errors else 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with `schema` and the bnfold version."""
        failed = [one.told for one in self.unreadable]
        failed += [f"{one.path}: {one.place}: {one.code}" for one in self.errors]
        return document(
            "; ".join(failed),
            self.exit_code,
            files=list(self.files),
            findings=[{"level": one.level, **asdict(one)} for one in self.findings],
            unreadable=[asdict(one) for one in self.unreadable],
        )


def level_of(code: str) -> Level:
    """The level of a code."""
    return _LEVELS[CODES[code].level]


def plan_findings(path: str, plan: Plan) -> Iterator[Finding]:
    """Everything that a plan says about a file: folds that were not made (BNF003), refusals, and remarks, in graph order."""
    for verdict in plan.verdicts:
        one = verdict.normalization
        if isinstance(verdict, Fold):
            sentence = f"It can be folded into {', '.join(verdict.into)}, and has not been."
            yield Finding(path, "BNF003", one.name, one.scope, sentence, "Run `bnfold optimize`.")
        elif isinstance(verdict, Refusal):
            yield Finding(path, verdict.code, one.name, one.scope, verdict.sentence, verdict.remedy)
        yield from (_of_note(path, note) for note in verdict.notes if note.code not in _OF_THE_RESULT)
    for note in plan.notes:
        yield _of_note(path, note)


def _of_note(path: str, note: Note) -> Finding:
    return Finding(path, note.code, note.node, note.scope, note.sentence, CODES[note.code].remedy)
