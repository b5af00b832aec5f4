"""Looks at a module before it is exported: what is in training mode, and whether its normalizations have statistics.

PyTorch's exporter (2.13) writes every normalization of a traced program in inference mode, whatever mode it was traced in,
and says nothing. So a program that was traced in training mode is refused here: the file would compute something else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bnfold.report.exported import Diagnostic

if TYPE_CHECKING:
    import torch

_RECALIBRATE = (
    "To measure them on data afterwards: export with --placeholder-statistics (placeholder_statistics=True), then "
    "`bnfold recalibrate`."
)
_EVAL = "Call eval() on the module before you export or trace it."


@dataclass(frozen=True)
class Norm:
    """One normalization layer of a module.

    Attributes:
        name: its dotted path.
        kind: its class.
        mean: running means, float64; None where it keeps none.
        var: running variances, likewise.
        batches: how many batches they were averaged over; None where nobody counted.
        epsilon: what is added to the variance.
    """

    name: str
    kind: str
    mean: NDArray[np.float64] | None
    var: NDArray[np.float64] | None
    batches: int | None
    epsilon: float


def norms_of(module: Any) -> list[Norm]:
    """The normalization layers of an nn.Module, or of an ExportedProgram by its state dict, in order."""
    import torch

    if isinstance(module, torch.export.ExportedProgram):
        return list(_program_norms(module))
    return [
        _norm(name or type(each).__name__, each)
        for name, each in module.named_modules()
        if isinstance(each, torch.nn.modules.batchnorm._BatchNorm) or _is_scripted_norm(each)
    ]


def modes(module: torch.nn.Module) -> list[Diagnostic]:
    """What a module in training mode would have done: normalize with batch statistics (BNF001), drop values (BNF002)."""
    import torch

    training = [(name or type(each).__name__, each) for name, each in module.named_modules() if each.training]
    norms = tuple(name for name, each in training if isinstance(each, torch.nn.modules.batchnorm._BatchNorm))
    drops = tuple(name for name, each in training if isinstance(each, torch.nn.modules.dropout._DropoutNd) and each.p)
    found = []
    if norms:
        sentence = "was in training mode and would use the statistics of each batch; it was set to eval() for the export"
        found.append(Diagnostic("BNF001", sentence, norms, _EVAL))
    if drops:
        sentence = "was in training mode and would drop values at random; it was set to eval() for the export"
        found.append(Diagnostic("BNF002", sentence, drops, _EVAL))
    return found


def still_training(module: torch.nn.Module) -> list[Diagnostic]:
    """Parts that stay in training mode after eval(): their class overrides train()."""
    names = tuple(name or type(each).__name__ for name, each in module.named_modules() if each.training)
    sentence = "stays in training mode when eval() is called on the module"
    return [Diagnostic("BNF001", sentence, names, "Look for a train() or eval() of its own.", True)] if names else []


def statistics(norms: list[Norm]) -> list[Diagnostic]:
    """Statistics that are absent (BNF024), not finite or negative (BNF007), or were never updated (BNF017)."""
    found = []
    absent = tuple(norm.name for norm in norms if norm.mean is None or norm.var is None)
    if absent:
        sentence = "keeps no running statistics (track_running_stats=False): it uses those of each batch, in eval mode too"
        found.append(Diagnostic("BNF024", sentence, absent, _RECALIBRATE, True))
    broken = {norm.name: text for norm in norms if (text := _broken(norm))}
    for text in dict.fromkeys(broken.values()):
        names = tuple(name for name, each in broken.items() if each == text)
        found.append(Diagnostic("BNF007", text, names, f"Train from an earlier checkpoint. {_RECALIBRATE}", True))
    negative = tuple(norm.name for norm in norms if norm.name not in broken and norm.var is not None and (norm.var < 0).any())
    if negative:
        sentence = "has negative variances, which epsilon makes up for"
        found.append(Diagnostic("BNF007", sentence, negative, "Measure them again with `bnfold recalibrate`."))
    untrained = {norm.name: text for norm in norms if norm.name not in broken and (text := _untrained(norm))}
    for text in dict.fromkeys(untrained.values()):
        names = tuple(name for name, each in untrained.items() if each == text)
        remedy = "Load the trained weights with --weights, or measure the statistics with `bnfold recalibrate`."
        found.append(Diagnostic("BNF017", text, names, remedy))
    return found


def traced_modes(program: torch.export.ExportedProgram) -> list[Diagnostic]:
    """Operators of a program that were traced in training mode, for whatever reason."""
    norms, drops = [], []
    for node in _calls(program):
        name = str(node.target)
        if "batch_norm" in name and _argument(node, ("training", "train")) is True:
            norms.append(_place(node))
        if "dropout" in name and _argument(node, ("train", "training")) is True and _argument(node, ("p",)) != 0:
            drops.append(_place(node))
    found = []
    for code, places, what in (
        ("BNF001", norms, "normalizes with the statistics of each batch"),
        ("BNF002", drops, "drops values"),
    ):
        if places:
            sentence = f"{what}, also in eval mode: training=True is written in the code, or it was traced in training mode"
            found.append(Diagnostic(code, sentence, tuple(dict.fromkeys(places)), f"Pass training=self.training. {_EVAL}", True))
    return found


def count_kinds(norms: list[Norm]) -> dict[str, int]:
    """Class name → how many."""
    return dict(Counter(norm.kind for norm in norms))


def _norm(name: str, module: Any) -> Norm:
    batches = getattr(module, "num_batches_tracked", None)
    return Norm(
        name,
        str(getattr(module, "original_name", type(module).__name__)),
        _array(getattr(module, "running_mean", None)),
        _array(getattr(module, "running_var", None)),
        None if batches is None else int(batches),
        float(getattr(module, "eps", 0.0)),
    )


def _is_scripted_norm(module: Any) -> bool:
    return str(getattr(module, "original_name", "")).startswith(("BatchNorm", "SyncBatchNorm"))


def _program_norms(program: torch.export.ExportedProgram) -> Iterator[Norm]:
    buffers = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    names = dict(program.graph_signature.inputs_to_buffers)
    for node in _calls(program):
        if "batch_norm" not in str(node.target):
            continue
        mean, var = (_stored(program, names, buffers, _argument(node, (word,))) for word in ("running_mean", "running_var"))
        counter = next((names[each] for each in names if names[each] == f"{_place(node)}.num_batches_tracked"), "")
        batches = program.state_dict.get(counter)
        epsilon = float(_argument(node, ("eps",)) or 0.0)
        yield Norm(_place(node), "batch_norm", mean, var, None if batches is None else int(batches), epsilon)


def _stored(program: Any, names: dict[str, str], buffers: dict[str, Any], argument: Any) -> NDArray[np.float64] | None:
    name = getattr(argument, "name", None)
    if name not in buffers or name not in names:
        return None
    return _array(program.state_dict.get(names[name], program.constants.get(names[name])))


def _calls(program: torch.export.ExportedProgram) -> Iterator[Any]:
    import torch

    for graph in (each.graph for each in program.graph_module.modules() if isinstance(each, torch.fx.GraphModule)):
        yield from (node for node in graph.nodes if node.op == "call_function")


def _argument(node: Any, names: tuple[str, ...]) -> Any:
    """The call's argument of one of these names; None where it has none."""
    schema = getattr(node.target, "_schema", None)
    for place, argument in enumerate(schema.arguments if schema is not None else ()):
        if argument.name in names:
            return node.args[place] if place < len(node.args) else node.kwargs.get(argument.name, argument.default_value)
    return None


