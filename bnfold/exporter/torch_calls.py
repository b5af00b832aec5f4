"""The calls into PyTorch's exporter: tracing a module, and turning the program into ONNX.

Why `optimize=False`, and why not the TorchScript exporter: docs/decisions/0010-which-exporter.md.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from bnfold.errors import EnvironmentUnfit, InputError
from bnfold.operators import default_opset

if TYPE_CHECKING:
    import onnx
    import torch


Shapes: TypeAlias = tuple[dict[int, Any] | None, ...] | None
"""For each input: axis → torch.export.Dim, or None where it is fixed; None for all fixed."""

OPSET = 18
"""The exporter's native opset: nothing is converted. onnxruntime reads it, with IR 10, since 1.18."""

BATCH = "batch"
"""What the dynamic first axis is called."""

_ADVICE = re.compile(r"For more information|For extended logs|If you suspect|The error above|If you're using|Suggested fixes")


def need_torch() -> None:
    """Raises `EnvironmentUnfit` where PyTorch or what its ONNX exporter needs is missing."""
    try:
        import onnxscript  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise EnvironmentUnfit(
            f"{error.name} is not installed, and the export needs it. Run: pip install 'bnfold[torch]'"
        ) from error


def dynamic_shapes(args: Sequence[Any], dynamic_batch: bool) -> Shapes:
    """What torch.export is told of the inputs' axes: the first axis of each one that is as long as the first's is the batch."""
    import torch

    if not dynamic_batch:
        return None
    batch = torch.export.Dim(BATCH)
    extent = args[0].shape[0] if args and args[0].dim() else None
    return tuple({0: batch} if arg.dim() and arg.shape[0] == extent else None for arg in args)


def trace(module: torch.nn.Module, args: Sequence[torch.Tensor], shapes: Shapes) -> torch.export.ExportedProgram:
    """The module as a program of torch operators.

    Raises:
        InputError: it cannot be traced; the message has torch's reason, and what to do about the common ones.
    """
    import torch

    try:
        with quiet(), torch.no_grad():
            return torch.export.export(module, tuple(args), dynamic_shapes=shapes)
    except Exception as error:  # anything that the module's own code may raise
        raise InputError(
            f"PyTorch cannot trace {type(module).__name__}: {_reason(error)} {_remedy(module, error)}".strip()
        ) from error


def to_onnx(
    program: torch.export.ExportedProgram, shapes: Shapes, inputs: Sequence[str], outputs: Sequence[str], opset: int
) -> onnx.ModelProto:
    """The program exactly as PyTorch's exporter writes it, normalizations in place.

    Args:
        program: the traced module.
        shapes: as for `trace`; with it the symbolic axis is called `batch`.
        inputs: names for the inputs; () keeps the program's own.
        outputs: names for the outputs; () keeps the program's own.
        opset: version of the default domain.

    Raises:
        InputError: an operator has no ONNX form, or the opset cannot be had.
    """
    import torch

    try:
        with quiet():
            made = torch.onnx.export(
                program,
                (),
                dynamo=True,
                optimize=False,
                opset_version=opset,
                input_names=list(inputs) or None,
                output_names=list(outputs) or None,
                dynamic_shapes=shapes,
                verbose=False,
            )
    except Exception as error:  # torch.onnx's errors have no common base
        raise InputError(f"PyTorch's exporter stops: {_reason(error)}") from error
    assert made is not None
    model: onnx.ModelProto = made.model_proto
    written = default_opset(model.opset_import)
    if written != opset:
        raise InputError(
            f"PyTorch {torch.__version__} cannot write this model in opset {opset}: it made opset {written}. "
            f"Ask for that with --opset {written}, which every runtime of the last two years reads."
        )
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Silences what torch and onnxscript log about their own internals; what concerns the caller is raised."""
    names = "torch", "torch.export", "torch.onnx._internal.exporter._registration", "onnxscript"
    levels = {logger: logger.level for logger in map(logging.getLogger, names)}
    for logger in levels:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def _reason(error: Exception) -> str:
    """The first sentences of what torch said: its messages go on with advice, logs and listings of code."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    lines: list[str] = []
    for line in (each.strip() for each in text.splitlines()):
        if _ADVICE.match(line) or line.startswith(("def forward", "# File", "class ")):
            break
        lines.append(line)
    words = " ".join(" ".join(lines).split())[:400].rstrip()
    return f"{type(error).__name__}: {words}" + ("" if words.endswith(".") else ".")


def _remedy(module: torch.nn.Module, error: Exception) -> str:
    import torch

    text = str(error)
    scripted = [name or "it" for name, part in module.named_modules() if isinstance(part, torch.jit.ScriptModule)]
    if scripted:
        return (
            f"{scripted[0]} is a ScriptModule. The old exporter, which takes those, folds normalizations without a word. "
            "Export the Python module that it was made from; torch.save(scripted.state_dict(), FILE) keeps its weights, and "
            "--weights FILE loads them."
        )
    if "specialized it to be a constant" in text or "Constraints violated" in text:
        return "Its code fixes the batch size: export it with --static (dynamic_batch=False), or mend the code."
    if "data-dependent" in text:
        return "What it computes decides which code runs: take that branch out of forward(), or use torch.cond."
    return ""
