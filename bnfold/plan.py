"""Decides: one verdict for every normalization. The folds are made on the view; the model itself is not touched.

Each normalization is tried in graph order, so that in a chain the first one is gone when the second is looked at, and their
maps meet in float64 before anything is rounded. A route is followed upwards from the normalization until every branch of it
has ended in a linear operator; its edits are carried out only when the whole route stands.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import onnx_graphsurgeon as gs

from bnfold.context import Context
from bnfold.edits import Edit, Map, MapInput, SetAttribute, SetConstant, Step
from bnfold.graph import View, describe
from bnfold.ops import BACKWARD, LINEAR
from bnfold.ops.passing import is_training_dropout
from bnfold.sites import Site, find_sites
from bnfold.verdict import Fold, Note, Plan, Reason, Refusal, Verdict
from bnfold.weights import FLOAT_TYPES, Computed, Scaled, Weight, rounding_of


@dataclass(frozen=True, eq=False)
class _Route:
    """A way for a map to leave the graph: what changes, who takes it, and the offset that an Add must keep."""

    edits: tuple[Edit, ...]
    takers: tuple[gs.Node, ...]
    offset: Computed | None
    notes: tuple[Note, ...] = ()


def plan_folds(context: Context, keep: Sequence[str] = (), only: Sequence[str] = ()) -> Plan:
    """Decides about every normalization and makes the folds on `context.view`.

    Args:
        context: the model.
        keep: glob patterns; normalizations whose name or output matches stay (BNF021).
        only: glob patterns; when given, all others stay.
    """
    before = _count(context.view)
    notes = tuple(_dropout_notes(context))
    verdicts: list[Verdict] = []
    for site in list(find_sites(context)):
        route = _kept(site, keep, only) or _find_route(context, site)
        if isinstance(route, Reason):
            verdicts.append(Refusal(site.normalization, route.code, route.sentence, route.remedy, site.notes))
            continue
        _commit(context.view, site, route)
        takers = tuple(dict.fromkeys(describe(each) for each in route.takers))
        verdicts.append(Fold(site.normalization, takers, site.notes + route.notes))
    _prune(context)
    return Plan(tuple(verdicts), before, _count(context.view), (*notes, *_copy_notes(context.view)))


def _kept(site: Site, keep: Sequence[str], only: Sequence[str]) -> Reason | None:
    names = (site.normalization.name, site.normalization.output)
    for pattern in keep:
        if any(fnmatchcase(name, pattern) for name in names):
            return Reason("BNF021", f"it matches --keep {pattern}")
    if only and not any(fnmatchcase(name, pattern) for name in names for pattern in only):
        return Reason("BNF021", f"it matches no --only pattern ({', '.join(only)})")
    return None


def _find_route(context: Context, site: Site) -> _Route | Reason:
    if isinstance(site.map, Reason):
        return site.map
    edits: list[Edit] = []
    takers: list[gs.Node] = []
    leaves_offset = False
    pending: list[tuple[gs.Node, int, Map]] = [(site.node, 0, site.map)]
    while pending:
        reader, index, map_ = pending.pop()
        step = _step_backward(context, reader, index, map_)
        if isinstance(step, Reason):
            return step
        producer = reader.inputs[index].inputs[0]
        if context.view.op_type(producer) in LINEAR:
            takers.append(producer)
        edits += step.edits
        leaves_offset |= step.leaves_offset
        pending += [(producer, place, onward) for place, onward in step.onward]
    offset = _offset_beside(context, site, edits) if leaves_offset else None
    return _checked(site, _Route(tuple(edits), tuple(takers), offset))


def _step_backward(context: Context, reader: gs.Node, index: int, map_: Map) -> Step | Reason:
    """Asks the producer of what `reader` reads to let the map through, once nothing else can notice."""
    view, tensor = context.view, reader.inputs[index]
    producer = view.producer(tensor)
    if producer is None or context.constants.is_constant(tensor):
        return Reason("BNF005", f"no linear operator stands before it: `{tensor.name}` is an input of the graph")
    if view.scope(producer) is not view.scope(reader):
        return Reason("BNF004", f"`{tensor.name}` comes from outside the body, where {describe(producer)} makes it")
    op_type = view.op_type(producer)
    if op_type not in BACKWARD:
        return Reason("BNF005", f"{describe(producer)} stands between it and any linear operator")
    if producer.outputs[0] is not tensor:
        return Reason("BNF005", f"`{tensor.name}` is a side output of {describe(producer)}")
    shared = context.other_readers(tensor, reader)
    if shared is not None:
        return shared
    reference = view.attribute_reference(producer)
    if reference:
        return Reason("BNF006", f"attribute `{reference}` of {describe(producer)} is set by the function's caller")
    if len(producer.inputs) < 2 and op_type in LINEAR:
        return Reason("BNF006", f"{describe(producer)} has no weight")
    return BACKWARD[op_type](context, producer, map_)


def _offset_beside(context: Context, site: Site, edits: list[Edit]) -> Computed:
    """What a MatMul leaves to an Add in the normalization's place: the offset, shaped to lie on the map's axis."""
    assert isinstance(site.map, Map)
    rank = context.shapes.rank(site.node.inputs[0])
    assert rank is not None, "MatMul took the scale, so the rank is known"
    trailing = (1 for _ in range(rank - site.map.axes[0] - 1))
    elem_type = next(edit.weight.elem_type for edit in edits if isinstance(edit, SetConstant))
    return Computed(site.map.affine.offset.reshape(-1, *trailing), elem_type)


def _checked(site: Site, route: _Route) -> _Route | Reason:
    """Rounds every new constant once to see whether its type can hold it (BNF008) and what gets subnormal (BNF009)."""
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
    return replace(route, notes=tuple(notes))


def _new_weights(edit: Edit) -> tuple[Weight, ...]:
    if isinstance(edit, SetConstant):
        return (edit.weight,)
    return (edit.scale, edit.offset) if isinstance(edit, MapInput) else ()


def _commit(view: View, site: Site, route: _Route) -> None:
    for edit in route.edits:
        if isinstance(edit, SetConstant):
            _set_constant(view, edit)
        elif isinstance(edit, SetAttribute):
            view.set_attribute(edit.node, edit.name, edit.value)
        else:
            _map_input(view, edit)
    if route.offset is None:
        view.bypass_backward(site.node)
    else:
        _replace_by_add(view, site, route.offset)


def _set_constant(view: View, edit: SetConstant) -> None:
    present = len(edit.node.inputs) > edit.index and not edit.node.inputs[edit.index].is_empty()
    origin = edit.node.inputs[edit.index] if present else None
    first = view.origin(origin) or origin if origin is not None else None
    name = f"{first.name}_folded" if first is not None else f"{edit.node.name or edit.node.outputs[0].name}.bias"
    view.set_input(edit.node, edit.index, view.new_constant(edit.weight, name, origin))


def _map_input(view: View, edit: MapInput) -> None:
    tensor, base = edit.node.inputs[edit.index], edit.node.inputs[edit.index].name
    for op_type, weight, suffix in (("Mul", edit.scale, "scale"), ("Add", edit.offset, "offset")):
        mapped = view.new_variable(f"{base}_{suffix}d" if suffix == "scale" else f"{base}_folded")
        view.insert_before(edit.node, op_type, [tensor, view.new_constant(weight, f"{base}_{suffix}")], mapped)
        tensor = mapped
    view.set_input(edit.node, edit.index, tensor)


def _replace_by_add(view: View, site: Site, offset: Computed) -> None:
    assert isinstance(site.map, Map)
    node = site.node
    source, result = node.inputs[0], node.outputs[0]
    view.remove(node)
    constant = view.new_constant(offset, f"{site.normalization.name}_offset")
    added = view.insert_before(node, "Add", [source, constant], result)
    if view.opset(node) < 7:
        view.set_attribute(added, "broadcast", 1)
        view.set_attribute(added, "axis", site.map.axes[0])


def _prune(context: Context) -> None:
    """Takes out the constant plumbing that the folds left without a reader."""
    view = context.view
    pending = list(view.released)
    while pending:
        tensor = pending.pop()
        node = view.producer(tensor)
        if node is None or id(node) in view.removed or not context.constants.is_plumbing(node):
            continue
        if any(view.is_read(output) for output in node.outputs):
            continue
        view.remove(node)
        pending += list(node.inputs)


def _count(view: View) -> dict[str, int]:
    return dict(sorted(Counter(view.op_type(node) for node in view.nodes()).items()))


def _copy_notes(view: View) -> Iterable[Note]:
    first: dict[int, tuple[bytes, ...]] = {}
    for node in view.nodes():
        for tensor in node.inputs:
            origin, weight = view.origin(tensor), view.stored(tensor)
            if origin is None or not isinstance(weight, Scaled):
                continue
            if not view.is_read(origin) and first.setdefault(id(origin), weight.key()) == weight.key():
                continue
            size = math.prod(weight.shape) * FLOAT_TYPES[weight.elem_type].itemsize
            sentence = f"`{origin.name}` has other readers, so {describe(node)} got its own folded copy (+{size:,} bytes)"
            yield Note("BNF016", sentence, node.name or node.outputs[0].name, view.scope(node).name)


def _dropout_notes(context: Context) -> Iterable[Note]:
    for node in context.view.nodes():
        if context.view.op_type(node) == "Dropout" and is_training_dropout(context, node):
            sentence = f"{describe(node)} is in training mode: eval() was forgotten at export"
            yield Note("BNF002", sentence, node.name or node.outputs[0].name, context.view.scope(node).name)
