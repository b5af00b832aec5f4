"""Finds the normalizations of a model: every BatchNormalization, in every form it has had, and those written in primitives.

| opset  | inference mode is said by                        | statistics                                        |
|--------|--------------------------------------------------|---------------------------------------------------|
| 1, 6   | `is_test=1`, whatever outputs are named          | per channel, or per activation with `spatial=0`   |
| 7, 8   | only `Y` being named among the outputs           | per channel, or per activation with `spatial=0`   |
| 9, 13  | only `Y` being named among the outputs           | per channel                                       |
| 14, 15 | `training_mode=0`, the default                   | per channel                                       |

Source: ONNX operator BatchNormalization, versions 1, 6, 7, 9, 14, 15. That naming the other outputs means training from
opset 7 to 13 is also what onnxruntime 1.31 does: with five outputs named it uses batch statistics, read or not.

A run of Mul, Add, Sub, Div and Neg with constants, each read by the next one only, is one affine map as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx_graphsurgeon as gs

from bnfold.affine import Affine, Float64
from bnfold.context import Context
from bnfold.edits import Map
from bnfold.graph import describe
from bnfold.verdict import Normalization, Note, Reason
from bnfold.weights import Weight

_PARAMETERS = ("scale", "B", "input_mean", "input_var")
PRIMITIVES = {"Add", "Div", "Mul", "Neg", "Sub"}
_DAMAGED = "The model is damaged: export it again."


@dataclass(frozen=True, eq=False, slots=True)
class Site:
    """One normalization in the graph.

    Attributes:
        nodes: the nodes that form it, in order: a BatchNormalization, or a run of primitives.
        place: which input of the first node it maps.
        normalization: what is said of it.
        notes: remarks on its parameters.
    """

    nodes: tuple[gs.Node, ...]
    place: int
    normalization: Normalization
    notes: tuple[Note, ...]

    @property
    def source(self) -> gs.Tensor:
        """The tensor that it maps, as the graph stands."""
        return self.nodes[0].inputs[self.place]

    @property
    def result(self) -> gs.Tensor:
        """The tensor that it makes."""
        return self.nodes[-1].outputs[0]


def find_sites(context: Context) -> list[Site]:
    """Every BatchNormalization and every run of primitives of every scope, in graph order."""
    found: list[Site] = []
    taken: set[int] = set()
    for node in context.view.nodes():
        if not node.outputs or node.outputs[0].is_empty():
            continue
        if context.view.op_type(node) == "BatchNormalization":
            found.append(_batch_normalization_site(context, node))
        elif id(node) not in taken and isinstance(_primitive_map(context, node), Map):
            run = list(_run_from(context, node))
            taken |= {id(each) for each in run}
            found.append(_run_site(context, run))
    return found


def site_map(context: Context, site: Site) -> Map | Reason:
    """The site's affine map as the graph stands, or why it has none. Maps of a run compose in float64."""
    if context.view.op_type(site.nodes[0]) == "BatchNormalization":
        found = batch_normalization_map(context, site.nodes[0])
        rank = context.shapes.rank(site.source) if isinstance(found, Map) else None
        if isinstance(found, Map) and rank is not None and rank <= found.axes[-1]:
            return Reason("BNF012", f"`{site.source.name}` has {rank} axes, and it maps axis {found.axes[-1]}")
        return found
    whole: Map | None = None
    for node in site.nodes:
        step = _primitive_map(context, node)
        if isinstance(step, Reason):
            return step
        whole = step if whole is None else step.after(whole)
    assert whole is not None
    if not whole.affine.is_finite:
        return Reason("BNF007", "its scale or shift is not finite")
    return whole


