"""Finds the normalizations of a model: every BatchNormalization, and those written in primitives.

A run of Mul, Add, Sub, Div and Neg with constants, each read by the next one only, is one affine map as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from bnfold.affine import Affine, Float64, in_short
from bnfold.context import Context
from bnfold.edits import Map
from bnfold.graph import describe
from bnfold.operators import PRIMITIVES
from bnfold.parameters import epsilon_of, form_of, parameters_of, read_usual
from bnfold.verdict import Normalization, Note, Reason
from bnfold.weights import Weight


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
    nodes = [(node, context.view.op_type(node)) for node in context.view.nodes() if node.outputs and node.outputs[0].name]
    read_usual(context, (node for node, op_type in nodes if op_type == "BatchNormalization"))
    for node, op_type in nodes:
        if op_type == "BatchNormalization":
            found.append(_batch_normalization_site(context, node))
        elif op_type in PRIMITIVES and id(node) not in taken and isinstance(_primitive_map(context, node), Map):
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
    form = form_of(context, node)
    if isinstance(form, Reason):
        return form
    for each in node.outputs[1:] if len(node.outputs) > 1 else ():
        if each.name and context.view.is_read(each):
            return Reason("BNF004", f"its side output `{each.name}` is read")
    return parameters_of(context, node).map_


def _batch_normalization_site(context: Context, node: gs.Node) -> Site:
    map_ = batch_normalization_map(context, node)
    channels = map_.channels if isinstance(map_, Map) else None
    epsilon = in_short(epsilon_of(context, node))
    normalization = _describe(context, (node,), node.inputs[0] if node.inputs else None, channels, epsilon)
    remark = parameters_of(context, node).remark if isinstance(map_, Map) else ""
    notes = (Note("BNF017", remark, normalization.name, normalization.scope),) if remark else ()
    return Site((node,), 0, normalization, notes)


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
