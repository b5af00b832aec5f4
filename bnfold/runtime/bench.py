"""How fast one model is, and whether another one is faster.

Each setting of onnxruntime's optimizer is measured by itself: what users get by default; the same without the fusions
that do what bnfold does, which is what a runtime without them would run; and the graph as it is written.
`bnfold.runtime.bench_statistics` says what may be claimed, and `bnfold.runtime.bench_measure` how the runs are taken.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bnfold.errors import InputError
from bnfold.model import Model
from bnfold.runtime.bench_feed import batched, extent, leaves_batch_open, runner
from bnfold.runtime.bench_measure import PAUSE_S, Runner, Samples, time_block
from bnfold.runtime.bench_profile import read_profile
from bnfold.runtime.bench_result import Benchmark, Row, Subject, Timing
from bnfold.runtime.bench_statistics import FEWEST_BLOCKS, compare, median_interval
from bnfold.runtime.feeds import Feed, generated_feeds, given_feeds
from bnfold.runtime.placement import Placement
from bnfold.runtime.providers import CPU, Target
from bnfold.runtime.run import first_that_runs
from bnfold.runtime.session import Session, Value, open_session
from bnfold.runtime.source import Source, all_nodes, read_source

if TYPE_CHECKING:
    import onnxruntime as ort

    from bnfold.runtime.source import ModelLike

OWN_FUSIONS = ("ConvBNFusion", "MatMul_BatchNormalization_Fusion", "ConvMulFusion", "ConvAddFusion")
"""onnxruntime's graph optimizers that fold a normalization, or what one is written as, into the operator before it."""

SETTINGS = ("default", "no folding", "disabled")
"""onnxruntime as users get it, the same without `OWN_FUSIONS`, and without any optimization of the graph."""

_NVIDIA = ("cuda", "tensorrt", "nvtensorrtrtx")
_PROFILED_RUNS = 5


def bench(
    model: ModelLike,
    candidate: ModelLike | None = None,
    *,
    inputs: str | os.PathLike[str] | Sequence[Mapping[str, Value]] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    batch: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    duration: float = 3.0,
    blocks: int = FEWEST_BLOCKS,
    settings: Sequence[str] = SETTINGS,
    target: Target = CPU,
    io_binding: bool = True,
) -> Benchmark:
    """Measures latency, throughput and session creation of a model, alone or against another one.

    Args:
        model: a path, or a model in memory of at most 2 GB.
        candidate: the same for the model to compare with it; it takes the same inputs.
        inputs: as for `bnfold.verify`; the first one is fed. Generated when None.
        input_shapes: input name → shape, for a generated input whose sizes cannot be guessed.
        batch: first extent of every input that leaves it open; when None, 1 for a generated input, and as given otherwise.
        seed: of the generated input.
        threads: onnxruntime's threads within an operator; as many as this process may use when None.
        duration: seconds of measuring for each setting, > 0; session creation and warm-up come on top.
        blocks: how many times new sessions are created, at least 1; with fewer than 6 no difference can be claimed.
        settings: which of `SETTINGS`.
        target: where to run, with onnxruntime's own defaults: TF32 is on where the provider has it on.
        io_binding: whether inputs and outputs stay on an NVIDIA GPU between runs.

    Raises:
        InputError: a model or the inputs cannot be used, or an argument is out of range.
        EnvironmentUnfit: the installed onnxruntime cannot run a model, or not on this provider.
    """
    started = time.perf_counter()
    _check_arguments(duration, blocks, settings)
    import onnxruntime as ort

    sources = [read_source(model, "original")] + ([] if candidate is None else [read_source(candidate, "candidate")])
    feed = _feed(sources[0], inputs, input_shapes or {}, batch, seed, target)
    _check_inputs(sources, feed)
    cores = _usable_cores() if threads is None else threads
    on_device = io_binding and target.short in _NVIDIA and not _has_bfloat16(sources)

    def opened(source: Source, setting: str, folder: str | None = None) -> tuple[ort.InferenceSession, Placement]:
        return _open(source, setting, target, cores, folder)

    def runs(source: Source, session: ort.InferenceSession) -> Runner:
        return runner(session, source, feed.values, ("cuda", int(target.options.get("device_id", "0"))) if on_device else None)

    def timed(runners: Sequence[Runner]) -> list[Samples]:
        pause = partial(time.sleep, PAUSE_S if cores > 1 else 0)  # a single thread is the caller's own, and does not spin
        return time_block(runners, duration / blocks, time.perf_counter, pause)

    rows = tuple(_measure(setting, sources, opened, runs, timed, blocks) for setting in settings)
    return Benchmark(
        original=_subject(model, sources[0]),
        candidate=None if candidate is None else _subject(candidate, sources[1]),
        rows=rows,
        shapes={name: tuple(getattr(value, "shape", ())) for name, value in feed.values.items()},
        batch=extent(feed.values),
        threads=cores,
        blocks=blocks,
        duration_s=duration,
        on_device=on_device,
        onnxruntime=ort.__version__,
        elapsed_s=time.perf_counter() - started,
    )