def batch_normalization_map(context: Context, node: gs.Node) -> Map | Reason:
    """The affine map of a BatchNormalization, or why it has none (BNF001, BNF006, BNF007, BNF012)."""
    if len(node.inputs) < 5:
        return Reason("BNF006", "it has fewer than five inputs: X, scale, B, mean and var are needed", _DAMAGED)
    reference = context.view.attribute_reference(node)
    if reference:
        return Reason("BNF006", f"its attribute `{reference}` is set by the function's caller")
    reason = training_mode(context, node)
    if reason is not None:
        return reason
    read = next((each.name for each in node.outputs[1:] if not each.is_empty() and context.view.is_read(each)), None)
    if read is not None:
        return Reason("BNF004", f"its side output `{read}` is read")
    return _parameters_of(context, node).map_


@dataclass(frozen=True, eq=False, slots=True)
class _Parameters:
    """What a BatchNormalization's constants say: its map, or why they make none, and what is remarkable about them (BNF017)."""

    map_: Map | Reason
    remark: str = ""


def _parameters_of(context: Context, node: gs.Node) -> _Parameters:
    """Reads the constants once, as long as they stay the same."""
    epsilon = epsilon_of(context, node)
    key = (id(node), epsilon, *map(id, node.inputs[1:5]))
    found: _Parameters | None = context.normalizations.get(key)
    if found is None:
        found = context.normalizations[key] = _read_parameters(context, node, epsilon)
    return found


def _read_parameters(context: Context, node: gs.Node, epsilon: float) -> _Parameters:
    values = []
    for name, tensor in zip(_PARAMETERS, node.inputs[1:5], strict=True):
        weight = context.float_weight(tensor)
        if isinstance(weight, Reason):
            return _Parameters(Reason(weight.code, f"its {name}, {weight.sentence}", weight.remedy))
        values.append(weight.values())
    if len({array.shape for array in values}) > 1:
        shapes = ", ".join(str(list(array.shape)) for array in values)
        return _Parameters(Reason("BNF012", f"its parameters differ in shape: {shapes}", _DAMAGED))
    gamma, beta, mean, var = values
    per_activation = context.view.opset(node) < 9 and not context.view.attribute(node, "spatial", 1)
    if not per_activation and gamma.ndim != 1:
        return _Parameters(Reason("BNF012", f"its parameters have {gamma.ndim} axes instead of one", _DAMAGED))
    affine = Affine.batch_normalization(gamma, beta, mean, var, epsilon)
    if not affine.is_finite:
        reason = Reason("BNF007", _bad_channels(affine, var), "Recalibrate its statistics, or train the layer again.")
        return _Parameters(reason)
    return _Parameters(Map(affine, tuple(range(1, 1 + gamma.ndim))), _remark_on(mean, var))


def epsilon_of(context: Context, node: gs.Node) -> float:
    """A BatchNormalization's epsilon: the float32 value of the attribute, 1e-5 by default."""
    return float(context.view.attribute(node, "epsilon", float(np.float32(1e-5))))


@cache
def _in_short(epsilon: float) -> float:
    """0.001, not 0.0010000000474974513."""
    return float(str(np.float32(epsilon)))


def _batch_normalization_site(context: Context, node: gs.Node) -> Site:
    map_ = batch_normalization_map(context, node)
    channels = map_.channels if isinstance(map_, Map) else None
    epsilon = _in_short(epsilon_of(context, node))
    normalization = _describe(context, (node,), node.inputs[0] if node.inputs else None, channels, epsilon)
    remark = _parameters_of(context, node).remark if isinstance(map_, Map) else ""
    notes = (Note("BNF017", remark, normalization.name, normalization.scope),) if remark else ()
    return Site((node,), 0, normalization, notes)


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


def _run_from(context: Context, first: gs.Node) -> Iterator[gs.Node]:
    node: gs.Node | None = first
    while node is not None:
        yield node
        readers = list(context.view.readers(node.outputs[0]))
        follower = readers[0] if len(readers) == 1 and id(node.outputs[0]) not in context.view.escaping else None
        joins = follower is not None and context.view.scope(follower) is context.view.scope(node)
        node = follower if joins and isinstance(_primitive_map(context, follower), Map) else None


