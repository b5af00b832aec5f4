"""Looks for the way on which a map leaves the graph, backward or forward. Changes nothing.

A route starts at a normalization and is followed, operator by operator, until every branch of it has ended in an operator that
takes the map for good. It stands only as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_graphsurgeon as gs

from bnfold.context import Context
from bnfold.edits import AddOutput, Edit, Map, MapInput, SetConstant, Step
from bnfold.graph import describe, place_of
from bnfold.ops import BACKWARD, FORWARD, LINEAR, MERGING_BACKWARD, MERGING_FORWARD, Rule
from bnfold.sites import Site, site_map
from bnfold.verdict import Note, Reason
from bnfold.weights import FLOAT_TYPES, Computed, Weight, rounding_of

_QUANTIZING = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"}


@dataclass(frozen=True, eq=False, slots=True)
class Route:
    """A way for a map to leave the graph.

    Attributes:
        forward: whether it leads to the readers of the map's result, or to what made its source.
        edits: what changes.
        takers: who takes the map for good.
        offset: what an Add in the map's place must keep adding; None where the map leaves nothing behind.
        notes: remarks on the rounding of the new weights.
        mapped: the tensors on it, which will hold other values.
    """

    forward: bool
    edits: tuple[Edit, ...]
    takers: tuple[gs.Node, ...]
    offset: Computed | None = None
    notes: tuple[Note, ...] = ()
    mapped: tuple[gs.Tensor, ...] = ()

    @property
    def added_nodes(self) -> int:
        """How many nodes come in, against the site's own, which go."""
        counts = (len(edit.steps) if isinstance(edit, MapInput) else int(isinstance(edit, AddOutput)) for edit in self.edits)
        return sum(counts) + (self.offset is not None)


class _Search:
    """One search: what has been met so far, and where maps still have to go."""

    def __init__(self, context: Context, site: Site, merging: bool) -> None:
        self.context = context
        self.site = site
        self.merging = merging
        self.edits: list[Edit] = []
        self.takers: list[gs.Node] = []
        self.mapped: list[gs.Tensor] = []
        self.visited: set[int] = set()
        self.leaves_offset = False

    def route(self, forward: bool, offset: Computed | None = None) -> Route:
        """What was found."""
        return Route(forward, tuple(self.edits), tuple(self.takers), offset, (), tuple(self.mapped))

    def ask(self, rules: dict[str, Rule], node: gs.Node, index: int, map_: Map) -> Step | Reason:
        """Asks the rule of one operator, unless the route has been there already."""
        op_type = self.context.view.op_type(node)
        if id(node) in self.context.kept:
            return Reason("BNF021", f"{describe(node)} is to be kept as it is")
        merges = self.merging and op_type in MERGING_BACKWARD
        rule = (MERGING_FORWARD if rules is FORWARD else MERGING_BACKWARD)[op_type] if merges else rules.get(op_type)
        if rule is None:
            return _in_the_way(context=self.context, node=node)
        reference = self.context.view.attribute_reference(node)
        if reference:
            return Reason("BNF006", f"attribute `{reference}` of {describe(node)} is set by the function's caller")
        if len(node.inputs) < 2 and op_type in LINEAR:
            return Reason("BNF006", f"{describe(node)} has no weight")
        if id(node) in self.visited:
            return Reason("BNF005", f"{describe(node)} is reached on two ways")
        step = rule(self.context, node, index, map_)
        if isinstance(step, Step):
            self.visited.add(id(node))
            self.edits += step.edits
            self.leaves_offset |= step.leaves_offset
            if merges or op_type in LINEAR:
                self.takers.append(node)
        return step


