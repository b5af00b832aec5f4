"""Does `bnfold verify` catch every mistake, name its layer, and never cry wolf? Writes docs/faults.md.

    python -m benchmarks.faults [NETWORK …] [--graphs 1000] [--spots 3]

Mistakes are planted (benchmarks/planting.py) in folded networks. One whose effect on the outputs, in float64, is below the error
that the original itself makes in its own precision is counted separately: it is as small as rounding. Honest folds are those of
networks, of random graphs and of the rows of tests/cases.py: none may fail.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

import bnfold
from benchmarks.planting import KINDS, Array, Fault, faults, spots
from benchmarks.reference_models import ROOT, built, everything
from bnfold.errors import BnfoldError
from bnfold.runtime.feeds import Feed, generated_feeds
from bnfold.runtime.reference import Reference, uncovered
from bnfold.runtime.session import RunFailed, Session
from bnfold.runtime.source import read_source
from bnfold.runtime.statistics import Watch

PAGE = ROOT / "docs" / "faults.md"
YARDSTICK_FEEDS = 2


@dataclass(frozen=True)
class Trial:
    """One planted mistake.

    Attributes:
        network: where it was planted.
        kind: which mistake.
        tensor: the first value that is wrong.
        effect: what it changes at the outputs in float64, in parts of the original's own error; the largest of all outputs.
        caught: whether the verification failed.
        named: the tensor that the verification names first; "" for none.
    """

    network: str
    kind: str
    tensor: str
    effect: float
    caught: bool
    named: str

    @property
    def counts(self) -> bool:
        """Whether it is more than the rounding of the original."""
        return self.effect > 1

    @property
    def located(self) -> bool:
        """Whether its layer was named."""
        return self.named == self.tensor


class Yardstick:
    """The original's outputs in float64 on a few inputs, and its own error there."""

    def __init__(self, original: onnx.ModelProto, feeds: Sequence[Feed]) -> None:
        self._feeds = feeds[:YARDSTICK_FEEDS]
        session, reference = Session(read_source(original, "original"), "disabled"), Reference(original)
        self._truths, self._errors = [], []
        names = [output.name for output in original.graph.output]
        for feed in self._feeds:
            truth = reference.run(feed.values).outputs
            found = session.run(feed.values)
            self._truths.append(truth)
            self._errors.append({name: _largest(value, truth[name]) for name, value in zip(names, found, strict=True)})

    def effect(self, model: onnx.ModelProto) -> float:
        """The largest change of an output in float64, in parts of the original's own error."""
        reference, worst = Reference(model), 0.0
        for feed, truth, errors in zip(self._feeds, self._truths, self._errors, strict=True):
            found = reference.run(feed.values).outputs
            worst = max([worst, *(_largest(found[name], truth[name]) / max(error, 1e-300) for name, error in errors.items())])
        return worst


def _largest(one: Array, other: Array) -> float:
    return float(np.abs(np.asarray(one, np.float64) - other).max(initial=0))


def plant(name: str, original: onnx.ModelProto, most_spots: int) -> Iterator[Trial]:
    """Plants every kind of mistake at some spots of one network, and verifies each.

    Raises:
        BnfoldError: the network cannot be run.
    """
    folded = bnfold.fold(original, freeze_initializers=True).model
    places = spots(original, folded)
    if not places or uncovered(original):
        return
    feeds, batch = _feeds(original)
    yardstick = Yardstick(original, feeds)
    for number in sorted({round(share) for share in np.linspace(0, len(places) - 1, min(most_spots, len(places)))}):
        for fault in faults(folded, places[number], places, batch):
            yield _tried(name, original, fault, yardstick)


def _tried(name: str, original: onnx.ModelProto, fault: Fault, yardstick: Yardstick) -> Trial:
    found = bnfold.verify(original, fault.model)
    named = found.first_wrong.tensor if found.first_wrong is not None else ""
    return Trial(name, fault.kind, fault.tensor, yardstick.effect(fault.model), not found.ok, named)


def _feeds(original: onnx.ModelProto) -> tuple[tuple[Feed, ...], dict[str, Array]]:
    """Inputs that the model takes, and what its normalizations read on the first."""
    source = read_source(original, "original")
    watch = Watch(source)
    for feeds in generated_feeds(source.inputs, {}, 0):
        try:
            return feeds, watch.run(feeds[0].values)
        except RunFailed:
            continue
    raise BnfoldError("it takes none of the inputs that were tried.")


