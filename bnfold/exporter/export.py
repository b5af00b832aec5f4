"""`bnfold.export`: look at the module, trace it, write it, compare it with the module, fold it, and only then put it in place."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from bnfold import pipeline
from bnfold.errors import InputError
from bnfold.exporter.agree import Inputs, agreement, in_eval_mode, made_up_feeds, real_feeds, run_onnx, run_torch
from bnfold.exporter.examine import Norm, count_kinds, modes, norms_of, statistics, still_training, traced_modes
from bnfold.exporter.example import TRACED, with_example
from bnfold.exporter.module import materialize, unwrapped, with_placeholders
from bnfold.exporter.names import tidy
from bnfold.exporter.plumbing import remove_plumbing
from bnfold.exporter.sources import Source, open_source
from bnfold.exporter.torch_calls import OPSET, Shapes, dynamic_shapes, need_torch, to_onnx, trace
from bnfold.exporter.weights import load_weights
from bnfold.model import move_into_place, staged
from bnfold.report.exported import Agreement, Diagnostic, ExportReport
from bnfold.runtime.source import read_source

if TYPE_CHECKING:
    import torch

    from bnfold.report.report import Report

_INSIDE_LIMIT = 1_900_000_000
"""Bytes of weights above which they go into a file of their own: one protobuf message holds 2 GB."""


@dataclass(frozen=True)
class Request:
    """What the caller asked for; the attributes are the arguments of `export`."""

    path: Path
    inputs: Inputs | None = None
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    dynamic_batch: bool = True
    opset: int = OPSET
    fold: bool = False
    placeholder_statistics: bool = False
    data: str | None = None
    preprocess: str | None = None
    atol: float | None = None
    rtol: float | None = None
    seed: int = 0
    weights: str = ""


@dataclass
class _Made:
    """What has come of it so far."""

    written: bool = False
    size_bytes: int | None = None
    ir_version: int = 0
    kept: int = 0
    set_to_eval: int = 0
    diagnostics: list[Diagnostic] = field(default_factory=list)
    agreements: list[Agreement] = field(default_factory=list)
    folded: Report | None = None


def export(
    module: torch.nn.Module | torch.export.ExportedProgram,
    args: Any,
    path: str | os.PathLike[str],
    *,
    input_names: Sequence[str] = (),
    output_names: Sequence[str] = (),
    dynamic_batch: bool = True,
    opset: int = OPSET,
    fold: bool = False,
    placeholder_statistics: bool = False,
    inputs: Inputs | None = None,
    data: str | None = None,
    preprocess: str | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    seed: int = 0,
) -> ExportReport:
    """Writes a PyTorch module as an ONNX file that keeps its batch normalizations, and compares the two.

    The module is exported in eval mode, whatever mode it is in, and is in its own mode again afterwards.

    Args:
        module: an nn.Module, or a program of torch.export.
        args: example inputs: a tensor, or a tuple of tensors in the order of `forward`; () for a program that has its own.
        path: where the file goes; one that is there is replaced.
        input_names: names for the inputs; those of `forward` by default.
        output_names: names for the outputs; "output" by default, or "output_0", "output_1", … for several.
        dynamic_batch: leave the first axis open in every input that is as long as the first input there.
        opset: version of the ONNX operators.
        fold: fold the normalizations with `bnfold.optimize`, and write the folded model.
        placeholder_statistics: give normalizations without usable running statistics mean 0 and variance 1, for
            `bnfold.recalibrate` to replace.
        inputs: an .npz file or a list of mappings from input name to array to compare on, instead of seeded random ones.
        data: a data set to compare on, as in `bnfold accuracy --data`: its first 64 samples.
        preprocess: what is done to the samples.
        atol: absolute part of the tolerance, in units of the output.
        rtol: part of the tolerance that is relative to the largest output value.
        seed: of the random inputs.

    Returns:
        A report. A module that cannot be exported in inference mode, and a file that computes something else, are reported
        (`ok` is False, nothing is written), not raised.

    Raises:
        InputError: the module cannot be traced, the inputs do not fit, or the destination cannot be written.
        EnvironmentUnfit: PyTorch or onnxscript is missing, or the installed onnxruntime cannot run the file.
    """
    need_torch()
    import torch

    tensors = (args,) if isinstance(args, torch.Tensor) else tuple(args)
    if not all(isinstance(each, torch.Tensor) for each in tensors):
        raise InputError("the example inputs are not all tensors. Wrap the module in one whose forward() takes tensors only.")
    request = Request(
        Path(path),
        inputs,
        tuple(input_names),
        tuple(output_names),
        dynamic_batch,
        opset,
        fold,
        placeholder_statistics,
        data,
        preprocess,
        atol,
        rtol,
        seed,
    )
    return run(Source(type(module).__name__, module, tensors), request)


def export_source(
    source: str,
    path: Path,
    *,
    weights: Path | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    **options: Any,
) -> ExportReport:
    """What the command line does: as `export`, for something that is named.

    Args:
        source: see `bnfold.exporter.sources.open_source`.
        path: where the file goes.
        weights: a state dict for the module.
        input_shapes: input name → shape, in the order of `forward` if the names are not those of its parameters.
        options: the other attributes of `Request`.
    """
    need_torch()
    opened = open_source(source)
    if weights is not None:
        if not hasattr(opened.module, "load_state_dict"):
            raise InputError(f"{source} holds its weights already. Leave out --weights.")
        load_weights(opened.module, weights)
    request = Request(path, weights=str(weights or ""), **options)
    return run(with_example(opened, request.inputs, input_shapes or {}, request.dynamic_batch), request)


def run(source: Source, request: Request) -> ExportReport:
    """Exports `source`; the flow in one place."""
    import torch

    started = time.perf_counter()
    made = _Made()
    norms: list[Norm] = []

    def report() -> ExportReport:
        return ExportReport(
            source=source.label,
            torch=torch.__version__,
            destination=str(request.path),
            written=made.written,
            size_bytes=made.size_bytes,
            opset=request.opset,
            ir_version=made.ir_version,
            dynamic_batch=request.dynamic_batch,
            normalizations=count_kinds(norms),
            kept=made.kept,
            set_to_eval=made.set_to_eval,
            weights=request.weights,
            diagnostics=tuple(made.diagnostics),
            agreements=tuple(made.agreements),
            folded=made.folded,
            elapsed_s=time.perf_counter() - started,
        )

    module = unwrapped(source.module)
    made.diagnostics += modes(module) if isinstance(module, torch.nn.Module) else []
    with in_eval_mode(module) as made.set_to_eval:
        if isinstance(module, torch.nn.Module):
            made.diagnostics += still_training(module)
            materialize(module, source.args)
        norms += norms_of(module)
        if request.placeholder_statistics and isinstance(module, torch.nn.Module):
            module = with_placeholders(module)
            norms[:] = norms_of(module)
        made.diagnostics += statistics(norms)
        if any(each.fatal for each in made.diagnostics):
            return report()
        shapes = dynamic_shapes(source.args, request.dynamic_batch)
        program = (
            module if isinstance(module, torch.export.ExportedProgram) else trace(module, _traced(source.args, shapes), shapes)
        )
        made.diagnostics += traced_modes(program)
        if any(each.fatal for each in made.diagnostics):
            return report()
        with staged(request.path) as stage:
            _write(source, request, module, program, shapes, stage, made)
    return report()


def _traced(args: Sequence[torch.Tensor], shapes: Shapes) -> list[torch.Tensor]:
    """The example with a batch of at least two, wherever the batch is to be open."""
    if shapes is None:
        return list(args)
    return [
        arg if not open_ or arg.shape[0] >= TRACED else arg.repeat(TRACED, *(1,) * (arg.dim() - 1))
        for arg, open_ in zip(args, shapes, strict=True)
    ]


def _write(
    source: Source, request: Request, module: Any, program: torch.export.ExportedProgram, shapes: Shapes, stage: Path, made: _Made
) -> None:
    """Writes, compares and folds inside `stage`, and moves into place what agrees."""
    names = request.input_names or source.inputs
    own = isinstance(module, type(program))
    model = to_onnx(program, None if own else shapes, names, _output_names(request, source, program), request.opset)
    remove_plumbing(model)
    tidy(model)
    made.ir_version = model.ir_version
    made.kept = sum(node.op_type == "BatchNormalization" for node in model.graph.node)
    unfolded = stage / f"unfolded-{request.path.name}" if request.fold else stage / request.path.name
    files = save(model, unfolded)
    specs = read_source(unfolded, "candidate").inputs
    order = [spec.name for spec in specs]
    feeds = real_feeds(specs, request.inputs, request.data, request.preprocess)
    if not feeds:
        feeds = made_up_feeds(order, source.args or program.example_inputs[0], request.dynamic_batch and not own, request.seed)
    run_module = program.module() if own else module
    torch_side = ("PyTorch", _both_levels(run_torch(run_module, order, feeds)))
    unfolded_side = ("unfolded", run_onnx(unfolded, feeds))
    made.agreements.append(agreement(torch_side, unfolded_side, unfolded, feeds, request.atol, request.rtol))
    if not made.agreements[-1].ok:
        return
    if request.fold:
        target = stage / request.path.name
        made.folded = pipeline.optimize(
            unfolded, target, atol=request.atol, rtol=request.rtol, inputs=[feed.values for feed in feeds]
        )
        if not made.folded.ok:
            return
        files = [*(stage / name for name in made.folded.data_files), target]
        folded_side = ("folded", run_onnx(target, feeds))
        for left in (torch_side, unfolded_side):
            made.agreements.append(agreement(left, folded_side, target, feeds, request.atol, request.rtol))
        if not all(each.ok for each in made.agreements):
            return
    made.size_bytes = sum(file.stat().st_size for file in files)
    move_into_place(files, stage, request.path.parent)
    made.written = True


def save(model: onnx.ModelProto, path: Path, limit: int = _INSIDE_LIMIT) -> list[Path]:
    """Checks a model and writes it; weights of more than `limit` bytes in all go to a file beside it. The model comes last."""
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) <= limit:
        onnx.checker.check_model(model, full_check=True)
        path.write_bytes(model.SerializeToString(deterministic=True))
        return [path]
    data = path.with_name(f"{path.name}.data")
    onnx.save_model(model, str(path), save_as_external_data=True, location=data.name, size_threshold=1024)
    onnx.checker.check_model(str(path))
    return [data, path]


def _both_levels(outputs: Any) -> dict[str, Any]:
    return {"disabled": outputs, "default": outputs}


def _output_names(request: Request, source: Source, program: torch.export.ExportedProgram) -> tuple[str, ...]:
    names = request.output_names or source.outputs
    if names:
        return names
    count = len(program.graph_signature.user_outputs)
    return ("output",) if count == 1 else tuple(f"output_{place}" for place in range(count))
