"""Each layer by itself: it gets the original's true values to work on, so that no rounding before it is in its difference.

Through a deep network the rounding of all weights adds up, and at its end covers small mistakes: an epsilon forgotten where the
variance is 1 changes a layer by 5e-6. Between the true values on both of its sides such a layer is far off what the
rounding of its own weights explains. So the candidate is evaluated once more in float64 with the tensors that agree so far as
inputs, which costs one evaluation. A few more tell how far rounding goes, and are made only where something stands out: of a
layer with few weights one alone may by chance move nothing.

A tensor may be meant to differ by little: a map of scale 0.999995, carried through an operator, is undone behind it. Then the
tensor and what reads it stand out together. They are evaluated again without the true values of those that stand out, and what
agrees behind such a tensor clears it.

Where a layer does not agree, a last evaluation with true values throughout tells an error from a value that is meant to be
another: what undoes that on purpose is wrong on the true value.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bnfold.errors import InputError
from bnfold.runtime.against_truth import TrueValues
from bnfold.runtime.layers import CHANNEL_FACTOR, Layer, measure_layer
from bnfold.runtime.places import Place
from bnfold.runtime.session import Value
from bnfold.runtime.tolerance import Precision

if TYPE_CHECKING:
    import onnx

Shakes: TypeAlias = "Callable[[int], onnx.ModelProto | None]"

LOCAL_FACTOR = 8.0
"""How many times the rounding of its own stored weights a channel may be off in float64, from true inputs."""

_SHAKES = 6
"""Evaluations that tell how far rounding goes. Where it comes from two weights, each is nothing with a chance of one half."""

_MADE = " (as it is made)"


def local_errors(
    candidate: onnx.ModelProto,
    shakes: Shakes,
    folder: Path | None,
    feed: Mapping[str, Value],
    places: Sequence[Place],
    layers: Sequence[Layer],
    true: Mapping[str, NDArray[np.float64]],
    precision: Precision,
) -> dict[str, Layer]:
    """The layers of which more is known from themselves alone, by tensor, with their status; empty normally.

    Args:
        candidate: the candidate.
        shakes: makes the same, its new weights moved by one unit in the last place, up or down by a seed; None where none is new.
        folder: where its external data lies.
        feed: input name → value.
        places: where the two models make a tensor differently.
        layers: what was measured there, through the whole network.
        true: tensor → the original's value in float64.
        precision: the coarsest precision in the model.
    """
    if precision in ("quantized", "float64"):
        return {}  # a value may round the other way by a whole step; the reference is no finer than the model
    among = {place.tensor: place for place in places if place.tensor in true}
    settled = {layer.tensor for layer in layers if layer.severity <= 1 and layer.tensor in among}
    measured = partial(_measured, candidate, shakes, folder, feed, among, true=true, precision=precision)
    try:
        return _hidden(places, among, settled, measured) | _plain(among, settled, measured)
    except InputError:  # it was evaluated before, so this is for want of memory
        return {}


def _hidden(
    places: Sequence[Place], among: Mapping[str, Place], settled: set[str], measured: Callable[[set[str]], dict[str, Layer]]
) -> dict[str, Layer]:
    """The layers that agree through the whole network, and are wrong by themselves."""
    alone = measured(settled)
    suspects = {tensor for tensor in settled & alone.keys() if alone[tensor].severity > 1}
    if not suspects:
        return {}
    together = measured(settled - suspects)
    right = {tensor for tensor, layer in alone.items() if layer.severity <= 1}
    off = {tensor for tensor, layer in together.items() if layer.severity > 1}
    wrong: dict[str, Layer] = {}
    for place in reversed(places):
        if place.tensor in suspects & off and _shows(place, among, right, off, wrong):
            wrong[place.tensor] = replace(alone[place.tensor], status="wrong")
    return wrong


def _plain(among: Mapping[str, Place], settled: set[str], measured: Callable[[set[str]], dict[str, Layer]]) -> dict[str, Layer]:
    """The layers that do not agree through the whole network: moved where a reader undoes that, and suspect where none does.

    What undoes it agrees through the whole network, and is off on the true value. Where all that reads a layer is right on the
    true value it is suspect only, as behind a dead Relu nothing can be seen: it is named where something else shows the error.
    """
    if settled == among.keys():
        return {}
    alone = measured(set(among))
    right = {tensor for tensor, layer in alone.items() if layer.severity <= 1}
    undoing = settled & alone.keys() - right
    found: dict[str, Layer] = {}
    for tensor in alone.keys() - settled - right:
        readers = among[tensor].readers
        if undoing.intersection(readers):
            found[tensor] = replace(alone[tensor], status="moved")
        elif readers and right.issuperset(readers):
            found[tensor] = replace(alone[tensor], status="suspect")
    return found


def _shows(place: Place, among: Mapping[str, Place], right: set[str], off: set[str], wrong: Collection[str]) -> bool:
    """Whether something behind a place is off because of it, or nothing is behind it that could make up for it.

    Args:
        place: one that is off by itself.
        among: all places.
        right: those that come out right from true inputs.
        off: those that do not when they get this place's own value.
        wrong: those behind it that were found wrong.
    """
    pending, seen = list(place.readers), set[str]()
    while pending:
        reader = pending.pop()
        if reader == place.tensor or reader not in among or reader in wrong or reader in right & off:
            return True
        if reader in off - right - seen:  # it may hold another value on purpose, so look behind it
            pending += among[reader].readers
        seen.add(reader)
    return not place.readers


def _measured(
    candidate: onnx.ModelProto,
    shakes: Shakes,
    folder: Path | None,
    feed: Mapping[str, Value],
    among: Mapping[str, Place],
    given: Collection[str],
    true: Mapping[str, NDArray[np.float64]],
    precision: Precision,
) -> dict[str, Layer]:
    """The candidate's layers, each from the true values in `given`; rounding is asked for where it could excuse something."""
    made = _made(candidate, folder, feed, among, given, true)
    plain = {name: TrueValues(true[name], made[name], np.zeros_like(made[name])) for name in made}
    layers = {name: _measure(among[name], values, precision) for name, values in plain.items()}
    if all(layer.severity <= 1 for layer in layers.values()):
        return layers
    rounding = {name: np.zeros_like(values) for name, values in made.items()}
    for seed in range(_SHAKES):
        shaken = shakes(seed)
        if shaken is None:
            break
        moved = _made(shaken, folder, feed, among, given, true)
        rounding = {name: np.maximum(known, np.abs(moved[name] - made[name]) / 2) for name, known in rounding.items()}
    return {name: _measure(among[name], replace(values, rounding=rounding[name]), precision) for name, values in plain.items()}


