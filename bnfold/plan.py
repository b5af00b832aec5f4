"""Decides: one verdict for every normalization. The folds are made on the view; the model itself is not touched.

Backward folds are tried in graph order and forward ones in reverse, so that in a chain each map is gone when the next one is
looked at, and maps that meet compose in float64 before anything is rounded. This goes on until nothing folds any more; what then
still stands is merged into a neighbouring BatchNormalization where there is one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

import numpy as np

from bnfold.context import Context
from bnfold.edits import AddOutput, MapInput, SetAttribute, SetConstant
from bnfold.graph import View, describe
from bnfold.ops.passing import is_training_dropout
from bnfold.route import Route, find_backward, find_forward
from bnfold.sites import Site, find_sites, site_map
from bnfold.verdict import Fold, Note, Plan, Reason, Refusal, Verdict
from bnfold.weights import FLOAT_TYPES, Computed, Scaled

_NEARLY_FOLDED = {"BNF006", "BNF008", "BNF010", "BNF011", "BNF012", "BNF018", "BNF020"}
"""Reasons that say more than "nothing linear stands there": the way led up to an operator that could have taken the map."""


def plan_folds(context: Context, keep: Sequence[str] = (), only: Sequence[str] = ()) -> Plan:
    """Decides about every normalization and makes the folds on `context.view`.

    Args:
        context: the model.
        keep: glob patterns; normalizations whose name or output matches stay (BNF021).
        only: glob patterns; when given, all others stay.
    """
    before = _count(context.view)
    dropouts = tuple(_dropout_notes(context))
    sites = find_sites(context)
    verdicts: dict[int, Verdict] = {}
    standing: list[tuple[int, Site]] = []
    for place, site in enumerate(sites):
        kept = _kept(site, keep, only)
        if kept is None:
            standing.append((place, site))
        else:
            verdicts[place] = _refusal(site, kept)
    _fold_all(context, standing, verdicts)
    for place, site in standing:
        if place not in verdicts and _is_normalization(context, site):
            verdicts[place] = _refusal(site, _reason(context, site))
    _prune(context)
    ordered = tuple(verdicts[place] for place in sorted(verdicts))
    return Plan(ordered, before, _count(context.view), (*dropouts, *_copy_notes(context.view)))


def _fold_all(context: Context, sites: list[tuple[int, Site]], verdicts: dict[int, Verdict]) -> None:
    standing = sites
    for merging in (False, True):
        count = -1
        while count != len(standing):
            count = len(standing)
            standing = [each for each in standing if not _fold(context, each, verdicts, False, merging)]
            standing = [each for each in reversed(standing) if not _fold(context, each, verdicts, True, merging)][::-1]


def _fold(context: Context, standing: tuple[int, Site], verdicts: dict[int, Verdict], forward: bool, merging: bool) -> bool:
    place, site = standing
    route = find_forward(context, site, merging) if forward else find_backward(context, site, merging)
    if isinstance(route, Reason):
        return False
    if route.added_nodes:  # the other way may leave less behind
        other = find_backward(context, site, merging) if forward else find_forward(context, site, merging)
        if isinstance(other, Route) and other.added_nodes < route.added_nodes:
            route = other
    _commit(context.view, site, route)
    takers = tuple(dict.fromkeys(describe(each) for each in route.takers))
    verdicts[place] = Fold(site.normalization, takers, site.notes + route.notes)
    return True


def _kept(site: Site, keep: Sequence[str], only: Sequence[str]) -> Reason | None:
    names = {site.normalization.output, *(node.name for node in site.nodes if node.name)}
    for pattern in keep:
        if any(fnmatchcase(name, pattern) for name in names):
            return Reason("BNF021", f"it matches --keep {pattern}")
    if only and not any(fnmatchcase(name, pattern) for name in names for pattern in only):
        return Reason("BNF021", f"it matches no --only pattern ({', '.join(only)})")
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


def _commit(view: View, site: Site, route: Route) -> None:
    for edit in route.edits:
        if isinstance(edit, SetConstant):
            _set_constant(view, edit)
        elif isinstance(edit, SetAttribute):
            view.set_attribute(edit.node, edit.name, edit.value)
        elif isinstance(edit, AddOutput):
            view.insert_behind(edit.node, "Add", view.new_constant(edit.offset, f"{edit.node.outputs[0].name}_offset"))
        else:
            _map_input(view, edit)
    if route.forward:
        view.bypass_forward(site.source, site.nodes)
    elif route.offset is None:
        view.bypass_backward(site.source, site.nodes)
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
    for op_type, weight, made in (("Mul", edit.scale, "scaled"), ("Add", edit.offset, "folded")):
        mapped = view.new_variable(f"{base}_{made}")
        view.insert_before(edit.node, op_type, [tensor, view.new_constant(weight, f"{mapped.name}_{op_type.lower()}")], mapped)
        tensor = mapped
    view.set_input(edit.node, edit.index, tensor)


def _replace_by_add(view: View, site: Site, offset: Computed) -> None:
    """A MatMul has no bias: what is left of the normalization is an Add, under the same output name."""
    last = site.nodes[-1]
    result = site.result
    for node in site.nodes:
        view.remove(node)
    constant = view.new_constant(offset, f"{site.normalization.name}_offset")
    added = view.insert_before(last, "Add", [site.source, constant], result)
    if view.opset(last) < 7:
        view.set_attribute(added, "broadcast", 1)
        view.set_attribute(added, "axis", 1)


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
