"""The main job: open, plan, apply, save to a hidden folder, verify the saved file, move it into place."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import onnx

from bnfold import provenance
from bnfold.choice import Choice
from bnfold.decision import carry_out, decide
from bnfold.errors import InputError
from bnfold.model import Model, external_tensors, move_into_place, refers_to, staged
from bnfold.report.report import Inspection, ModelFacts, Report
from bnfold.verdict import Plan
from bnfold.weights import ExternalRegion, Weight, stored_bytes

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from bnfold.runtime.accuracy import Accuracy
    from bnfold.runtime.providers import Target
    from bnfold.runtime.verify import Levels, Verification

    ModelLike: TypeAlias = str | os.PathLike[str] | onnx.ModelProto | gs.Graph
    Pending: TypeAlias = list[tuple[onnx.TensorProto, Weight]]


@dataclass(frozen=True)
class FoldResult:
    """A folded model and what was decided about it.

    Attributes:
        model: a `gs.Graph` if one was given, an `onnx.ModelProto` with all its weights inside otherwise.
        plan: one verdict for each normalization.
    """

    model: Any
    plan: Plan


def fold(
    model: ModelLike,
    *,
    freeze_initializers: bool = False,
    keep: Sequence[str] = (),
    only: Sequence[str] = (),
    force: bool = False,
    no_batchnorm: bool = False,
) -> FoldResult:
    """Folds a model in memory. Needs no runtime, verifies nothing, and leaves its argument as it is.

    Args:
        model: a path, an `onnx.ModelProto` or an onnx-graphsurgeon `Graph`.
        freeze_initializers: make constants of initializers that callers could override.
        keep: glob patterns of normalizations, by node name or output name, that stay.
        only: glob patterns; when given, only matching normalizations fold.
        force: take folds that do not pay (BNF020), too.
        no_batchnorm: write BatchNormalizations that stay as primitives, for targets without that operator.

    Raises:
        InputError: the model cannot be read or is invalid.
    """
    own = _own(model)
    with _named(own):
        decision = decide(own, _choice(keep, only, no_batchnorm), freeze_initializers, force)
        _load_external(own, carry_out(decision, own, freeze_initializers))
    return FoldResult(_like(model, own.proto), decision.plan)


def plan(
    model: ModelLike,
    *,
    freeze_initializers: bool = False,
    keep: Sequence[str] = (),
    only: Sequence[str] = (),
    force: bool = False,
    no_batchnorm: bool = False,
) -> Plan:
    """Decides about every normalization of a model and changes nothing. The arguments are those of `fold`.

    Raises:
        InputError: the model cannot be read or is invalid.
    """
    own = _borrowed(model) if isinstance(model, onnx.ModelProto) else _own(model)
    with _named(own):
        return decide(own, _choice(keep, only, no_batchnorm), freeze_initializers, force).plan


def inspect(source: str | os.PathLike[str], *, freeze_initializers: bool = False) -> Inspection:
    """Reads what a model file says about itself and decides about every normalization.

    Raises:
        InputError: the model cannot be read or is invalid.
    """
    model = Model.open(Path(source))
    with _named(model):
        return Inspection(_facts(model), decide(model, Choice(), freeze_initializers).plan)


def optimize(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    freeze_initializers: bool = False,
    keep: Sequence[str] = (),
    only: Sequence[str] = (),
    force: bool = False,
    no_batchnorm: bool = False,
    flush_subnormals: bool = False,
    metadata: bool = True,
    verify: bool = True,
    dry_run: bool = False,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    inputs: str | os.PathLike[str] | Sequence[Mapping[str, Any]] | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    seed: int = 0,
    match_statistics: bool = False,
    levels: Levels = "both",
    budget_s: float = 30.0,
    data: str | os.PathLike[str] | None = None,
    preprocess: str | None = None,
    metric: str = "top1",
    max_drop: float | None = None,
    max_flips: int | None = None,
    margin: float = 0.0,
    jobs: int = 1,
    target: Target | None = None,
) -> Report:
    """Folds a model file, verifies the saved result against the original, and only then puts it in place.

    Args:
        source: the model; never changed, unless `destination` is the same file.
        destination: where the result goes; a file that is there is replaced, together with its external data.
        freeze_initializers: make constants of initializers that callers could override.
        keep: glob patterns of normalizations, by node name or output name, that stay.
        only: glob patterns; when given, only matching normalizations fold.
        force: take folds that do not pay (BNF020), too.
        no_batchnorm: write BatchNormalizations that stay as primitives, for targets without that operator.
        flush_subnormals: store folded values that are subnormal as zero (BNF009).
        metadata: note in the result's `metadata_props` what it was made of; see `bnfold.provenance`.
        verify: run both models with onnxruntime on the same inputs; nothing is written unless they agree.
        dry_run: decide, and write nothing.
        input_shapes: input name → shape, for inputs whose dimensions the model leaves open.
        inputs: an .npz or .npy file, a folder of them or of ONNX test data, or a list of feeds to verify with, in place of
            generated ones.
        atol: absolute part of the tolerance, in units of the output.
        rtol: part of the tolerance that is relative to the largest output value.
        seed: of the generated inputs.
        match_statistics: verify on inputs, too, that are matched to what the model's normalizations store.
        levels: verify at which of onnxruntime's optimization levels: "disabled", "default" or "both".
        budget_s: seconds after which the verification begins nothing optional.
        data: labelled data to run both models on, too; nothing is written unless the gates pass. This and what follows are
            as for `bnfold.accuracy`.
        preprocess: what is done to each sample.
        metric: "top1", or `file.py:function`.
        max_drop: gate on the drop of the metric.
        max_flips: gate on the number of changed answers; 0 when neither gate is given.
        margin: changed answers that were no clearer than this are ties.
        jobs: how many processes run the models.
        target: where both models run, and the execution provider must take the whole of them; the CPU when None.

    Returns:
        A report. A failed verification is reported (`ok` is False, `written` is False), not raised.

    Raises:
        InputError: the model cannot be read or is invalid, the destination cannot be written, or the inputs do not fit.
        EnvironmentUnfit: the installed onnxruntime cannot run the model, or not on this provider, or the disk is full.
    """
    started = time.perf_counter()
    if seed < 0:
        raise InputError(f"seed {seed} is negative. Choose 0 or more.")
    if data is None and (any(value is not None for value in (preprocess, max_drop, max_flips)) or margin or metric != "top1"):
        raise InputError(
            "--max-drop, --max-flips, --margin, --metric and --preprocess are about labelled data. Name some with --data."
        )
    where = _checked_target(target)
    model, place = Model.open(Path(source)), Path(destination)
    if place == model.path and place.is_symlink():  # in place: what the link points to, and not the link
        place = place.resolve()
    if os.path.isfile(place) and any(data.exists() and data.samefile(place) for data in model.external_files()):
        raise InputError(f"cannot write {place}: it holds weights of {source}. Name another file.")
    facts = _facts(model)
    with _named(model):
        decision = decide(model, _choice(keep, only, no_batchnorm), freeze_initializers, force)
    plan_, identical = decision.plan, decision.apply is None and not (freeze_initializers and _has_overridable(model.proto))

    accuracy: Accuracy | None = None

    def report(verification: Verification | None = None, size: int | None = None, files: Sequence[Path] = ()) -> Report:
        elapsed, names = time.perf_counter() - started, tuple(file.name for file in files)
        return Report(facts, str(place), size, plan_, verification, elapsed, size is not None, identical, names, accuracy)

    if dry_run:
        return report()
    with staged(place) as stage:
        if identical:
            files = _copy(model, stage / place.name, place)
        else:
            pending = carry_out(decision, model, freeze_initializers, flush_subnormals)
            if metadata:
                hashed = verify or Path(source).stat().st_size <= provenance.HASHED_BYTES
                provenance.note(model.proto, plan_, provenance.sha256_of(Path(source)) if hashed else "")
            files = model.write(stage / place.name, _data_name(model, place), pending)
        verification = None
        if verify and not identical:
            from bnfold.runtime.verify import verify as verify_models

            verification = verify_models(
                Path(source),
                files[-1],
                input_shapes=input_shapes,
                inputs=inputs,
                atol=atol,
                rtol=rtol,
                seed=seed,
                match_statistics=match_statistics,
                levels=levels,
                budget_s=budget_s,
                **where,
            )
            if not verification.ok:
                return report(verification)
        if data is not None and not identical:
            flips = 0 if max_drop is None and max_flips is None else max_flips  # a fold is an exact rewrite
            gates = {"metric": metric, "max_drop": max_drop, "max_flips": flips, "margin": margin}
            accuracy = _accuracy(Path(source), files[-1], place, data=data, preprocess=preprocess, jobs=jobs, **where, **gates)
            if not accuracy.ok:
                return report(verification)
        for file in files if place.exists() else ():  # as private as what it replaces
            shutil.copymode(place, file)
        size = facts.size_bytes if identical else sum(file.stat().st_size for file in files)
        move_into_place(files, stage, place.parent)
        return report(verification, size, files[:-1])


def _checked_target(target: Target | None) -> dict[str, Target]:
    """The keyword that passes `target` on; for the CPU no runtime is loaded. An absent provider is refused before any work."""
    if target is None or target.is_cpu:
        return {}
    from bnfold.runtime.providers import resolve

    resolve(target)
    return {"target": target}


def _accuracy(source: Path, folded: Path, place: Path, **options: Any) -> Accuracy:
    """Runs both models on labelled data; the folded one goes by the name that it is going to have."""
    from bnfold.runtime.accuracy import accuracy

    found = accuracy(source, folded, **options)
    assert found.candidate is not None
    return replace(found, candidate=replace(found.candidate, model=str(place)))


@contextmanager
def _named(model: Model) -> Iterator[None]:
    """Puts the file's name in front of what is said about it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{model.path}: {error}" if model.path is not None else str(error)) from error
    except UnicodeDecodeError as error:  # protobuf hands out such names, but takes them back nowhere
        raise InputError(f"{model.path or 'the model'}: a name in it is not UTF-8 ({error}). Export it again.") from error