def _measure(
    setting: str,
    sources: Sequence[Source],
    opened: Callable[..., tuple[ort.InferenceSession, Placement]],
    runs: Callable[[Source, ort.InferenceSession], Runner],
    timed: Callable[[Sequence[Runner]], list[Samples]],
    blocks: int,
) -> Row:
    """One setting: the original, itself once more, and the candidate, in new sessions for each block.

    Their order turns from block to block: sessions live side by side, and one can be slower for being created last.
    """
    contestants = [sources[0], sources[0], *sources[1:]]
    samples: list[list[Samples]] = [[] for _ in contestants]
    creation: list[list[float]] = [[] for _ in contestants]
    order = deque(range(len(contestants)))
    for _ in range(blocks):
        runners = []
        for position in order:
            before = time.perf_counter()
            session, _ = opened(contestants[position], setting)
            creation[position].append(time.perf_counter() - before)
            runners.append(runs(contestants[position], session))
        for position, found in zip(order, timed(runners), strict=True):
            samples[position].append(found)
        order.rotate(-1)
    original, control, *others = ([each.median_s for each in found] for found in samples)
    timings = [
        _timing(samples[position], creation[position], source, setting, opened, runs)
        for position, source in enumerate(contestants)
        if position != 1
    ]
    difference = compare(original, control, others[0]) if others else None
    noise = compare(original, control, control).noise
    return Row(setting, timings[0], timings[1] if others else None, noise, difference)


def _timing(
    samples: Sequence[Samples],
    creation: Sequence[float],
    source: Source,
    setting: str,
    opened: Callable[..., tuple[ort.InferenceSession, Placement]],
    runs: Callable[[Source, ort.InferenceSession], Runner],
) -> Timing:
    with tempfile.TemporaryDirectory(prefix="bnfold-profile-") as folder:
        session, placement = opened(source, setting, folder)
        run = runs(source, session)
        for _ in range(_PROFILED_RUNS):
            run()
        operators = read_profile(Path(session.end_profiling()), _PROFILED_RUNS)
    latency = median_interval([each.median_s for each in samples])
    return Timing(latency, sum(each.runs for each in samples), median_interval(creation), operators, placement)


def _open(
    source: Source, setting: str, target: Target, threads: int, folder: str | None
) -> tuple[ort.InferenceSession, Placement]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_DISABLE_ALL if setting == "disabled" else levels.ORT_ENABLE_ALL
    if folder is not None:
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(folder, "profile")
    return open_session(source, options, target, exact=False, disabled=OWN_FUSIONS if setting == "no folding" else ())


def _feed(
    source: Source,
    inputs: str | os.PathLike[str] | Sequence[Mapping[str, Value]] | None,
    input_shapes: Mapping[str, Sequence[int]],
    batch: int | None,
    seed: int,
    target: Target,
) -> Feed:
    if inputs is None:
        feed, _ = first_that_runs(source, Session(source, "default", target), generated_feeds(source.inputs, input_shapes, seed))
    elif input_shapes:
        raise InputError("give either the sizes of the inputs or the inputs themselves, not both.")
    else:
        feed = given_feeds(source.inputs, inputs)[0]
    if batch is None and (inputs is not None or not leaves_batch_open(source.inputs)):
        return feed
    return batched(source.inputs, feed, batch or 1)


def _subject(model: ModelLike, source: Source) -> Subject:
    opened = Model.open(Path(model)) if isinstance(model, str | os.PathLike) else Model(model)
    counts = Counter(node.op_type for node in all_nodes(opened.proto))
    return Subject(source.label, opened.size_bytes, dict(counts.most_common()))


def _check_arguments(duration: float, blocks: int, settings: Sequence[str]) -> None:
    if not duration > 0 or blocks < 1:
        raise InputError("the duration must be more than 0 seconds, and there must be at least one block.")
    if unknown := [setting for setting in settings if setting not in SETTINGS]:
        raise InputError(f"there is no setting {unknown[0]!r}. There are {', '.join(map(repr, SETTINGS))}.")


def _check_inputs(sources: Sequence[Source], feed: Feed) -> None:
    for source in sources[1:]:
        names = {spec.name for spec in source.inputs}
        if missing := sorted(names - set(feed.values)):
            raise InputError(f"{source.label} wants the input `{missing[0]}`, which {sources[0].label} does not have.")
        if extra := sorted(set(feed.values) - names - source.overridable):
            raise InputError(f"{source.label} does not have the input `{extra[0]}` of {sources[0].label}.")
        shared = {name: value for name, value in feed.values.items() if name in names}
        given_feeds(source.inputs, [shared])  # for its complaint about a type or a shape


def _has_bfloat16(sources: Sequence[Source]) -> bool:
    """Whether an input or output is bfloat16, which numpy cannot hand to a device."""
    return any(spec.elem_type == "bfloat16" for source in sources for spec in (*source.inputs, *source.outputs))


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