def honest_networks(folder: Path) -> Iterator[tuple[str, onnx.ModelProto, onnx.ModelProto, int]]:
    """Every network with its honest fold, as a clean export and as PyTorch writes it, on two seeds."""
    for name, path in chain(everything(folder), built(folder, raw=True)):
        model = onnx.load(path)
        folded = bnfold.fold(model, freeze_initializers=True).model
        for seed in (0, 1):
            yield f"{name}, seed {seed}", model, folded, seed


def honest_rows() -> Iterator[tuple[str, onnx.ModelProto, onnx.ModelProto, list[dict[str, Array]]]]:
    """The rows of tests/cases.py in which something folds and that onnxruntime can run, with their inputs."""
    from tests.cases import CASES

    for case in CASES:
        if case.no_runtime:
            continue
        model = case.model()
        result = bnfold.fold(model, **case.options)
        if result.plan.folds:
            yield f"row {case.name}", model, result.model, case.feeds()


def honest_graphs(count: int, first: int = 0) -> Iterator[tuple[str, onnx.ModelProto, onnx.ModelProto, list[dict[str, Array]]]]:
    """Random graphs in which something folds, with their inputs."""
    from tests.random_graphs import sample

    seed, found = first, 0
    while found < count:
        drawn = sample(seed)
        result = bnfold.fold(drawn.model)
        if result.plan.folds:
            found += 1
            read = {value.name for value in drawn.model.graph.input}
            feeds = {name: array for name, array in drawn.feeds.items() if name in read}
            yield f"graph {seed}", drawn.model, result.model, [feeds]
        seed += 1


@dataclass(frozen=True)
class Honest:
    """One honest fold, and what became of it.

    Outcomes: "passed"; "alarm"; "undecided", where the original gives NaN; "not run", for want of a kernel; and "runtime", where
    onnxruntime computes the folded model right as it is written, and wrong with its own optimizations.
    """

    name: str
    outcome: str
    sentence: str = ""


def judge(name: str, original: onnx.ModelProto, folded: onnx.ModelProto, **options: object) -> Honest:
    """Verifies one honest fold."""
    try:
        found = bnfold.verify(original, folded, **options)  # type: ignore[arg-type]
    except BnfoldError as error:
        return Honest(name, "not run", str(error))
    if found.ok:
        return Honest(name, "passed")
    proves_nothing = all("proves nothing" in each or "not deterministic" in each for each in found.failures)
    outcome = "undecided" if proves_nothing else "alarm"
    if outcome == "alarm" and bnfold.verify(original, folded, levels="disabled", **options).ok:  # type: ignore[arg-type]
        outcome = "runtime"
    return Honest(name, outcome, " ".join(found.failures))


def judge_all(folder: Path, graphs: int) -> Iterator[Honest]:
    """Verifies every honest fold there is."""
    for name, original, folded, seed in honest_networks(folder):
        yield judge(name, original, folded, seed=seed)
    for name, original, folded, inputs in honest_rows():
        yield judge(name, original, folded, inputs=inputs)
        yield judge(f"{name}, generated inputs", original, folded)
    for name, original, folded, inputs in honest_graphs(graphs):
        yield judge(name, original, folded, inputs=inputs)


