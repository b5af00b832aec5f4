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
from bnfold.report.page import TIED
from bnfold.report.report import ModelFacts, Report
from bnfold.verdict import Fold, Note, Plan, Refusal

if TYPE_CHECKING:
    from bnfold.runtime.layers import Layer
    from bnfold.runtime.verification import OutputComparison, Verification

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


def spent(report: Report) -> str:
    """ "18.6 s (verification 18.2 s)": how long it took, and from a second on, what took most of that."""
    parts = {"verification": report.verification, "accuracy": report.accuracy}
    shares = [f"{name} {part.elapsed_s:.1f} s" for name, part in parts.items() if part is not None and part.elapsed_s >= 0.5]
    return f"{report.elapsed_s:.1f} s" + (f" ({', '.join(shares)})" if shares and report.elapsed_s >= 1 else "")


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
    return takers(fold.into for fold in folds)


def takers(operators: Iterable[Iterable[str]]) -> str:
    """Operators that took something, by type: "Conv 20, Gemm 2"; those that took one thing together as "Conv + Gemm"."""
    counts = Counter(" + ".join(sorted({operator.partition(" ")[0] for operator in each})) for each in operators)
    return ", ".join(f"{taker} {number}" for taker, number in counts.most_common())


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
        words = [f"max |Δ| {worst.max_abs_diff:.2e}"]
        words += [] if worst.by_truth else [f"allowed {worst.allowed:.2e}"]
        words += [f"values to {worst.reference_max:.3g}"]
        words += [f"SQNR {worst.sqnr_db:.0f} dB"] if math.isfinite(worst.sqnr_db) else []
    return " · ".join([*words, *argmax([row])])


_COLUMNS = ("max |Δ|", "allowed", "values to", "SQNR")
_TRUTH_COLUMNS = ("max |Δ|", "original", "candidate", "values to", "SQNR")


def columns(rows: Iterable[OutputComparison]) -> tuple[str, ...]:
    """The titles for `measured`; `original` and `candidate` are the largest errors against float64."""
    return _TRUTH_COLUMNS if any(row.worst.truth is not None for row in rows) else _COLUMNS


def measured(row: OutputComparison, titles: Sequence[str]) -> tuple[str, ...]:
    """What was measured on one output, as cells of a table with these titles."""
    worst, truth = row.worst, row.worst.truth
    if math.isnan(worst.max_abs_diff):
        return ("–",) * len(titles)
    cells = {
        "max |Δ|": "identical" if worst.max_abs_diff == 0 else f"{worst.max_abs_diff:.2e}",
        "allowed": f"{worst.allowed:.2e}",
        "original": "–" if truth is None else f"{truth.original.max_abs:.2e}",
        "candidate": "–" if truth is None else f"{truth.candidate.max_abs:.2e}",
        "values to": f"{worst.reference_max:.3g}",
        "SQNR": f"{worst.sqnr_db:.0f} dB" if math.isfinite(worst.sqnr_db) else "–",
    }
    return tuple(cells[title] for title in titles)


def beside_truth(verification: Verification) -> str:
    """Whether the candidate is as close to the float64 truth as the original, in one sentence; "" where they are identical."""
    truths = [row.worst.truth for row in verification.outputs if row.worst.truth is not None]
    if not truths or all(truth.candidate == truth.original and truth.algebra.max_abs == 0 for truth in truths):
        return ""
    outputs = len({row.output for row in verification.outputs})
    closer, total = min((truth.closer, truth.inputs) for truth in truths)
    furthest = max(truth.furthest for truth in truths)
    if outputs > 1:
        closer, total = sum(truth.closer for truth in truths), sum(truth.inputs for truth in truths)
    words = f"closer to the float64 truth than the original on {closer} of {total} {'measurements' if outputs > 1 else 'inputs'}"
    if furthest <= 1:
        return f"{words}, never further"
    if not math.isfinite(furthest):
        return f"{words}, never further than rounding its weights explains"
    explained = ", which rounding its weights explains" if furthest > _REMARKABLE else ""
    return f"{words}, never further than {times(furthest)}{explained}"


_REMARKABLE = 3

LAYER_COLUMNS = ("original", "candidate", "float64 Δ", "of limit")
"""The titles of `layer_cells`: both errors against float64 in onnxruntime, the difference in float64, its part of the limit."""


def layer_cells(layer: Layer) -> tuple[str, str, str, str]:
    """What was measured on one layer, as cells of a table."""
    errors = ("–" if one is None else f"{one.max_abs:.1e}" for one in (layer.original, layer.candidate))
    share = {"moved": "moved", "wrong": "WRONG", "ok": f"{layer.severity:.0%}"}[layer.status]
    return (*errors, f"{layer.algebra.max_abs:.1e}", share)  # type: ignore[return-value]  # two errors


def deciding(verification: Verification) -> list[OutputComparison]:
    """The outputs at the first optimization level that was measured."""
    first = verification.outputs[0].level if verification.outputs else ""
    return [row for row in verification.outputs if row.level == first]


def argmax(rows: Iterable[OutputComparison]) -> list[str]:
    """Whether decisions changed, in words; nothing where there are none: only an output [N, K] decides between K classes.

    A certified one leads by more than twice the largest difference, so that no difference of that size could have changed it.
    """
    deciding = [row.worst for row in rows if len(row.worst.shape) == _CLASSIFIED]
    changed, total = sum(worst.argmax_changed for worst in deciding), sum(worst.argmax_total for worst in deciding)
    if not total:
        return []
    if changed:
        return [f"argmax changed on {changed} of {total}"]
    sure = sum(worst.argmax_certified for worst in deciding)
    certified = [f"{'all' if sure == total else sure} certified"] if sure else []
    return [f"argmax unchanged on {total} of {total}", *certified]


def times(ratio: float) -> str:
    """A ratio for people: "1.2 ×", "18,000 ×"."""
    if not math.isfinite(ratio):
        return "infinitely many ×"
    return f"{ratio:.2g} ×" if ratio < 100 else f"{int(float(f'{ratio:.2g}')):,} ×"


def some(texts: Sequence[str], shown: int | None) -> list[str]:
    """The first `shown` of `texts`, and how many more there are; all of them for None."""
    if shown is None or len(texts) <= shown:
        return list(texts)
    return [*texts[:shown], f"… {more(len(texts) - shown)}"]


def more(number: int) -> str:
    """The end of a list that is cut short."""
    return f"({number} more, -v for all)".replace(" ", TIED)


def remarks(verification: Verification) -> list[Note]:
    """The notes that are not told among the failures."""
    return [note for note in verification.notes if note.sentence not in verification.failures]


def worst_by_output(verification: Verification) -> list[OutputComparison]:
    """For each output the optimization level where it comes closest to its limit, the worst output first."""
    worst: dict[str, OutputComparison] = {}
    for row in verification.outputs:
        if row.output not in worst or _badness(row) > _badness(worst[row.output]):
            worst[row.output] = row
    return sorted(worst.values(), key=_badness, reverse=True)


def _badness(row: OutputComparison) -> tuple[bool, float]:
    return not row.ok, row.worst.severity if math.isfinite(row.worst.severity) else math.inf