def find_backward(context: Context, site: Site, merging: bool = False, scale_only: bool = False) -> Route | Reason:
    """A route into the operators that make the map's source, or why there is none.

    Args:
        context: the model.
        site: where the map is.
        merging: take operators of `MERGING_BACKWARD` for an end as well.
        scale_only: look for a way for the scale alone; the caller must keep the offset.
    """
    map_ = site_map(context, site)
    if isinstance(map_, Reason):
        return map_
    search = _search_backward(context, site, map_.scale_only() if scale_only else map_, merging)
    if isinstance(search, Reason) or not search.leaves_offset:
        return search if isinstance(search, Reason) else _checked(context, site, search.route(forward=False))
    # Some branch can take the scale only, so all of them do, and the whole offset stays where the map was.
    search = _search_backward(context, site, map_.scale_only(), merging)
    if isinstance(search, Reason):
        return search
    offset = _offset_beside(context, site, map_, search.edits)
    if isinstance(offset, Reason):
        return offset
    return _checked(context, site, search.route(forward=False, offset=offset))


def _search_backward(context: Context, site: Site, map_: Map, merging: bool) -> _Search | Reason:
    search = _Search(context, site, merging)
    pending: list[tuple[gs.Node, gs.Tensor, int, Map]] = [(site.nodes[0], site.source, -1, map_)]
    while pending:
        reader, tensor, place, carried = pending.pop()
        if place >= 0 and context.constants.is_constant(tensor):
            mapped = _mapped_constant(context, reader, place, carried)
            if isinstance(mapped, Reason):
                return mapped
            search.edits.append(mapped)
            continue
        producer = _only_for(context, tensor, reader)
        if isinstance(producer, Reason):
            return producer
        output = place_of(tensor, producer.outputs)
        assert output is not None
        step = search.ask(BACKWARD, producer, output, carried)
        if isinstance(step, Reason):
            return step
        search.mapped.append(tensor)
        pending += [(producer, producer.inputs[index], index, onward) for index, onward in step.onward]
    return search if search.takers else Reason("BNF005", "only constants stand before it")


def find_forward(context: Context, site: Site, merging: bool = False, scale_only: bool = False) -> Route | Reason:
    """A route into the operators that read the map's result, all of them, or why there is none; see `find_backward`."""
    map_ = site_map(context, site)
    if isinstance(map_, Reason):
        return map_
    map_ = map_.scale_only() if scale_only else map_
    search = _Search(context, site, merging)
    home = context.view.scope(site.nodes[0])
    pending: list[tuple[gs.Tensor, Map]] = [(site.result, map_)]
    while pending:
        tensor, carried = pending.pop()
        search.mapped.append(tensor)
        if id(tensor) in context.view.escaping:
            return Reason("BNF004", f"`{tensor.name}` is an output of the graph")
        for reader in {id(node): node for node in context.view.readers(tensor)}.values():
            if context.constants.is_plumbing(reader):  # CastLike of a constant: it reads the type alone
                continue
            if context.view.scope(reader) is not home:
                return Reason(
                    "BNF004", f"`{tensor.name}` is also read by {describe(reader)} in {context.view.scope(reader).name}"
                )
            places = [index for index, each in enumerate(reader.inputs) if each is tensor]
            if len(places) > 1:
                return Reason("BNF005", f"{describe(reader)} reads `{tensor.name}` twice")
            step = search.ask(FORWARD, reader, places[0], carried)
            if isinstance(step, Reason):
                return step
            pending += [(reader.outputs[index], onward) for index, onward in step.onward]
    if not search.takers:
        return Reason("BNF005", "no linear operator reads what it makes")
    return _checked(context, site, search.route(forward=True))


def _in_the_way(context: Context, node: gs.Node) -> Reason:
    if context.view.op_type(node) in _QUANTIZING:
        return Reason("BNF013", f"{describe(node)} quantizes the values that it maps", "Fold before you quantize.")
    return Reason("BNF005", f"{describe(node)} stands between it and any linear operator")


