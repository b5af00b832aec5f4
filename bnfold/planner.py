"""Decides: one verdict for every normalization. The folds are made on the view; the model itself is not touched.

Backward folds are tried in graph order and forward ones in reverse, so that in a chain each map is gone when the next one is
looked at, and maps that meet compose in float64 before anything is rounded. This goes on until nothing folds any more; what then
still stands is merged into a neighbouring BatchNormalization where there is one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from bnfold.affine import Affine, Float64
from bnfold.context import Context
from bnfold.edits import AddOutput, MapInput, SetAttribute, SetConstant
from bnfold.graph import View, describe
from bnfold.ops.passing import is_training_dropout
from bnfold.placement import Placement, place_constants
from bnfold.route import Route, find_backward, find_forward
from bnfold.sites import Site, find_sites, site_map
from bnfold.verdict import Fold, Note, Plan, Reason, Refusal, Verdict
from bnfold.weights import FLOAT_TYPES, Computed, Scaled, Stored

_NEARLY_FOLDED = {f"BNF{number:03}" for number in (6, 8, 10, 11, 12, 13, 14, 18, 19, 20, 21)}
"""Reasons that say more than "nothing linear stands there": the way led up to an operator that could have taken the map."""


@dataclass(frozen=True)
class Choice:
    """What the user wants folded.

    Attributes:
        keep: glob patterns; normalizations whose node name or output matches stay (BNF021).
        only: glob patterns; when there are any, all others stay.
        no_batchnorm: write the BatchNormalizations that stay as primitives, for targets without that operator (BNF022).
    """

    keep: Sequence[str] = ()
    only: Sequence[str] = ()
    no_batchnorm: bool = False


def plan_folds(context: Context, choice: Choice | None = None) -> tuple[Plan, list[Placement]]:
    """Decides about every normalization and makes the folds on `context.view`.

    Returns:
        The plan, and where the constants go that the folds need.
    """
    choice = choice or Choice()
    before = _count(context.view)
    dropouts = tuple(_dropout_notes(context))
    sites = find_sites(context)
    kept = {place: reason for place, site in enumerate(sites) if (reason := _kept(site, choice)) is not None}
    context.kept |= {id(node) for place in kept for node in sites[place].nodes}
    folds = _fold_all(context, sites)
    verdicts: list[Verdict] = []
    for place, site in enumerate(sites):
        if place in folds:
            verdicts.append(folds[place])
        elif _is_normalization(context, site):
            refusal = _refusal(site, kept.get(place) or _reason(context, site))
            verdicts.append(_without_batchnorm(context, site, refusal) if choice.no_batchnorm else refusal)
    _prune(context)
    notes = (*dropouts, *_copy_notes(context.view))
    placements = list(place_constants(context.view))
    return Plan(tuple(verdicts), before, _count(context.view), notes), placements


def _fold_all(context: Context, sites: list[Site]) -> dict[int, Fold]:
    """Folds until nothing folds any more. What folds put in may fold as well, so sites are looked up again in the end."""
    places = {id(node): place for place, site in enumerate(sites) for node in site.nodes}
    folds: dict[int, Fold] = {}
    standing = sites
    while standing:
        free = [site for site in standing if not any(id(node) in context.kept for node in site.nodes)]
        found = list(_fold_rounds(context, free))
        for site, fold in found:
            folds.update((places[id(node)], fold) for node in site.nodes if id(node) in places)
        standing = find_sites(context) if found else []
    return folds


def _fold_rounds(context: Context, sites: list[Site]) -> Iterator[tuple[Site, Fold]]:
    standing = sites
    for merging in (False, True):
        count = -1
        while count != len(standing):
            count = len(standing)
            for forward in (False, True):
                left: list[Site] = []
                for site in reversed(standing) if forward else standing:
                    fold = _fold(context, site, forward, merging)
                    if fold is None:
                        left.append(site)
                    else:
                        yield site, fold
                standing = left[::-1] if forward else left


def _fold(context: Context, site: Site, forward: bool, merging: bool) -> Fold | None:
    route = find_forward(context, site, merging) if forward else find_backward(context, site, merging)
    if isinstance(route, Reason):
        return None
    if route.added_nodes:  # the other way may leave less behind
        other = find_backward(context, site, merging) if forward else find_forward(context, site, merging)
        if isinstance(other, Route) and other.added_nodes < route.added_nodes:
            route = other
    takers = tuple(dict.fromkeys(describe(each, context.view.node_proto(each)) for each in route.takers))
    _commit(context, site, route)
    return Fold(site.normalization, takers, site.notes + route.notes)


def _without_batchnorm(context: Context, site: Site, refusal: Refusal) -> Refusal:
    """Writes a BatchNormalization that stays as the fewest primitives: an Add if its scale can leave, Mul and Add if not."""
    map_, rank = site_map(context, site), context.shapes.rank(site.source)
    if isinstance(map_, Reason) or rank is None or context.view.op_type(site.nodes[0]) != "BatchNormalization":
        return refusal
    weight = context.constants.weight(site.nodes[0].inputs[1])
    elem_type = context.shapes.elem_type(site.source) or (weight.elem_type if weight is not None else onnx.TensorProto.FLOAT)
    wide = map_.over(rank)
    route = find_backward(context, site, scale_only=True)
    steps = [("Mul", wide.scale, bool((wide.scale != 1).any())), ("Add", wide.offset, wide.has_offset)]
    if isinstance(route, Route) and not route.added_nodes:
        _make_edits(context, route)
        steps = steps[1:]
    written = [(op_type, Computed(values[0], elem_type)) for op_type, values, needed in steps if needed]
    _replace(context.view, site, written or [("Add", Computed(np.zeros(()), elem_type))])
    sentence = f"written as {' and '.join(op_type for op_type, _ in written)}, since no BatchNormalization was to be left"
    note = Note("BNF022", sentence, site.normalization.name, site.normalization.scope)
    return replace(refusal, notes=(*refusal.notes, note))


def _kept(site: Site, choice: Choice) -> Reason | None:
    names = {site.normalization.output, *(node.name for node in site.nodes if node.name)}
    for pattern in choice.keep:
        if any(fnmatchcase(name, pattern) for name in names):
            return Reason("BNF021", f"it matches --keep {pattern}")
    if choice.only and not any(fnmatchcase(name, pattern) for name in names for pattern in choice.only):
        return Reason("BNF021", f"it matches no --only pattern ({', '.join(choice.only)})")
    return None


def _is_normalization(context: Context, site: Site) -> bool:
    """Whether a site that stays deserves a word: a BatchNormalization does, a bias or a factor for all elements does not."""
    if context.view.op_type(site.nodes[0]) == "BatchNormalization":
        return True
    map_ = site_map(context, site)
    return not isinstance(map_, Reason) and bool(map_.axes) and bool(np.any(map_.affine.scale != 1))


def _reason(context: Context, site: Site) -> Reason:
    backward, forward = find_backward(context, site), find_forward(context, site)
    assert isinstance(backward, Reason)
    assert isinstance(forward, Reason)
    if backward.code != "BNF005" or forward.code not in _NEARLY_FOLDED or forward.sentence == backward.sentence:
        return backward
    return Reason(forward.code, f"{backward.sentence}; behind it, {forward.sentence}", forward.remedy)


def _refusal(site: Site, reason: Reason) -> Refusal:
    return Refusal(site.normalization, reason.code, reason.sentence, reason.remedy, site.notes)


def _commit(context: Context, site: Site, route: Route) -> None:
    view = context.view
    _make_edits(context, route)
    if route.forward:
        view.bypass_forward(site.source, site.nodes)
    elif route.offset is None:
        view.bypass_backward(site.source, site.nodes)
    else:  # a MatMul has no bias: what is left of the normalization is an Add
        _replace(view, site, [("Add", route.offset)])


def _make_edits(context: Context, route: Route) -> None:
    view = context.view
    for edit in route.edits:
        if isinstance(edit, SetConstant):
            _set_constant(view, edit)
        elif isinstance(edit, SetAttribute):
            view.set_attribute(edit.node, edit.name, edit.value)
        elif isinstance(edit, AddOutput):
            _add_output(context, edit)
        else:
            _map_input(context, edit)


def _set_constant(view: View, edit: SetConstant) -> None:
    present = len(edit.node.inputs) > edit.index and not edit.node.inputs[edit.index].is_empty()
    origin = edit.node.inputs[edit.index] if present else None
    first = view.origin(origin) or origin if origin is not None else None
    name = f"{first.name}_folded" if first is not None else f"{edit.node.name or edit.node.outputs[0].name}.bias"
    view.set_input(edit.node, edit.index, view.new_constant(edit.weight, name, origin))


def _add_output(context: Context, edit: AddOutput) -> None:
    result = edit.node.outputs[0]
    offset = context.view.new_constant(edit.offset, f"{result.name}_offset")
    added = context.view.insert_behind(edit.node, "Add", offset)
    context.shapes.learn(added.inputs[0], context.shapes.extents(result), edit.offset.elem_type)


def _map_input(context: Context, edit: MapInput) -> None:
    view = context.view
    base, affine = _unmapped(view, edit.node.inputs[edit.index], Affine.of(edit.scale.array, 0.0, edit.offset.array))
    composed = MapInput(
        edit.node, edit.index, Computed(affine.scale, edit.scale.elem_type), Computed(affine.offset, edit.scale.elem_type)
    )
    known = context.shapes.extents(base)
    shape = np.broadcast_shapes([each for each in known if isinstance(each, int)], affine.shape) if known is not None else None
    tensor = base
    for op_type, weight in composed.steps:
        mapped = view.new_variable(f"{base.name}_{'scaled' if op_type == 'Mul' else 'shifted'}")
        context.shapes.learn(mapped, shape, weight.elem_type)
        constant = view.new_constant(weight, f"{mapped.name}_{op_type.lower()}")
        view.insert_before(edit.node, op_type, [tensor, constant], mapped)
        tensor = mapped
    view.set_input(edit.node, edit.index, tensor)


def _unmapped(view: View, tensor: gs.Tensor, outer: Affine) -> tuple[gs.Tensor, Affine]:
    """Takes out the nodes that an earlier fold mapped this value with: one Mul and one Add do for both."""
    node = view.producer(tensor)
    while node is not None and view.node_proto(node) is None and node.op in ("Mul", "Add"):
        constant = view.stored(node.inputs[1])
        assert constant is not None
        inner = Affine.of(constant.values()) if node.op == "Mul" else Affine.of(1.0, 0.0, constant.values())
        outer, tensor = outer.after(inner), node.inputs[0]
        view.remove(node)
        node = view.producer(tensor)
    return tensor, outer


def _replace(view: View, site: Site, steps: Sequence[tuple[str, Computed]]) -> None:
    """Puts primitives with constants in the place of a normalization, under the same output name."""
    tensor, result, last = site.source, site.result, site.nodes[-1]
    for node in site.nodes:
        view.remove(node)
    for place, (op_type, weight) in enumerate(steps):
        legacy = view.opset(last) < 7
        if legacy:  # broadcasting was by a contiguous run of axes from `axis` on
            weight = Computed(_without_trailing_ones(weight.array), weight.elem_type)
        constant = view.new_constant(weight, f"{site.normalization.name}_{op_type.lower()}")
        made = result if place == len(steps) - 1 else view.new_variable(f"{result.name}_{op_type.lower()}")
        node = view.insert_before(last, op_type, [tensor, constant], made)
        if legacy:
            view.set_attribute(node, "broadcast", 1)
            view.set_attribute(node, "axis", 1)
        tensor = made


def _without_trailing_ones(values: Float64) -> Float64:
    while values.ndim > 1 and values.shape[-1] == 1:
        values = values[..., 0]
    return values


def _prune(context: Context) -> None:
    """Takes out the constant plumbing that the folds left without a reader."""
    view = context.view
    origins = _origins_to_be_replaced(view)
    pending = list(view.released.values())
    while pending:
        tensor = pending.pop()
        node = view.producer(tensor)
        if node is None or id(node) in view.removed or not _makes_constant(context, node):
            continue
        if any(view.is_read(output) or id(output) in origins for output in node.outputs):
            continue
        view.remove(node)
        pending += list(node.inputs)


def _makes_constant(context: Context, node: gs.Node) -> bool:
    if context.constants.is_plumbing(node):
        return True
    return context.view.op_type(node) == "DequantizeLinear" and all(map(context.constants.is_constant, node.inputs))


def _origins_to_be_replaced(view: View) -> set[int]:
    """Constant nodes whose tensor a new constant will take the place of (see `bnfold.placement`)."""
    found = set()
    for tensor in (tensor for node in view.nodes() for tensor in node.inputs if view.is_new(tensor)):
        origin, weight = view.origin(tensor), view.stored(tensor)
        stored = view.stored(origin) if origin is not None else None
        if isinstance(stored, Stored) and weight is not None and stored.elem_type == weight.elem_type:
            maker = view.producer(origin)
            found |= {id(origin)} if maker is not None and view.op_type(maker) == "Constant" else set()
    return found


def _count(view: View) -> dict[str, int]:
    return dict(sorted(Counter(view.op_type(node) for node in view.nodes()).items()))


def _copy_notes(view: View) -> Iterator[Note]:
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
