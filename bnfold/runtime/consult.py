"""Asks for the truth about as many inputs as time allows, and looks at every layer on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bnfold.errors import BnfoldError
from bnfold.runtime.feeds import Feed
from bnfold.runtime.layers import Layer, measure_layer
from bnfold.runtime.local import local_errors
from bnfold.runtime.places import Place, find_places
from bnfold.runtime.session import Session
from bnfold.runtime.source import Source, ValueSpec
from bnfold.runtime.truth import NoTruth, Oracle, Truth
from bnfold.verdict import Note

if TYPE_CHECKING:
    import onnx

Probe = Callable[[Feed], Mapping[str, NDArray[Any]]]
"""What onnxruntime gives for the watched tensors on one input."""

MOST_GENERATED = 4
"""How many generated inputs are evaluated in float64 at most, the most telling ones first. Given inputs have no such limit."""

_GENERATED_SHARE = 1 / 6  # of the time that is left: more inputs of the same kind tell little more
_MOST_WATCHED_BYTES = 2**27


@dataclass(frozen=True, eq=False)
class Findings:
    """What the reference says about some of the inputs.

    Attributes:
        truths: one for each of the first inputs.
        places: where the two models make a tensor differently.
        layers: what was measured there, over these inputs; the status is still to be judged.
        notes: BNF035 where there is no truth, or not for all of it.
    """

    truths: tuple[Truth, ...] = ()
    places: tuple[Place, ...] = ()
    layers: tuple[Layer, ...] = ()
    notes: tuple[Note, ...] = ()


def consult(
    original: Source,
    candidate: Source,
    feeds: Sequence[Feed],
    open_session: Callable[[Source, Source], tuple[Session, Session]] | None,
    deadline: float,
) -> Findings:
    """Evaluates both models in float64 on at least the first input, and on more while there is time.

    Args:
        original: the original.
        candidate: the candidate.
        feeds: the inputs.
        open_session: opens both in onnxruntime, without optimizations; None where layers need not be measured there.
        deadline: in `time.perf_counter()` seconds; no input is begun that would not be done by then.
    """
    layers: dict[str, Layer] = {}
    by_itself: dict[str, Layer] = {}
    truths: list[Truth] = []
    try:
        oracle = Oracle(original, candidate)
        places, probes = _watch(oracle, original, candidate, feeds[0], open_session)
        longest, begun = 0.0, time.perf_counter()
        soon = begun + _GENERATED_SHARE * (deadline - begun)
        for place, feed in enumerate(feeds):
            started = time.perf_counter()
            if truths and started + longest > (soon if feed.generated else deadline):
                break
            if feed.generated and place >= MOST_GENERATED:
                break
            truth = oracle.ask(feed.values, [each.tensor for each in places])
            found = _layers(places, truth, original, [probe(feed) for probe in probes])
            for layer in found:
                layers[layer.tensor] = layers[layer.tensor].plus(layer) if layer.tensor in layers else layer
            if not truths:
                true = {name: values.original for name, values in truth.watched.items()}
                by_itself = local_errors(
                    oracle.candidate, oracle.shakes, candidate.folder, feed.values, places, found, true, original.precision
                )
            truths.append(Truth(truth.outputs, {}))
            longest = max(longest, time.perf_counter() - started)
    except NoTruth as reason:
        if not truths:
            return Findings(notes=(Note("BNF035", f"{reason} So the two models are compared with each other only."),))
        sentence = f"{reason} So the other inputs are compared without it."
        return Findings(tuple(truths), tuple(places), tuple(layers.values()), (Note("BNF035", sentence),))
    layers |= {name: _wrong(layers[name], layer) for name, layer in by_itself.items()}
    return Findings(tuple(truths), tuple(places), tuple(layers[each.tensor] for each in places if each.tensor in layers))


def _wrong(layer: Layer, by_itself: Layer) -> Layer:
    """A layer that is within its tolerance through the whole network, and beyond it by itself."""
    severity = max(layer.severity, by_itself.severity)
    return replace(layer, algebra=by_itself.algebra, severity=severity, channel=by_itself.channel, status=by_itself.status)


def _layers(places: Sequence[Place], truth: Truth, original: Source, probed: Sequence[Mapping[str, NDArray[Any]]]) -> list[Layer]:
    found = []
    for place in places:
        if place.tensor in truth.watched:
            ours, theirs = ([one.get(place.tensor) for one in probed] + [None, None])[:2]
            found.append(measure_layer(place, truth.watched[place.tensor], original.precision, ours, theirs))
    return found


def _watch(
    oracle: Oracle,
    original: Source,
    candidate: Source,
    feed: Feed,
    open_session: Callable[[Source, Source], tuple[Session, Session]] | None,
) -> tuple[list[Place], list[Probe]]:
    """The places that can be looked at without holding too much, and how onnxruntime is asked about them."""
    places = find_places(oracle.original, oracle.candidate, oracle.known, oracle.own)
    if not places or open_session is None or any(spec.elem_type == "bfloat16" for spec in original.outputs):
        return places, []
    names = [place.tensor for place in places]
    probes: list[Probe] = []
    try:
        sessions = open_session(_exposing(original, oracle.original, names), _exposing(candidate, oracle.candidate, names))
        probes = [_probe(session, source, names) for session, source in zip(sessions, (original, candidate), strict=True)]
        sizes = {name: 8 * array.size for name, array in probes[0](feed).items()}
    except (BnfoldError, ValueError):  # such as a protobuf of more than 2 GB: the float64 figures do without
        return places, []
    held = np.cumsum([sizes.get(name, 0) for name in names])
    kept = {name for name, total in zip(names, held, strict=True) if total <= _MOST_WATCHED_BYTES}
    if len(kept) < len(places):
        places = find_places(oracle.original, oracle.candidate, oracle.known, oracle.own, kept)
    return places, probes


def _probe(session: Session, source: Source, names: Sequence[str]) -> Probe:
    outputs = [spec.name for spec in source.outputs]
    all_names = [*outputs, *(name for name in names if name not in outputs)]

    def probe(feed: Feed) -> dict[str, NDArray[Any]]:
        values = dict(zip(all_names, session.run(feed.values), strict=True))
        return {name: values[name] for name in names if isinstance(values[name], np.ndarray) and values[name].dtype.kind == "f"}

    return probe


def _exposing(source: Source, proto: onnx.ModelProto, names: Sequence[str]) -> Source:
    """The model with more outputs."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    present = {value.name for value in copy.graph.output}
    extra = [name for name in names if name not in present]
    for name in extra:
        copy.graph.output.add().name = name
    return replace(source, payload=copy.SerializeToString(), outputs=(*source.outputs, *(ValueSpec(name, "") for name in extra)))
