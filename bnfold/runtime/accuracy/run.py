"""One or two models over a labelled data set, as a stream."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from bnfold.data import Data, digest, open_data, open_iterable
from bnfold.errors import InputError
from bnfold.model import Model
from bnfold.runtime.accuracy import binding, gates
from bnfold.runtime.accuracy.measure import Metric
from bnfold.runtime.accuracy.result import Accuracy, Gate, Pairs, Settings, pairs, score
from bnfold.runtime.accuracy.resume import State
from bnfold.runtime.accuracy.shards import LEVEL, Task, Worker, tallies
from bnfold.runtime.accuracy.tally import Tally
from bnfold.runtime.providers import CPU, Target
from bnfold.runtime.signature import differences
from bnfold.runtime.source import Source, read_source

if TYPE_CHECKING:
    from bnfold.runtime.source import ModelLike

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with the number of samples done and of all, None where that is not known."""

BATCH = 64
"""Samples in one run of a model, where the model leaves it open."""

TOP1 = "top1"
_SAVE_EVERY_S = 1.0


def accuracy(
    reference: ModelLike,
    candidate: ModelLike | None = None,
    *,
    data: str | os.PathLike[str] | Data | Iterable[Any],
    preprocess: str | None = None,
    metric: str | Metric = TOP1,
    output: str | None = None,
    max_drop: float | None = None,
    max_flips: int | None = None,
    margin: float = 0.0,
    batch: int | None = None,
    limit: int | None = None,
    jobs: int = 1,
    resume: str | os.PathLike[str] | None = None,
    target: Target = CPU,
    progress: Progress | None = None,
) -> Accuracy:
    """Runs models on labelled data with onnxruntime at its default optimization level and counts right answers.

    Args:
        reference: a path, or a model in memory of at most 2 GB.
        candidate: the model to compare with it; None for the accuracy of one model.
        data: `PATH[:format]` or `file.py:loader` (see `bnfold.data`), or an iterable of (inputs, label) or (inputs, labels).
        preprocess: what is done to each sample: "imagenet", "mnist", "none" or `file.py:function`. Never guessed.
        metric: "top1"; or a function, or `file.py:function`, of a model's outputs (name → `[N, …]`) and the labels that gives
            one number for each sample, more being better.
        output: which output holds one value for each class, where there are several.
        max_drop: gate: the upper confidence bound of the drop of the metric must be below this; for top-1 a share, 0.001 for
            0.1 percentage points.
        max_flips: gate: so many samples at most may be decided differently.
        margin: flips of decisions no clearer than this, in units of the output, are ties and do not count against `max_flips`.
        batch: samples in one run; by default 64, or what the model fixes.
        limit: how many samples at most, from the first on.
        jobs: processes, with one thread each. The result does not depend on it.
        resume: a state file: written as the run goes on, and read when it is there.
        target: where both models run.
        progress: is told how far the run is.

    Returns:
        What was counted. A gate that fails is reported, not raised.

    Raises:
        InputError: a model or the data cannot be read, do not fit each other, or the arguments make no sense.
        EnvironmentUnfit: the installed onnxruntime cannot run a model, or an optional package is missing.
    """
    started = time.perf_counter()
    _check_numbers(max_drop, margin, (("batch", batch), ("limit", limit), ("jobs", jobs)), max_flips)
    if candidate is None and (max_drop is not None or max_flips is not None):
        raise InputError("max_drop and max_flips compare two models. Name the second one.")
    if callable(metric) and jobs > 1:
        raise InputError("several jobs need the metric as file.py:function, because each loads it for itself.")
    opened = _opened(data, preprocess)
    task = _task(reference, candidate, opened, metric, output, margin, batch, target)
    hashes = [_sha256(source) for source in (task.reference, task.candidate) if source is not None]
    settings = _settings(task, opened, limit)
    state = None if resume is None else State(Path(resume), _key(settings, margin, hashes, opened))
    worker = Worker(task, opened)
    tally = _run(worker, task, opened, limit, jobs, state, progress)
    if not tally.samples:
        raise InputError(f"{opened.name} holds no samples.")
    if tally.reference.non_finite == tally.samples:
        raise InputError(f"{task.reference.label} answers NaN on every sample. Do the data hold NaN, or the weights?")
    if max_flips is not None and not tally.classified:
        raise InputError("max_flips needs classes: an output [N, classes], and one whole number for each sample as label.")
    settings = replace(settings, data_sha256=opened.sha256(), execution=worker.placement.facts())
    scores = [
        score(source.label, sha256, tally, counts, has_metric=metric != TOP1)
        for source, sha256, counts in zip(
            (task.reference, task.candidate), hashes, (tally.reference, tally.candidate), strict=False
        )
        if source is not None
    ]
    both = pairs(tally, margin) if candidate is not None and tally.classified else None
    return Accuracy(
        scores[0],
        scores[1] if candidate is not None else None,
        both,
        tally,
        tuple(_gates(both, tally, metric, max_drop, max_flips)),
        (*gates.doubts(scores[0], tally.reference, tally.classes), *worker.placement.notes()),
        settings,
        time.perf_counter() - started,
    )