def _place(node: Any) -> str:
    """The dotted path of the module that the call stands in, or the call's own name outside of any."""
    stack = node.meta.get("nn_module_stack") or {}
    path = str(list(stack.values())[-1][0]) if stack else ""
    return path.removeprefix("L['self'].") or str(node.name)


def _array(tensor: Any) -> NDArray[np.float64] | None:
    if tensor is None:
        return None
    array: NDArray[np.float64] = tensor.detach().double().cpu().numpy()
    return array


def _broken(norm: Norm) -> str:
    if norm.mean is None or norm.var is None:
        return ""
    bad = ~np.isfinite(norm.mean) | ~np.isfinite(norm.var)
    if bad.any():
        return "has running statistics that are NaN or infinite"
    return (
        "has variances so far below zero that epsilon does not make up for them" if (norm.var + norm.epsilon <= 0).any() else ""
    )


def _untrained(norm: Norm) -> str:
    if norm.mean is None or norm.var is None or not norm.var.size:
        return ""
    if not norm.mean.any() and (norm.var == 1).all():
        counted = ", and no batch was counted" if norm.batches == 0 else ""
        return f"has running statistics that look untrained: mean 0 and variance 1 everywhere{counted}"
    return "" if norm.var.any() else "has running statistics that look empty: variance 0 everywhere"