def _run_site(context: Context, run: list[gs.Node]) -> Site:
    place = _data_place(context, run[0])
    maps = (_primitive_map(context, node) for node in run)
    channels = max((each.channels for each in maps if isinstance(each, Map) and len(each.axes) < 2), default=None)
    return Site(tuple(run), place, _describe(context, tuple(run), run[0].inputs[place], channels, None), ())


def _data_place(context: Context, node: gs.Node) -> int:
    return 1 if len(node.inputs) == 2 and context.constants.is_constant(node.inputs[0]) else 0


def _primitive_map(context: Context, node: gs.Node) -> Map | Reason:
    """The map of one Add, Div, Mul, Neg or Sub with a constant, or why it is none."""
    op_type = context.view.op_type(node)
    if op_type not in PRIMITIVES or context.constants.is_plumbing(node):
        return Reason("BNF005", f"{describe(node)} is no affine map")
    if op_type == "Neg":
        return Map(Affine.of(-1.0), ())
    place = _data_place(context, node)
    if len(node.inputs) != 2 or (op_type == "Div" and place == 1):
        return Reason("BNF005", f"{describe(node)} is no affine map")
    constant = context.float_weight(node.inputs[1 - place])
    if isinstance(constant, Reason):
        return constant
    axes = _constant_axes(context, node, place, constant)
    if isinstance(axes, Reason):
        return axes
    values = constant.values().reshape([extent for extent in constant.shape if extent != 1])
    return Map(_primitive_affine(op_type, values, reversed_=place == 1), axes)


def _primitive_affine(op_type: str, values: Float64, reversed_: bool) -> Affine:
    if op_type == "Add":
        return Affine.of(1.0, 0.0, values)
    if op_type == "Sub":
        return Affine.of(-1.0, 0.0, values) if reversed_ else Affine.of(1.0, values)
    with np.errstate(all="ignore"):
        return Affine.of(values if op_type == "Mul" else 1.0 / values)


def _constant_axes(context: Context, node: gs.Node, place: int, constant: Weight) -> tuple[int, ...] | Reason:
    """The data's axes along which the constant varies. One that broadcasts the data up is no map of the data."""
    if not constant.shape:
        return ()
    rank, extents = context.shapes.rank(node.inputs[place]), context.shapes.extents(node.inputs[place])
    if rank is None:
        return Reason("BNF018", f"the rank of what {describe(node)} reads is not known", "Give the graph's inputs a shape.")
    first = rank - len(constant.shape)
    if context.view.opset(node) < 7 and context.view.attribute(node, "axis") is not None:
        first = int(context.view.attribute(node, "axis")) % max(1, rank)  # broadcasting before opset 7
    axes = tuple(first + offset for offset, extent in enumerate(constant.shape) if extent != 1)
    unproved = Reason("BNF012", f"the constant of {describe(node)} is not proved to have the extents of what it meets")
    if first < 0 or (axes and (extents is None or axes[-1] >= rank)):
        return unproved
    met = [extents[axis] for axis in axes] if extents is not None else []
    return axes if met == [constant.shape[axis - first] for axis in axes] else unproved


def _describe(
    context: Context, nodes: tuple[gs.Node, ...], source: gs.Tensor | None, channels: int | None, epsilon: float | None
) -> Normalization:
    view, output = context.view, nodes[-1].outputs[0]
    producer = view.producer(source) if source is not None else None
    readers = [describe(each) for each in view.readers(output)]
    if id(output) in view.escaping:
        readers.append("graph output")
    return Normalization(
        name=nodes[-1].name or output.name,
        scope=view.scope(nodes[0]).name,
        op_type=", ".join(node.op for node in nodes),
        output=output.name,
        producer=describe(producer) if producer is not None else "",
        readers=tuple(readers),
        channels=channels,
        epsilon=epsilon,
    )