def _check_numbers(
    max_drop: float | None, margin: float, counts: Iterable[tuple[str, int | None]], max_flips: int | None
) -> None:
    for name, number in (("max_drop", max_drop), ("margin", margin)):
        if number is not None and not (math.isfinite(number) and number >= 0):
            raise InputError(f"{name} {number} is not a finite number that is 0 or more.")
    for name, count in counts:
        if count is not None and count < 1:
            raise InputError(f"{name} {count} is less than 1.")
    if max_flips is not None and max_flips < 0:
        raise InputError(f"max_flips {max_flips} is less than 0.")


def _opened(data: str | os.PathLike[str] | Data | Iterable[Any], preprocess: str | None) -> Data:
    if isinstance(data, Data):
        if preprocess is not None:
            raise InputError("the data set has its preprocessing already: state it where it is opened.")
        return data
    if isinstance(data, str | os.PathLike):
        return open_data(os.fspath(data), preprocess)
    return open_iterable(data, preprocess)


def _task(
    reference: ModelLike,
    candidate: ModelLike | None,
    data: Data,
    metric: str | Metric,
    output: str | None,
    margin: float,
    batch: int | None,
    target: Target,
) -> Task:
    source = read_source(reference, "original")
    other = None if candidate is None else read_source(candidate, "candidate")
    if other is not None and (conflicts := differences(source, other)):
        raise InputError(f"{other.label} cannot be used like {source.label}: {' '.join(conflicts)}")
    sizes = [binding.fixed_batch(each) for each in (source, other) if each is not None]
    fixed = next((size for size in sizes if size is not None), None)
    if fixed is not None and batch not in (None, fixed):
        raise InputError(f"{source.label} takes exactly {fixed} samples at once, and not {batch}. Leave out --batch.")
    chosen = "" if metric == TOP1 else metric
    name = _output(source, output, needed=not chosen)
    return Task(
        source, other, data.name, data.preprocessing, target, name, chosen, margin, fixed or batch or BATCH, fixed is not None
    )


def _output(source: Source, output: str | None, *, needed: bool) -> str:
    names = [spec.name for spec in source.outputs]
    if output is None and len(names) == 1:
        return names[0]
    if output is None and needed:
        raise InputError(f"{source.label} has {len(names)} outputs: {', '.join(names)}. Name the one with the classes: --output.")
    if output is not None and output not in names:
        raise InputError(f"{source.label} has no output `{output}`. It has {', '.join(names)}.")
    return output or ""


def _settings(task: Task, data: Data, limit: int | None) -> Settings:
    import onnxruntime as ort

    metric = task.metric if isinstance(task.metric, str) else "a function"
    name = metric or TOP1
    return Settings(data.name, "", data.preprocessing, name, task.output, task.batch, limit, LEVEL, {}, ort.__version__)


def _sha256(source: Source) -> str:
    """Of a model: of its file, or of the list of its files where its weights lie beside it."""
    path = Path(source.label)
    if source.folder is None or not path.is_file():
        assert isinstance(source.payload, bytes)
        return hashlib.sha256(source.payload).hexdigest()
    beside = Model.open(path).external_files()
    if not beside:
        return digest.of_file(path)
    return digest.of_files((file.name, file) for file in (path, *beside))


def _key(settings: Settings, margin: float, hashes: Iterable[str], data: Data) -> dict[str, str]:
    """What must be the same for a run to be resumed."""
    key = {name: str(value) for name, value in vars(settings).items() if name not in ("data", "data_sha256", "execution")}
    for role, stated in (("the preprocessing", settings.preprocess), ("the metric", settings.metric)):
        file = Path(stated.rpartition(":")[0])
        if file.suffix == ".py" and file.is_file():
            key[f"the file of {role}"] = digest.of_file(file)
    key |= dict(zip(("the reference's sha256", "the candidate's sha256"), hashes, strict=False))
    return {**key, "margin": repr(margin), "the data's sha256": data.reader.identity()}


def _run(
    worker: Worker, task: Task, data: Data, limit: int | None, jobs: int, state: State | None, progress: Progress | None
) -> Tally:
    done, tally = (0, Tally()) if state is None else state.load()
    total = data.count if limit is None or data.count is None else min(limit, data.count)
    if data.count is None and done and done == limit:  # nothing is left to do but to hash what was done: a loader may have no end
        for _ in data.batches(task.batch, 0, limit):
            pass
    saved = time.monotonic()
    try:
        for part in tallies(worker, task, data, done, limit, jobs):
            tally += part
            done += part.samples
            if progress is not None:
                progress(done, total if total is not None else limit)
            if state is not None and time.monotonic() - saved > _SAVE_EVERY_S:
                state.save(done, tally)
                saved = time.monotonic()
    finally:
        if state is not None and done:
            state.save(done, tally)
    return tally


def _gates(
    both: Pairs | None, tally: Tally, metric: str | Metric, max_drop: float | None, max_flips: int | None
) -> Iterator[Gate]:
    if both is not None and max_flips is not None:
        yield gates.flips_gate(both, max_flips)
    if max_drop is None:
        return
    if metric != TOP1:
        yield gates.metric_gate(tally, max_drop)
    elif both is not None:
        yield gates.drop_gate(both, max_drop)