def page(trials: Sequence[Trial], honest: Sequence[Honest], elapsed_s: float) -> Iterator[str]:
    """The lines of docs/faults.md."""
    counted = [each for each in trials if each.counts]
    small = [each for each in trials if not each.counts]
    outcomes = Counter(each.outcome for each in honest)
    decided = outcomes["passed"] + outcomes["alarm"]
    caught, located, by_chance = (
        sum(each) for each in ([t.caught for t in counted], [t.located for t in counted], [t.caught for t in small])
    )
    yield "# Planted faults and honest folds"
    yield ""
    yield "Written by `python -m benchmarks.faults`, which says how it is measured; not by hand."
    yield ""
    yield f"* **{caught:,} of {len(counted):,}** planted mistakes that exceed the original's own rounding error are caught;"
    yield f"  the layer that is named first is the planted one in **{located:,}** of them."
    yield f"* **{outcomes['alarm']:,} false alarms** in {decided:,} honest folds."
    yield f"* {len(small):,} further mistakes change the outputs by less than the original's own rounding does;"
    yield f"  {by_chance:,} of them are caught all the same."
    yield ""
    yield from _by(counted, small, "mistake", KINDS, lambda trial: trial.kind)
    yield ""
    yield from _by(counted, small, "network", dict.fromkeys(t.network for t in trials), lambda trial: trial.network)
    yield ""
    yield "## What was missed"
    yield ""
    missed = [t for t in counted if not (t.caught and t.located)]
    yield from (
        f"* {t.network}, {t.kind} at `{t.tensor}`, {t.effect:,.1f} × the original's error: "
        + (f"caught, but `{t.named}` was named" if t.caught else "not caught")
        for t in missed
    )
    yield from (f"* false alarm: {each.name}: {each.sentence}" for each in honest if each.outcome == "alarm")
    if not missed and not outcomes["alarm"]:
        yield "Nothing."
    groups = Counter(each.name.split()[0] if each.name.startswith(("row ", "graph ")) else "network" for each in honest)
    yield ""
    yield "## Where the honest folds come from"
    yield ""
    yield f"* {groups['network']:,} of networks: clean and raw exports, on two seeds;"
    yield f"* {groups['row']:,} of rows of tests/cases.py: on their own inputs, and on generated ones;"
    yield f"* {groups['graph']:,} of random graphs (tests/random_graphs.py)."
    yield ""
    yield f"{outcomes['not run']:,} of these were not run, for want of a kernel or of inputs that fit."
    yield f"For {outcomes['undecided']:,} the original gives NaN or inf throughout, which proves nothing."
    yield f"{outcomes['runtime']:,} are right as they are written, and onnxruntime's own optimizations get them wrong:"
    yield "the verification says so, and that counts neither as passed nor as a false alarm."
    yield ""
    yield from (f"* {each.name}: {each.sentence}" for each in honest if each.outcome == "runtime")
    yield ""
    yield (
        f"numpy {np.__version__}, onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}, {platform.machine()}, "
        f"{time.strftime('%Y-%m-%d')}, {elapsed_s / 60:.0f} minutes."
    )


def _by(counted: Sequence[Trial], small: Sequence[Trial], what: str, keys: Iterable[str], key: object) -> Iterator[str]:
    yield f"| {what} | planted | caught | layer named | below rounding | of those caught |"
    yield "|---|--:|--:|--:|--:|--:|"
    for each in keys:
        ours, low = ([trial for trial in group if key(trial) == each] for group in (counted, small))  # type: ignore[operator]
        yield (
            f"| {each} | {len(ours)} | {sum(t.caught for t in ours)} | {sum(t.located for t in ours)} "
            f"| {len(low)} | {sum(t.caught for t in low)} |"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--graphs", type=int, default=1000, help="how many random graphs to fold honestly")
    parser.add_argument("--spots", type=int, default=3, help="in how many layers of each network to plant")
    arguments = parser.parse_args()
    started = time.perf_counter()
    trials: list[Trial] = []
    honest: list[Honest] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, path in everything(Path(folder), arguments.networks):
            try:
                found = list(plant(name, onnx.load(path), arguments.spots))
            except BnfoldError as error:
                print(f"{name}: {error}", file=sys.stderr)
                continue
            trials += found
            missed = [t for t in found if t.counts and not (t.caught and t.located)]
            print(f"{name}: {len(found)} planted, {len(missed)} missed, {time.perf_counter() - started:.0f} s", file=sys.stderr)
            for t in missed:
                print(f"  {t.kind} at {t.tensor}, {t.effect:.1f} ×: caught {t.caught}, named {t.named!r}", file=sys.stderr)
        for each in judge_all(Path(folder), arguments.graphs) if not arguments.networks else ():
            honest.append(each)
            if each.outcome == "alarm":
                print(f"false alarm: {each.name}: {each.sentence}", file=sys.stderr)
    text = "\n".join(page(trials, honest, time.perf_counter() - started)) + "\n"
    if arguments.networks:
        print(text)
    else:
        PAGE.write_text(text, encoding="utf-8")
    return int(any(t.counts and not t.caught for t in trials) or any(each.outcome == "alarm" for each in honest))


if __name__ == "__main__":
    sys.exit(main())
