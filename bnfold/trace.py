"""Keeps book of what folds do to names, so that whoever knows the original's tensors finds them again (`bnfold.fold_map`)."""

from __future__ import annotations

from typing import TypeAlias

from bnfold.context import Context
from bnfold.edits import SetConstant
from bnfold.graph import View, describe
from bnfold.route import Route
from bnfold.sites import Site
from bnfold.verdict import Change, NewConstant

Trace: TypeAlias = tuple[Site, Route]
"""One fold. The nodes that it takes out keep what they read and made, so it can be told later."""


def trace(context: Context, site: Site, route: Route) -> None:
    """Notes a fold that is about to be made."""
    context.traces.append((site, route))


def changes_of(context: Context) -> tuple[Change, ...]:
    """What was noted, once all folds are made and all constants have their names."""
    return tuple(_change(context.view, site, route) for site, route in context.traces)


def _change(view: View, site: Site, route: Route) -> Change:
    constants: list[NewConstant] = []
    source, result = site.source, site.result
    own = list(route.mapped)  # tensors that hold other values now, if they are still there
    for node in site.nodes:  # its parameters, side outputs, and what lies inside a run of primitives
        own += [each for each in node.inputs if each is not source]
        own += [each for each in node.outputs if each is not result]
    for edit in route.edits:
        if not isinstance(edit, SetConstant):
            continue
        tensor = edit.node.inputs[edit.index]
        if id(edit.node) in view.removed or not view.is_new(tensor):  # a later fold took the operator itself
            continue
        origin = view.origin(tensor)
        old = origin.name if origin is not None and view.is_original(origin) else ""
        if origin is not None and old and old != tensor.name:
            own.append(origin)
        constants.append(NewConstant(describe(edit.node), edit.index, old, tensor.name))
    gone = dict.fromkeys([each.name for each in own if view.is_gone(each) and view.is_original(each)])
    moved = dict.fromkeys([each.name for each in route.mapped if each.name not in gone and view.is_original(each)])
    into = dict.fromkeys([describe(node) for node in route.takers])
    one = site.normalization
    return Change(one.name, one.scope, result.name, tuple(into), tuple(gone), tuple(moved), tuple(constants))