def _measure(place: Place, values: TrueValues, precision: Precision) -> Layer:
    layer = measure_layer(place, values, precision, None, None)
    return replace(layer, severity=layer.severity * CHANNEL_FACTOR / LOCAL_FACTOR)


def _made(
    model: onnx.ModelProto,
    folder: Path | None,
    feed: Mapping[str, Value],
    wanted: Collection[str],
    given: Collection[str],
    true: Mapping[str, NDArray[np.float64]],
) -> dict[str, NDArray[np.float64]]:
    """What a model makes of tensors: every reader of one in `given` gets its true value instead."""
    from bnfold.runtime.reference import Reference

    cut = _cut(model, given)
    fed = {name: value for name, value in feed.items() if value is not None} | {name: true[name] for name in given}
    names = {name: name + _MADE if name in given else name for name in wanted}
    found = Reference(cut, folder).run(fed, names.values()).watched
    return {name: found[made] for name, made in names.items() if made in found and found[made].shape == true[name].shape}


def _cut(model: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
    """The model with some of its tensors as inputs; what it makes of them goes by another name, and nothing else comes out."""
    import onnx

    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    del cut.graph.output[:]
    for node in cut.graph.node:
        node.output[:] = [name + _MADE if name in names else name for name in node.output]
    for name in sorted(names):
        cut.graph.input.add().name = name
    return cut
