"""Population statistics from data: Algorithm 2 of the batch normalization paper, on an ONNX model.

S. Ioffe, C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift", 2015,
section 3.1: over training batches B of m values for each channel, with the network in training mode,

    E[x] = E_B[mu_B]        Var[x] = m / (m − 1) · E_B[sigma²_B]

No moving average takes part, so it does not matter in which mode the model was exported or how far its averages lag.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bnfold.context import Context
from bnfold.errors import EnvironmentUnfit, InputError
from bnfold.graph import describe
from bnfold.model import Model, move_into_place, staged
from bnfold.operators import default_opset
from bnfold.ops.passing import is_training_dropout
from bnfold.population.probes import dropout_off, normalization_off, runnable, with_probes
from bnfold.population.stream import Inputs, Stream, open_stream
from bnfold.population.targets import Float64, Target, drop_unread, find_targets, fits, store
from bnfold.report.recalibrated import Layer, Recalibration
from bnfold.report.report import ModelFacts
from bnfold.runtime.session import CannotRun, Session
from bnfold.runtime.source import read_source
from bnfold.verdict import Note, Refusal


@dataclass
class _Statistics:
    """Running averages over batches, float64 `[C]`.

    Attributes:
        batches: how many.
        values: m of the last one.
        mean: E_B[mu_B].
        squares: Σ (mu_B − E_B[mu_B])², for how far apart batches lie.
        var: E_B[sigma²_B], or E_B[m / (m − 1) · sigma²_B].
    """

    batches: int
    values: int
    mean: Float64
    squares: Float64
    var: Float64

    def add(self, mean: Float64, var: Float64, values: int) -> None:
        """Takes one batch in (B. P. Welford, "Note on a method for calculating corrected sums of squares", 1962)."""
        self.batches, self.values = self.batches + 1, values
        step = mean - self.mean
        self.mean = self.mean + step / self.batches
        self.squares = self.squares + step * (mean - self.mean)
        self.var = self.var + (var - self.var) / self.batches


def recalibrate(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    data: str | None = None,
    preprocess: str | None = None,
    inputs: Inputs | None = None,
    batch: int | None = None,
    batches: int | None = None,
    biased: bool = False,
) -> Recalibration:
    """Gives every BatchNormalization of a model population statistics, measured on training data, and inference mode.

    Nothing else in the model changes, but for a Dropout in training mode, which is put into inference mode as well (BNF002).

    Args:
        source: the model; never changed.
        destination: where the result goes; a file that is there is replaced.
        data: a data set, as PATH[:format] of `bnfold.data.open_data`.
        preprocess: what is done to its samples: a preset, or file.py:function.
        inputs: instead of `data`: an .npz file with one array `[N, …]` for each input, or batches, as mappings from input name
            to array.
        batch: samples in each batch; by default what the model fixes, or 64.
        batches: how many batches at most; all by default. A last one that is smaller is left out.
        biased: average the variances as they are, without the factor m / (m − 1).

    Returns:
        What was measured. A normalization that cannot be measured is a refusal in it (BNF025).

    Raises:
        InputError: the model or the data cannot be read or do not fit, there is nothing to recalibrate, or a batch is too
            small to have a variance.
        EnvironmentUnfit: the installed onnxruntime cannot run the model.
    """
    started = time.perf_counter()
    model, target = Model.open(Path(source)), Path(destination)
    if target.exists() and target.samefile(Path(source)):
        raise InputError(f"-o {target} is the input itself. Choose another name.")
    proto = model.proto
    facts = _facts(model)
    context = Context(proto, model.folder, freeze_initializers=True)
    prefix = _unused_prefix(proto)
    targets, refusals = find_targets(context, prefix)
    if not targets and not refusals:
        raise InputError(
            f"{source} holds no BatchNormalization, so there is nothing to recalibrate. One that is written out as Sub, Mul, Div "
            "and Add is not found."
        )
    notes = _dropouts_off(context)
    stream = open_stream(read_source(Path(source), "original").inputs, data, preprocess, inputs, batch)

    def report(
        layers: Sequence[Layer], failures: Sequence[str], done: int = 0, size: int | None = None, *names: str
    ) -> Recalibration:
        return Recalibration(
            source=facts,
            destination=str(target),
            data=stream.name,
            preprocessing=stream.preprocessing,
            batch=stream.size,
            batches=done,
            biased=biased,
            layers=tuple(layers),
            refusals=tuple(refusals),
            notes=tuple(notes),
            failures=tuple(failures),
            written=size is not None,
            size_after_bytes=size,
            data_files=names,
            elapsed_s=time.perf_counter() - started,
        )

    if not targets:
        return report((), ["None of its normalizations can be measured."])
    with staged(target) as stage:
        measured = _measure(model, targets, stream, batches, biased, stage)
        notes += stream.notes()
        layers, pending = [], []
        for each, found in zip(targets, measured, strict=True):
            if reason := fits(context, each, found.mean, found.var):
                refusals.append(Refusal(each.site.normalization, reason.code, reason.sentence, reason.remedy))
                continue
            layers.append(_layer(each, found))
            pending += list(store(context, each, found.mean, found.var))
            normalization_off(each.proto, context.view.opset(each.site.nodes[0]))
        drop_unread(context, targets)
        files = model.write(stage / target.name, _data_name(model, target), pending)
        done = measured[0].batches
        if failures := _failures(files[-1], stream):
            return report(layers, failures, done)
        size = sum(file.stat().st_size for file in files)
        move_into_place(files, stage, target.parent)
        return report(layers, (), done, size, *(file.name for file in files[:-1]))


def _measure(
    model: Model, targets: list[Target], stream: Stream, limit: int | None, biased: bool, stage: Path
) -> list[_Statistics]:
    """Runs the batches through the measuring copy."""
    session: Session | None = None
    found: list[_Statistics] = []
    for feed in stream.feeds(limit):
        if session is None:
            shapes = {name: np.shape(value) for name, value in feed.items()}
            path = stage / "measured.onnx"
            copy = _measuring_copy(model, targets, shapes)
            Model(copy, model.path).write(path)
            session = Session(read_source(path, "original"), "default")
        outputs = session.run(feed)
        rows = zip(targets, outputs[0::3], outputs[1::3], outputs[2::3], strict=True)
        for place, (each, mean, var, shape) in enumerate(rows):
            values = int(np.prod(shape)) // max(1, int(np.size(mean)))
            _check(each, mean, var, values, stream)
            factor = 1.0 if biased else values / (values - 1)
            means, variances = (np.asarray(array, np.float64).reshape(each.mean.shape) for array in (mean, var))
            if len(found) <= place:
                zeros = np.zeros(each.mean.shape)
                found.append(_Statistics(0, 0, zeros, zeros, zeros))
            found[place].add(means, factor * variances, values)
    if not found:
        raise InputError(f"{stream.name} holds no samples, so nothing was measured.")
    return found


def _measuring_copy(model: Model, targets: list[Target], shapes: dict[str, Any]) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model.proto)
    outputs = {each.probe.output for each in targets}
    opset = default_opset(copy.opset_import)
    for node in copy.graph.node:
        if node.op_type == "BatchNormalization" and node.output and node.output[0] in outputs:
            normalization_off(node, opset)
    try:
        copy = runnable(copy, shapes)
    except RuntimeError as error:
        raise EnvironmentUnfit(
            f"onnxruntime runs opsets from 7 on; {model.path} has opset {opset}, and onnx cannot convert it: "
            f"{' '.join(str(error).split())[:200]}. Export it in a later opset."
        ) from error
    with_probes(copy, [each.probe for each in targets])
    return copy


def _check(target: Target, mean: Any, var: Any, values: int, stream: Stream) -> None:
    name = target.site.normalization.name
    if np.size(mean) != target.mean.size:
        raise InputError(f"`{name}` normalizes {np.size(mean)} channels and stores {target.mean.size} means. Export it again.")
    if values < 2:
        raise InputError(
            f"`{name}` gets {values} value for each channel in a batch of {stream.size}, and one value has no variance. "
            "Use larger batches with --batch; a model that fixes its batch at 1 has to be exported again."
        )
    if not (np.isfinite(mean).all() and np.isfinite(var).all()):
        raise InputError(
            f"`{name}` has batch statistics that are NaN or infinite on {stream.name}. Are the data preprocessed as in training "
            "(--preprocess), and are the weights good?"
        )


def _layer(target: Target, found: _Statistics) -> Layer:
    epsilon = target.probe.epsilon
    sigma = np.sqrt(found.var + epsilon)
    spread = np.sqrt(found.squares / max(1, found.batches - 1)) / sigma
    usable = bool(np.isfinite(target.mean).all() and np.isfinite(target.var).all() and (target.var + epsilon > 0).all())
    untrained = not target.mean.any() and bool((target.var == 1).all())
    shift, ratio = None, None
    if usable:
        ratios = (found.var + epsilon) / (target.var + epsilon)
        shift = float((np.abs(found.mean - target.mean) / sigma).max())
        ratio = (float(ratios.min()), float(ratios.max()))
    return Layer(
        name=target.site.normalization.name,
        channels=int(target.mean.size),
        values_per_batch=found.values,
        before="unusable" if not usable else "untrained" if untrained else "stored",
        was_training=target.was_training,
        mean_shift=shift,
        variance_ratio=ratio,
        batch_spread=float(spread.max()),
    )


def _failures(path: Path, stream: Stream) -> list[str]:
    """Whether the written model gives numbers, where onnxruntime runs it: before opset 7 it has no kernel."""
    source = read_source(path, "candidate")
    try:
        outputs = Session(source, "disabled").run(stream.last)
    except CannotRun:
        return []
    broken = [
        spec.name
        for spec, value in zip(source.outputs, outputs, strict=True)
        if spec.elem_type in ("float", "double", "float16") and not np.isfinite(np.asarray(value, np.float64)).all()
    ]
    return [f"With the new statistics, output `{name}` is NaN or infinite on the last batch." for name in broken]


def _dropouts_off(context: Context) -> list[Note]:
    notes = []
    for node in list(context.view.nodes()):
        if context.view.op_type(node) != "Dropout" or not is_training_dropout(context, node):
            continue
        proto = context.view.node_proto(node)
        assert proto is not None
        dropout_off(proto, context.view.opset(node))
        sentence = f"{describe(node)} was in training mode: it is off now, and was while the statistics were measured"
        notes.append(Note("BNF002", sentence, node.name or node.outputs[0].name, context.view.scope(node).name))
    return notes


def _unused_prefix(proto: onnx.ModelProto) -> str:
    """A prefix that no name in the main graph starts with."""
    names = {name for node in proto.graph.node for name in (*node.input, *node.output)}
    prefix = "bnfold"
    while any(name.startswith(prefix) for name in names):
        prefix += "_"
    return prefix


def _data_name(model: Model, target: Path) -> str:
    """The name of the data file beside `target`: never one that the source reads."""
    name = f"{target.name}.data"
    mine = {file.resolve() for file in model.external_files()}
    while target.with_name(name).resolve() in mine:
        name += ".data"
    return name


def _facts(model: Model) -> ModelFacts:
    opsets = {entry.domain: entry.version for entry in model.proto.opset_import}
    producer = f"{model.proto.producer_name} {model.proto.producer_version}".strip()
    return ModelFacts(str(model.path or ""), model.proto.ir_version, opsets, producer, model.size_bytes)
