"""Finds the normalizations of a model: every BatchNormalization, in every form it has had since opset 1.

| opset  | inference mode is said by                        | statistics                                        |
|--------|--------------------------------------------------|---------------------------------------------------|
| 1, 6   | `is_test=1`, whatever outputs are named          | per channel, or per activation with `spatial=0`   |
| 7, 8   | only `Y` being named among the outputs           | per channel, or per activation with `spatial=0`   |
| 9, 13  | only `Y` being named among the outputs           | per channel                                       |
| 14, 15 | `training_mode=0`, the default                   | per channel                                       |

Source: ONNX operator BatchNormalization, versions 1, 6, 7, 9, 14, 15. That naming the other outputs means training from
opset 7 to 13 is also what onnxruntime 1.31 does: with five outputs named it uses batch statistics, read or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from bnfold.affine import Affine
from bnfold.context import Context
from bnfold.edits import Map
from bnfold.graph import describe
from bnfold.verdict import Normalization, Note, Reason

_PARAMETERS = ("scale", "B", "input_mean", "input_var")


@dataclass(frozen=True, eq=False)
class Site:
    """One normalization in the graph.

    Attributes:
        node: the BatchNormalization.
        map: its affine map, or why it has none.
        normalization: what is said of it.
        notes: remarks on its parameters.
    """

    node: gs.Node
    map: Map | Reason
    normalization: Normalization
    notes: tuple[Note, ...]


def find_sites(context: Context) -> Iterator[Site]:
    """Every BatchNormalization of every scope, in graph order."""
    for node in context.view.nodes():
        if context.view.op_type(node) == "BatchNormalization":
            yield _site(context, node)


def _site(context: Context, node: gs.Node) -> Site:
    map_ = _map(context, node)
    channels = map_.channels if isinstance(map_, Map) else None
    normalization = _normalization(context, node, channels)
    notes = _notes(context, node, normalization) if isinstance(map_, Map) else ()
    return Site(node, map_, normalization, notes)


def _map(context: Context, node: gs.Node) -> Map | Reason:
    if len(node.inputs) < 5:
        return Reason(
            "BNF006",
            "it has fewer than five inputs",
            "Check the exporter: the operator needs X, scale, B, mean and var.",
        )
    reference = context.view.attribute_reference(node)
    if reference:
        return Reason("BNF006", f"its attribute `{reference}` is set by the function's caller")
    reason = _training_mode(context, node)
    if reason is not None:
        return reason
    values = []
    for name, tensor in zip(_PARAMETERS, node.inputs[1:5], strict=True):
        weight = context.float_weight(tensor)
        if isinstance(weight, Reason):
            return Reason(weight.code, f"its {name}, {weight.sentence}", weight.remedy)
        values.append(weight.values())
    if len({array.shape for array in values}) > 1:
        shapes = ", ".join(str(list(array.shape)) for array in values)
        return Reason("BNF012", f"its parameters differ in shape: {shapes}", "The model is damaged: export it again.")
    gamma, beta, mean, var = values
    per_activation = context.view.opset(node) < 9 and not context.view.attribute(node, "spatial", 1)
    if not per_activation and gamma.ndim != 1:
        return Reason("BNF012", f"its parameters have {gamma.ndim} axes instead of one", "The model is damaged: export it again.")
    affine = Affine.batch_normalization(gamma, beta, mean, var, _epsilon(context, node))
    if not affine.is_finite:
        return Reason("BNF007", _bad_channels(affine, var), "Recalibrate its statistics, or train the layer again.")
    return Map(affine, tuple(range(1, 1 + gamma.ndim)))


def _training_mode(context: Context, node: gs.Node) -> Reason | None:
    view, opset = context.view, context.view.opset(node)
    remedy = "Call eval() on the module and export it again, or recalibrate."
    if opset < 7:
        training, sign = not view.attribute(node, "is_test", 0), "`is_test` is not set"
    elif opset < 14:
        named = [each.name for each in node.outputs[1:] if not each.is_empty()]
        training, sign = bool(named), f"its training outputs are named ({', '.join(named)})"
    else:
        training, sign = bool(view.attribute(node, "training_mode", 0)), "`training_mode` is 1"
    return (
        Reason("BNF001", f"it is in training mode: {sign}, so it uses the statistics of each batch", remedy) if training else None
    )


def _epsilon(context: Context, node: gs.Node) -> float:
    return float(context.view.attribute(node, "epsilon", float(np.float32(1e-5))))


def _bad_channels(affine: Affine, var: np.ndarray) -> str:
    bad = ~(np.isfinite(affine.scale) & np.isfinite(affine.center) & np.isfinite(affine.shift))
    first = int(np.flatnonzero(bad)[0])
    return (
        f"{int(bad.sum())} of its {bad.size} channels have no finite scale and shift; "
        f"channel {first} has variance {var.ravel()[first]:.3g}"
    )


def _notes(context: Context, node: gs.Node, normalization: Normalization) -> tuple[Note, ...]:
    mean, var = (context.float_weight(each) for each in node.inputs[3:5])
    assert not isinstance(mean, Reason)
    assert not isinstance(var, Reason)
    means, variances = mean.values(), var.values()
    if not means.any() and (variances == 1).all():
        sentence = "running statistics look untrained: mean 0 and variance 1 everywhere"
    elif variances.size and not variances.any():
        sentence = "running statistics look empty: variance 0 everywhere"
    else:
        return ()
    return (Note("BNF017", sentence, normalization.name, normalization.scope),)


def _normalization(context: Context, node: gs.Node, channels: int | None) -> Normalization:
    view, output = context.view, node.outputs[0]
    producer = view.producer(node.inputs[0]) if node.inputs else None
    readers = [describe(each) for each in view.readers(output)]
    if id(output) in view.escaping:
        readers.append("graph output")
    return Normalization(
        name=node.name or output.name,
        scope=view.scope(node).name,
        op_type="BatchNormalization",
        output=output.name,
        producer=describe(producer) if producer is not None else "",
        readers=tuple(readers),
        channels=channels,
        epsilon=float(str(np.float32(_epsilon(context, node)))),
    )
