"""What the text and the Markdown report both say: counts, groups and measured differences, in words."""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from bnfold.codes import CODES
from bnfold.report.report import ModelFacts, Report
from bnfold.verdict import Fold, Note, Plan, Refusal

if TYPE_CHECKING:
    from bnfold.runtime.verify import OutputComparison, Verification

_CLASSIFIED = 2  # the rank of an output [N, K]
NOTHING_TO_FOLD = "nothing: the model holds no normalization. It is folded already, or never had one."
_SENTENCES_PER_CODE = 3
_TOTALLED = frozenset({"BNF009"})  # each sentence has another number in it; what counts is how many normalizations there are


@dataclass(frozen=True)
class Group:
    """What several normalizations have in common.

    Attributes:
        code: the stable code.
        headline: their sentence, with `…` for names that differ; the code's title where they say different things.
        names: which ones, without those that have none.
        remedy: what would help; "" where nothing would, or where it differs.
        count: how many.
    """

    code: str
    headline: str
    names: tuple[str, ...]
    remedy: str
    count: int


class _Row(NamedTuple):
    code: str
    sentence: str
    name: str
    remedy: str = ""


def refusal_groups(refusals: Iterable[Refusal]) -> list[Group]:
    """The refusals by code, the most frequent first."""
    return _groups([_Row(one.code, one.sentence, one.normalization.name, one.remedy) for one in refusals])


def note_groups(notes: Iterable[Note]) -> list[Group]:
    """The notes by code, the most frequent first."""
    rows = {}
    for note in notes:
        row = _Row(note.code, note.sentence, note.node)
        rows[row[::2] if row.code in _TOTALLED else id(note)] = row
    return _groups(list(rows.values()))


def is_warning(code: str) -> bool:
    """Whether the code says that something is wrong, rather than that something could not be folded."""
    return code in CODES and CODES[code].level in ("warning", "error")


def _groups(rows: Sequence[_Row]) -> list[Group]:
    """By code, and within a code by sentence where, but for the names, there are only a few different ones."""
    groups = []
    for code in dict.fromkeys(row.code for row in rows):
        members = [row for row in rows if row.code == code]
        kinds = dict.fromkeys(_nameless(row.sentence) for row in members)
        if len(kinds) > (1 if code in _TOTALLED else _SENTENCES_PER_CODE):
            groups.append(_group(members, CODES[code].title))
        else:
            groups += [_group([row for row in members if _nameless(row.sentence) == kind], kind) for kind in kinds]
    return sorted(groups, key=lambda group: (-group.count, group.code))


def _group(members: Sequence[_Row], headline: str) -> Group:
    sentences = {row.sentence for row in members}
    remedies = {row.remedy for row in members}
    return Group(
        code=members[0].code,
        headline=sentences.pop() if len(sentences) == 1 else headline,
        names=tuple(row.name for row in members if row.name),
        remedy=remedies.pop() if len(remedies) == 1 else "",
        count=len(members),
    )


def _nameless(sentence: str) -> str:
    return re.sub("`[^`]*`", "`…`", sentence)


def size(byte_count: int) -> str:
    """A size for people, in decimal units, as 44.7 MB."""
    for unit, divisor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if byte_count >= divisor:
            return f"{byte_count / divisor:.1f} {unit}"
    return f"{byte_count} B"


def resized(report: Report) -> str:
    """The size of what was written, with the original's where it has grown by more than 1 %."""
    after, before = report.size_after_bytes or 0, report.source.size_bytes
    return size(after) if after <= 1.01 * before else f"{size(after)}, up from {size(before)}"