def _choice(keep: Sequence[str], only: Sequence[str], no_batchnorm: bool) -> Choice:
    # One pattern is taken for what it is, and not for a sequence of letters.
    patterns = [(each,) if isinstance(each, str) else tuple(each) for each in (keep, only)]
    return Choice(patterns[0], patterns[1], no_batchnorm)


def _borrowed(proto: onnx.ModelProto) -> Model:
    model = Model(proto)
    model.check()
    return model


def _own(model: ModelLike) -> Model:
    if isinstance(model, onnx.ModelProto):
        return Model.copy_of(model)
    if isinstance(model, str | os.PathLike):
        return Model.open(Path(model))
    import onnx_graphsurgeon as gs

    if isinstance(model, gs.Graph):
        return Model(exported(model))
    raise TypeError(f"expected a path, an onnx.ModelProto or an onnx_graphsurgeon.Graph, not {type(model).__name__}")


def exported(graph: gs.Graph) -> onnx.ModelProto:
    """A user's graph as a model.

    Raises:
        InputError: it cannot be exported.
    """
    import onnx_graphsurgeon as gs

    try:
        with redirect_stdout(io.StringIO()):  # its logger prints
            proto: onnx.ModelProto = gs.export_onnx(graph)
    except gs.OnnxGraphSurgeonException as error:
        raise InputError(f"the graph cannot be exported: {error}") from error
    return proto