def _only_for(context: Context, tensor: gs.Tensor, reader: gs.Node) -> gs.Node | Reason:
    """What makes `tensor`, if nobody but `reader` can notice when that changes."""
    view = context.view
    producer = view.producer(tensor)
    if producer is None or context.constants.is_constant(tensor):
        what = "an input of the graph" if producer is None else "a constant"
        return Reason("BNF005", f"no linear operator stands before it: `{tensor.name}` is {what}")
    if view.scope(producer) is not view.scope(reader):
        return Reason("BNF004", f"`{tensor.name}` comes from outside the body, where {describe(producer)} makes it")
    if view.op_type(producer) not in BACKWARD and view.op_type(producer) not in MERGING_BACKWARD:
        return _in_the_way(context, producer)
    return context.other_readers(tensor, reader) or producer


def _mapped_constant(context: Context, reader: gs.Node, index: int, map_: Map) -> Edit | Reason:
    """A constant that a branch of the route ends in is mapped itself."""
    constant = context.float_weight(reader.inputs[index])
    if isinstance(constant, Reason):
        return constant
    rank = len(constant.shape)
    if any(axis >= rank for axis in map_.axes):
        return Reason("BNF012", f"`{reader.inputs[index].name}` does not have the axis that it maps")
    return SetConstant(reader, index, Computed(map_.over(rank)(constant.values()), constant.elem_type))


def _offset_beside(context: Context, site: Site, map_: Map, edits: list[Edit]) -> Computed | Reason:
    """What a MatMul leaves to an Add in the map's place: the offset, shaped to lie on the map's axes."""
    rank = context.shapes.rank(site.source)
    if rank is None:
        return Reason("BNF018", f"the rank of `{site.source.name}` is not known", "Give the graph's inputs a shape.")
    if len(site.nodes) == 1 and site.nodes[0].op in ("Add", "Sub"):
        return Reason("BNF020", "it is the bias of a MatMul, which has none of its own")
    if context.view.opset(site.nodes[0]) < 7:
        return Reason("BNF005", "a MatMul stands before it, and adding its offset there before opset 7 needs other rules")
    offset = map_.over(rank).offset
    while offset.ndim > 1 and offset.shape[0] == 1:
        offset = offset[0]
    weights = (edit.weight for edit in edits if isinstance(edit, SetConstant))
    like = next(weight.elem_type for weight in weights if weight.elem_type in FLOAT_TYPES)
    return Computed(offset, context.shapes.elem_type(site.source) or like)


def _checked(context: Context, site: Site, route: Route) -> Route | Reason:
    """Refuses a route that adds more than it takes away (BNF020), or whose constants do not fit their type (BNF008).

    Every new constant is rounded once to see that, and what gets subnormal on the way is noted (BNF009).
    """
    adds = sum(isinstance(edit, AddOutput) for edit in route.edits)
    if adds > len(site.nodes) and not context.force:
        return Reason("BNF020", f"{adds} new Adds would take the place of {len(site.nodes)} operators", "Use --force.")
    notes = []
    for edit in route.edits:
        for weight in _new_weights(edit):
            rounding = rounding_of(weight)
            if rounding.overflow is not None:
                kind = FLOAT_TYPES[weight.elem_type].name
                found = f"a folded value of {describe(edit.node)} would be {rounding.overflow:.3g}, which {kind} cannot hold"
                return Reason("BNF008", found)
            if rounding.subnormal:
                values = f"{rounding.subnormal:,} values of {describe(edit.node)}"
                sentence = f"{values} become subnormal, which some processors compute slowly"
                notes.append(Note("BNF009", sentence, site.normalization.name, site.normalization.scope))
    if route.offset is not None and rounding_of(route.offset).overflow is not None:
        return Reason("BNF008", f"its offset overflows {FLOAT_TYPES[route.offset.elem_type].name}")
    return replace(route, notes=tuple(notes)) if notes else route


def _new_weights(edit: Edit) -> tuple[Weight, ...]:
    if isinstance(edit, SetConstant):
        return (edit.weight,) if edit.weight.elem_type in FLOAT_TYPES else ()
    if isinstance(edit, AddOutput):
        return (edit.offset,)
    return (edit.scale, edit.offset) if isinstance(edit, MapInput) else ()
