"""Keeps book of what folds do to names, so that whoever knows the original's tensors finds them again (`bnfold.fold_map`)."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_graphsurgeon as gs

from bnfold.context import Context
from bnfold.edits import SetConstant
from bnfold.graph import Scope, View, describe
from bnfold.route import Route
from bnfold.sites import Site
from bnfold.verdict import Change, NewConstant


@dataclass(frozen=True, eq=False, slots=True)
class Trace:
    """One fold, noted before it is made.

    Attributes:
        site: what folds.
        output: the name of what it makes.
        into: the operators that take it.
        mapped: tensors that will hold other values, if they stay.
        inner: what else the site reads and makes: its parameters, side outputs, and what lies inside a run of primitives.
        places: the inputs that get new constants.
    """

    site: Site
    output: str
    into: tuple[str, ...]
    mapped: tuple[gs.Tensor, ...]
    inner: tuple[gs.Tensor, ...]
    places: tuple[tuple[gs.Node, int], ...]


def trace(context: Context, site: Site, route: Route) -> None:
    """Notes a fold that is about to be made."""
    into = tuple(dict.fromkeys(describe(node) for node in route.takers))
    both = (tensor for node in site.nodes for tensor in (*node.inputs, *node.outputs))
    inner = tuple(tensor for tensor in both if tensor is not site.source and tensor is not site.result)
    places = tuple((edit.node, edit.index) for edit in route.edits if isinstance(edit, SetConstant))
    context.traces.append(Trace(site, site.result.name, into, route.mapped, inner, places))


def changes_of(context: Context) -> tuple[Change, ...]:
    """What was noted, once all folds are made and all constants have their names."""
    return tuple(_change(context.view, one) for one in context.traces)


def _change(view: View, noted: Trace) -> Change:
    normalization, home = noted.site.normalization, view.scope(noted.site.nodes[0])
    constants: list[NewConstant] = []
    replaced: list[gs.Tensor] = []
    for node, index in noted.places:
        tensor = node.inputs[index]
        if id(node) in view.removed or not view.is_new(tensor):  # a later fold took the operator itself
            continue
        origin = view.origin(tensor)
        old = origin.name if origin is not None and _is_original(home, origin) else ""
        if origin is not None and old and old != tensor.name:
            replaced.append(origin)
        constants.append(NewConstant(describe(node), index, old, tensor.name))
    own = [each for each in (*noted.mapped, *noted.inner, *replaced) if _is_original(home, each)]
    gone = dict.fromkeys(each.name for each in own if _is_gone(view, each))
    moved = dict.fromkeys(each.name for each in noted.mapped if _is_original(home, each) and each.name not in gone)
    return Change(normalization.name, normalization.scope, noted.output, noted.into, tuple(gone), tuple(moved), tuple(constants))


def _is_original(home: Scope, tensor: gs.Tensor) -> bool:
    """Whether the model had this tensor before anything was folded."""
    return bool(tensor.name) and home.resolve(tensor.name) is tensor


def _is_gone(view: View, tensor: gs.Tensor) -> bool:
    producer = view.producer(tensor)
    return (producer is None or id(producer) in view.removed) and not view.is_read(tensor)
