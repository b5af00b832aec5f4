"""What a BatchNormalization says of itself: its attributes, in every form it has had, and its constants.

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

import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from bnfold.affine import Affine, Float64
from bnfold.context import Context
from bnfold.edits import Map
from bnfold.vectorized import read_maps
from bnfold.verdict import Reason
from bnfold.weights import FLOAT_TYPES, Stored, is_external

_NAMES = ("scale", "B", "input_mean", "input_var")
_DAMAGED = "The model is damaged: export it again."
_DEFAULT_EPSILON = float(np.float32(1e-5))


@dataclass(frozen=True, eq=False, slots=True)
class Parameters:
    """What a BatchNormalization's constants say: its map, or why they make none, and what is remarkable about them (BNF017)."""

    map_: Map | Reason
    remark: str = ""


def parameters_of(context: Context, node: gs.Node) -> Parameters:
    """What a BatchNormalization with all its inputs says, read once as long as its constants stay the same (BNF006, BNF007,
    BNF012)."""
    key = _key(node)
    found: Parameters | None = context.normalizations.get(key)
    if found is None:
        found = context.normalizations[key] = _read(context, node, epsilon_of(context, node))
    return found


def form_of(context: Context, node: gs.Node) -> float | Reason:
    """A BatchNormalization's epsilon, or why it is not one in inference mode (BNF001, BNF006). No fold changes that."""
    found: float | Reason | None = context.forms.get(id(node))
    if found is None:
        found = context.forms[id(node)] = _form(context, node)
    return found


def _form(context: Context, node: gs.Node) -> float | Reason:
    if len(node.inputs) < 5:
        return Reason("BNF006", "it has fewer than five inputs: X, scale, B, mean and var are needed", _DAMAGED)
    reference = context.view.attribute_reference(node)
    if reference:
        return Reason("BNF006", f"its attribute `{reference}` is set by the function's caller")
    return training_mode(context, node) or epsilon_of(context, node)


def epsilon_of(context: Context, node: gs.Node) -> float:
    """A BatchNormalization's epsilon: the float32 value of the attribute, 1e-5 by default."""
    return float(context.view.attribute(node, "epsilon", _DEFAULT_EPSILON))


def training_mode(context: Context, node: gs.Node) -> Reason | None:
    """Why a BatchNormalization uses the statistics of each batch (BNF001); None where it uses stored ones."""
    view, opset = context.view, context.view.opset(node)
    if opset < 7:
        training, sign = not view.attribute(node, "is_test", 0), "`is_test` is not set"
    elif opset < 14:
        named = [each.name for each in node.outputs[1:] if not each.is_empty()]
        training, sign = bool(named), f"its training outputs are named ({', '.join(named)})"
    else:
        training, sign = bool(view.attribute(node, "training_mode", 0)), "`training_mode` is 1"
    if not training:
        return None
    found = f"it is in training mode: {sign}, so it uses the statistics of each batch"
    return Reason("BNF001", found, "Call eval() on the module and export it again, or recalibrate.")


def _key(node: gs.Node) -> tuple[int, ...]:
    return (id(node), *map(id, node.inputs[1:5]))


def _read(context: Context, node: gs.Node, epsilon: float) -> Parameters:
    values = []
    for name, tensor in zip(_NAMES, node.inputs[1:5], strict=True):
        weight = context.float_weight(tensor)
        if isinstance(weight, Reason):
            return Parameters(Reason(weight.code, f"its {name}, {weight.sentence}", weight.remedy))
        values.append(weight.values())
    if len({array.shape for array in values}) > 1:
        shapes = ", ".join(str(list(array.shape)) for array in values)
        return Parameters(Reason("BNF012", f"its parameters differ in shape: {shapes}", _DAMAGED))
    gamma, beta, mean, var = values
    per_activation = context.view.opset(node) < 9 and not context.view.attribute(node, "spatial", 1)
    if not per_activation and gamma.ndim != 1:
        return Parameters(Reason("BNF012", f"its parameters have {gamma.ndim} axes instead of one", _DAMAGED))
    affine = Affine.batch_normalization(gamma, beta, mean, var, epsilon)
    if not affine.is_finite:
        return Parameters(Reason("BNF007", _bad_channels(affine, var), "Recalibrate its statistics, or train the layer again."))
    return Parameters(Map(affine, tuple(range(1, 1 + gamma.ndim))), _remark_on(mean, var))


def _bad_channels(affine: Affine, var: Float64) -> str:
    good = np.isfinite(affine.scale) & np.isfinite(affine.center) & np.isfinite(affine.shift)
    first = int(np.flatnonzero(~good)[0])
    return f"{int((~good).sum())} of its {good.size} channels have no finite scale and shift; " + (
        f"channel {first} has variance {var.ravel()[first]:.3g}"
    )


def _remark_on(means: Float64, variances: Float64) -> str:
    if not means.any() and (variances == 1).all():
        return "running statistics look untrained: mean 0 and variance 1 everywhere"
    if variances.size and not variances.any():
        return "running statistics look empty: variance 0 everywhere"
    return ""


# -- many at once -----------------------------------------------------------------------------------------------------


def read_usual(context: Context, nodes: Iterable[gs.Node]) -> None:
    """Reads the parameters of many BatchNormalizations at once, which takes a fraction of the time.

    Those whose parameters are stored vectors of one type and extent, finite, and nothing to remark on; the others are left to
    `parameters_of`.
    """
    usual: defaultdict[int, list[tuple[gs.Node, list[bytes]]]] = defaultdict(list)
    for node in nodes if sys.byteorder == "little" else ():
        stored = _usual(context, node) if _key(node) not in context.normalizations else None
        if stored is not None:
            usual[stored[0].data_type].append((node, [tensor.raw_data for tensor in stored]))
    for elem_type, found in usual.items():
        _read_alike(context, elem_type, found)


def _usual(context: Context, node: gs.Node) -> list[onnx.TensorProto] | None:
    if isinstance(form_of(context, node), Reason):
        return None
    weights = [context.view.stored(tensor) for tensor in node.inputs[1:5]]
    stored = [weight.tensor for weight in weights if isinstance(weight, Stored)]
    if len(stored) < 4 or stored[0].data_type not in FLOAT_TYPES or len(stored[0].dims) != 1:
        return None
    alike = all(each.data_type == stored[0].data_type and each.dims == stored[0].dims for each in stored[1:])
    return stored if alike and all(map(_is_stored_inside, stored)) else None


def _is_stored_inside(tensor: onnx.TensorProto) -> bool:
    raw = tensor.raw_data if not is_external(tensor) else b""
    return bool(raw) and len(raw) == tensor.dims[0] * FLOAT_TYPES[tensor.data_type].itemsize


def _read_alike(context: Context, elem_type: int, found: list[tuple[gs.Node, list[bytes]]]) -> None:
    epsilons = [epsilon_of(context, node) for node, _ in found]
    whole, bounds, usual = read_maps(elem_type, [parameters for _, parameters in found], epsilons)
    places = bounds.tolist()
    for (node, _), start, end, is_usual in zip(found, places, places[1:], usual.tolist(), strict=False):
        if is_usual:
            affine = Affine(whole.scale[start:end], whole.center[start:end], whole.shift[start:end])
            context.normalizations[_key(node)] = Parameters(Map(affine, (1,)))