def count(number: int, noun: str) -> str:
    """A count with its noun: "1 input", "4 inputs"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def about(facts: ModelFacts) -> str:
    """The file in one line: opsets, IR version, size, producer."""
    opsets = ", ".join(f"{domain} {version}".strip() for domain, version in sorted(facts.opsets.items()))
    words = [f"opset {opsets or 'unknown'}", f"IR {facts.ir_version}", size(facts.size_bytes), facts.producer]
    return " · ".join(filter(None, words))


def into(folds: Iterable[Fold]) -> str:
    """What takes the folds, by operator: "Conv 20, Gemm 2"."""
    takers = Counter(" + ".join(sorted({operator.partition(" ")[0] for operator in fold.into})) for fold in folds)
    return ", ".join(f"{taker} {number}" for taker, number in takers.most_common())


def changed_operators(plan: Plan) -> list[tuple[str, int, int]]:
    """Rows (operator, before, after): BatchNormalization, each operator whose count changes, the rest as "other"."""
    before, after = plan.operators_before, plan.operators_after
    named = {name for name in before.keys() | after.keys() if before.get(name, 0) != after.get(name, 0)}
    named |= {"BatchNormalization"} & before.keys()
    rows = [(name, before.get(name, 0), after.get(name, 0)) for name in named]
    rows.sort(key=lambda row: (row[0] != "BatchNormalization", row[2] - row[1], row[0]))
    other = sum(number for name, number in before.items() if name not in named)
    return [*rows, ("other", other, other)] if other else rows


def freeze_command(plan: Plan, path: str) -> str:
    """The command that folds them all, where overridable initializers alone keep every normalization; otherwise ""."""
    if plan.folds or not plan.refusals:
        return ""
    if any(refusal.code != "BNF006" or "--freeze-initializers" not in refusal.remedy for refusal in plan.refusals):
        return ""
    return f"bnfold optimize {shlex.quote(path)} --freeze-initializers"


def overridable(facts: ModelFacts) -> str:
    """The sentence that goes with `freeze_command`."""
    return (
        f"{facts.path} keeps its weights as overridable inputs (IR {facts.ir_version}), and folding them would ignore "
        "a caller's values (BNF006)."
    )


def difference(row: OutputComparison) -> str:
    """What was measured on one output, in one line."""
    worst = row.worst
    if math.isnan(worst.max_abs_diff):
        return "not comparable"
    words = ["identical"]
    if worst.max_abs_diff != 0:
        words = [f"max |Δ| {worst.max_abs_diff:.2e}", f"allowed {worst.allowed:.2e}", f"values to {worst.reference_max:.3g}"]
        words += [f"SQNR {worst.sqnr_db:.0f} dB"] if math.isfinite(worst.sqnr_db) else []
    return " · ".join([*words, *argmax([row])])


COLUMNS = ("max |Δ|", "allowed", "values to", "SQNR")
"""The titles of `measured`."""


def measured(row: OutputComparison) -> tuple[str, str, str, str]:
    """What was measured on one output, as cells of a table."""
    worst = row.worst
    if math.isnan(worst.max_abs_diff):
        return ("–", "–", "–", "–")
    sqnr = f"{worst.sqnr_db:.0f} dB" if math.isfinite(worst.sqnr_db) else "–"
    differs = "identical" if worst.max_abs_diff == 0 else f"{worst.max_abs_diff:.2e}"
    return (differs, f"{worst.allowed:.2e}", f"{worst.reference_max:.3g}", sqnr)


def argmax(rows: Iterable[OutputComparison]) -> list[str]:
    """Whether decisions changed, in words; nothing where there are none: only an output [N, K] decides between K classes."""
    deciding = [row.worst for row in rows if len(row.worst.shape) == _CLASSIFIED]
    changed, total = sum(worst.argmax_changed for worst in deciding), sum(worst.argmax_total for worst in deciding)
    if not total:
        return []
    return [f"argmax changed on {changed} of {total}" if changed else f"argmax unchanged on {total} of {total}"]


def remarks(verification: Verification) -> list[Note]:
    """The notes that are not told among the failures."""
    return [note for note in verification.notes if note.sentence not in verification.failures]


def worst_by_output(verification: Verification) -> list[OutputComparison]:
    """For each output the optimization level where it differs most, the worst output first."""
    worst: dict[str, OutputComparison] = {}
    for row in verification.outputs:
        if row.output not in worst or _badness(row) > _badness(worst[row.output]):
            worst[row.output] = row
    return sorted(worst.values(), key=_badness, reverse=True)


def _badness(row: OutputComparison) -> tuple[bool, float]:
    return not row.ok, row.worst.severity if math.isfinite(row.worst.severity) else math.inf
