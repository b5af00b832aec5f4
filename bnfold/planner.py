"""Decides: one verdict for every normalization. The folds are made on the view; the model itself is not touched.

Backward folds are tried in graph order and forward ones in reverse, so that in a chain each map is gone when the next one is
looked at, and maps that meet compose in float64 before anything is rounded. This goes on until nothing folds any more; what then
still stands is merged into a neighbouring BatchNormalization where there is one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial

import numpy as np
import onnx

from bnfold.apply import Pending, apply
from bnfold.choice import Choice, pattern_notes
from bnfold.commit import commit, make_edits, prune, replace_by_primitives, store_type_casts
from bnfold.context import Context
from bnfold.graph import View, describe
from bnfold.model import Model
from bnfold.ops.passing import is_training_dropout
from bnfold.placement import Placement, place_constants
from bnfold.route import Route, find_backward, find_forward
from bnfold.sites import Site, find_sites, site_map
from bnfold.trace import changes_of, trace
from bnfold.verdict import Fold, Note, Plan, Reason, Refusal, Verdict
from bnfold.weights import FLOAT_TYPES, Computed, Flushed, Scaled

_NEARLY_FOLDED = {f"BNF{number:03}" for number in (6, 8, 10, 11, 12, 13, 14, 18, 19, 20, 21)}
"""Reasons that say more than "nothing linear stands there": the way led up to an operator that could have taken the map."""


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
    context.kept |= {id(node) for place in kept for node in sites[place].nodes if _stays_whole(context, sites[place], choice)}
    folds = _fold_all(context, sites, set(kept))
    verdicts: list[Verdict] = []
    for place, site in enumerate(sites):
        if place in folds:
            verdicts.append(folds[place])
        elif _is_normalization(context, site):
            refusal = _refusal(site, kept.get(place) or _reason(context, site))
            rewritten = choice.no_batchnorm and id(site.nodes[0]) not in context.kept
            verdicts.append(_without_batchnorm(context, site, refusal) if rewritten else refusal)
    if folds and "CastLike" in before:
        store_type_casts(context)
    prune(context)
    notes = (
        *dropouts,
        *_copy_notes(context.view),
        *pattern_notes(choice, lambda pattern: any(_matches(site, pattern) for site in sites)),
    )
    placements = list(place_constants(context.view))
    return Plan(tuple(verdicts), before, _count(context.view), notes, changes_of(context)), placements


def fold_on_view(
    model: Model, choice: Choice, freeze_initializers: bool, force: bool
) -> tuple[Plan, Callable[[bool], Pending] | None]:
    """Decides on a view of a model; the model itself is not touched.

    Returns:
        The plan, and what makes its folds in the model's proto: see `bnfold.decision.Decision`.
    """
    context = Context(model.proto, model.folder, freeze_initializers, force)
    plan, placements = plan_folds(context, choice)
    return plan, partial(_apply, context.view, placements) if context.view.is_edited else None


def _apply(view: View, placements: list[Placement], flush_subnormals: bool) -> Pending:
    if flush_subnormals:
        placements = [
            replace(each, weight=Flushed(each.weight)) if each.weight.elem_type in FLOAT_TYPES else each for each in placements
        ]
    return apply(view, placements)


def _fold_all(context: Context, sites: list[Site], kept: set[int]) -> dict[int, Fold]:
    """Folds until nothing folds any more. What folds put in may fold as well, so sites are looked up again in the end."""
    places = {id(node): place for place, site in enumerate(sites) for node in site.nodes}
    folds: dict[int, Fold] = {}
    standing = sites
    while standing:
        free = [site for site in standing if not any(places.get(id(node)) in kept for node in site.nodes)]
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
    takers = tuple(dict.fromkeys(describe(each) for each in route.takers))
    trace(context, site, route)
    commit(context, site, route)
    return Fold(site.normalization, takers, site.notes + route.notes)


def _without_batchnorm(context: Context, site: Site, refusal: Refusal) -> Refusal:
    """Writes a BatchNormalization that stays as the fewest primitives: an Add if its scale can leave, Mul and Add if not."""
    map_, rank = site_map(context, site), context.shapes.rank(site.source)
    if isinstance(map_, Reason) or rank is None or context.view.op_type(site.nodes[0]) != "BatchNormalization":
        return refusal
    weight = context.constants.weight(site.nodes[0].inputs[1])
    elem_type = context.shapes.elem_type(site.source) or (weight.elem_type if weight is not None else onnx.TensorProto.FLOAT)
    wide = map_.over(rank)
    steps = [("Mul", wide.scale, bool((wide.scale != 1).any())), ("Add", wide.offset, wide.has_offset)]
    backward, forward = find_backward(context, site, scale_only=True), find_forward(context, site, scale_only=True)
    if isinstance(backward, Route) and not backward.added_nodes:
        trace(context, site, backward)
        make_edits(context, backward)
        steps = steps[1:]
    elif isinstance(forward, Route) and not forward.added_nodes and wide.scale.all():  # a·x + o is a·(x + o/a)
        trace(context, site, forward)
        make_edits(context, forward)
        steps = [("Add", wide.offset / wide.scale, wide.has_offset)]
    written = [(op_type, Computed(values[0], elem_type)) for op_type, values, needed in steps if needed]
    replace_by_primitives(context.view, site, written or [("Add", Computed(np.zeros(()), elem_type))])
    sentence = f"written as {' and '.join(op_type for op_type, _ in written)}, since no BatchNormalization was to be left"
    note = Note("BNF022", sentence, site.normalization.name, site.normalization.scope)
    return replace(refusal, notes=(*refusal.notes, note))


def _matches(site: Site, pattern: str) -> bool:
    names = {site.normalization.output, *(node.name for node in site.nodes)}
    return any(fnmatchcase(name, pattern) for name in names)


def _kept(site: Site, choice: Choice) -> Reason | None:
    for pattern in choice.keep:
        if _matches(site, pattern):
            return Reason("BNF021", f"it matches --keep {pattern}")
    if choice.only and not any(_matches(site, pattern) for pattern in choice.only):
        return Reason("BNF021", f"it matches no --only pattern ({', '.join(choice.only)})")
    return None


def _stays_whole(context: Context, site: Site, choice: Choice) -> bool:
    """Whether a kept site takes no part in other folds. A bias that --only does not name may still change with its MatMul."""
    named = any(_matches(site, pattern) for pattern in choice.keep)
    return named or context.view.op_type(site.nodes[0]) == "BatchNormalization"


def _is_normalization(context: Context, site: Site) -> bool:
    """Whether a site that stays deserves a word: a BatchNormalization does, a bias or a factor for all elements does not."""
    if context.view.op_type(site.nodes[0]) == "BatchNormalization":
        return True
    map_ = site_map(context, site)
    return not isinstance(map_, Reason) and len(map_.axes) == 1 and bool(np.any(map_.affine.scale != 1))


def _reason(context: Context, site: Site) -> Reason:
    backward, forward = find_backward(context, site), find_forward(context, site)
    assert isinstance(backward, Reason)
    assert isinstance(forward, Reason)
    if backward.code != "BNF005" or forward.code not in _NEARLY_FOLDED or forward.sentence == backward.sentence:
        return backward
    return Reason(forward.code, f"{backward.sentence}; behind it, {forward.sentence}", forward.remedy)


def _refusal(site: Site, reason: Reason) -> Refusal:
    return Refusal(site.normalization, reason.code, reason.sentence, reason.remedy, site.notes)


def _count(view: View) -> dict[str, int]:
    return dict(sorted(Counter(view.op_type(node) for node in view.nodes()).items()))


def _copy_notes(view: View) -> Iterator[Note]:
    first: dict[int, Scaled] = {}
    for node in view.nodes():
        for tensor in node.inputs:
            origin = view.origin(tensor)
            weight = view.stored(tensor) if origin is not None else None
            if origin is None or not isinstance(weight, Scaled):
                continue
            same = first.setdefault(id(origin), weight)
            if not view.is_read(origin) and (same is weight or same.key() == weight.key()):
                continue
            size = math.prod(weight.shape) * FLOAT_TYPES[weight.elem_type].itemsize
            sentence = f"`{origin.name}` has other readers, so {describe(node)} got its own folded copy (+{size:,} bytes)"
            yield Note("BNF016", sentence, node.name or node.outputs[0].name, view.scope(node).name)


def _dropout_notes(context: Context) -> Iterable[Note]:
    for node in context.view.nodes():
        if context.view.op_type(node) == "Dropout" and is_training_dropout(context, node):
            sentence = f"{describe(node)} is in training mode: eval() was forgotten at export"
            yield Note("BNF002", sentence, node.name or node.outputs[0].name, context.view.scope(node).name)