def _like(model: ModelLike, proto: onnx.ModelProto) -> Any:
    if isinstance(model, onnx.ModelProto | str | os.PathLike):
        return proto
    import onnx_graphsurgeon as gs

    return gs.import_onnx(proto)


def _load_external(model: Model, pending: Pending) -> None:
    folded = {id(tensor): weight for tensor, weight in pending}
    values = []
    for tensor in external_tensors(model.proto):
        weight = folded.get(id(tensor))
        if weight is not None:
            values.append((tensor, weight.shape, stored_bytes(weight)))
        else:
            values.append((tensor, tuple(tensor.dims), ExternalRegion.of(tensor, model.folder).read()))
    for tensor, shape, raw in values:
        tensor.dims[:] = shape
        tensor.raw_data = raw
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")


def _facts(model: Model) -> ModelFacts:
    proto = model.proto
    opsets = {entry.domain: entry.version for entry in proto.opset_import}
    producer = f"{proto.producer_name} {proto.producer_version}".strip()
    return ModelFacts(str(model.path or ""), proto.ir_version, opsets, producer, model.size_bytes, provenance.read(proto))


def _has_overridable(proto: onnx.ModelProto) -> bool:
    inputs = {value.name for value in proto.graph.input}
    return proto.ir_version >= 4 and any(tensor.name in inputs for tensor in proto.graph.initializer)


def _data_name(model: Model, target: Path) -> str:
    """The name of the data file beside `target`: one that is not there yet, or that belongs to the model being replaced."""
    usual = target.with_name(f"{target.name}.data")
    in_place = model.path is not None and target.exists() and target.samefile(model.path)
    if not usual.exists() or (refers_to(target, usual) and (in_place or not any(map(usual.samefile, model.external_files())))):
        return usual.name
    numbers = (target.with_name(f"{target.name}.{number}.data") for number in itertools.count(1))
    return next(path for path in numbers if not path.exists()).name


def _copy(model: Model, staged_model: Path, target: Path) -> list[Path]:
    """Stages an unchanged model; its external data comes along when it goes to another folder, under its own name."""
    assert model.path is not None
    assert model.folder is not None
    external = [] if target.parent.samefile(model.folder) else model.external_files()
    copied = [_copy_data(source, source.relative_to(model.folder), staged_model.parent, target) for source in external]
    shutil.copyfile(model.path, staged_model)
    return [*(file for file in copied if file is not None), staged_model]


def _copy_data(source: Path, place: Path, stage: Path, target: Path) -> Path | None:
    present = target.parent / place
    if present.exists():
        import filecmp

        if filecmp.cmp(source, present, shallow=False):
            return None
        if not refers_to(target, present):
            raise InputError(f"{present} is in the way of the external data of the same name. Choose another folder.")
    (stage / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, stage / place)
    return stage / place
