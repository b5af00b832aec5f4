"""How close what a model sees is to what it was trained on: moments before each BatchNormalization, against the stored ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bnfold.runtime.draws import Float64
from bnfold.runtime.session import Session, Value
from bnfold.runtime.source import Source, ValueSpec

if TYPE_CHECKING:
    import onnx

_EPSILON = 1e-5  # of BatchNormalization, where the node does not say
_CLEAR = 1e-12  # no variance is smaller, so that its logarithm exists


@dataclass(frozen=True)
class Moments:
    """One BatchNormalization: what it stores, and what arrives.

    Attributes:
        name: of the tensor that it reads.
        stored_mean: its running mean, float64, shape (C,).
        stored_var: its running variance with epsilon, the same.
        mean: of what arrives, over all samples and places, the same.
        var: likewise, with epsilon.
    """

    name: str
    stored_mean: Float64
    stored_var: Float64
    mean: Float64
    var: Float64

    @property
    def divergence(self) -> Float64:
        """Kullback–Leibler divergence of normal(mean, var) from normal(stored_mean, stored_var), shape (C,), in nats."""
        ratio = self.var / self.stored_var
        return np.asarray((ratio - 1 - np.log(ratio) + (self.mean - self.stored_mean) ** 2 / self.stored_var) / 2)


@dataclass(frozen=True)
class _Norm:
    data: str
    mean: str
    var: str
    epsilon: float


class Watch:
    """A model that also gives what its normalizations read.

    Args:
        source: the model; its BatchNormalizations in the main graph count, those in training mode do not.

    Raises:
        CannotRun: as `Session`.
        ModelRejected: likewise.
    """

    def __init__(self, source: Source) -> None:
        proto = _full_proto(source)
        self.norms = _norms(proto)
        fed = {spec.name for spec in source.inputs}
        names = dict.fromkeys(name for norm in self.norms for name in (norm.data, norm.mean, norm.var) if name not in fed)
        self._names = tuple(names)
        del proto.graph.output[:]
        for name in self._names:
            proto.graph.output.add().name = name
        specs = tuple(ValueSpec(name, "") for name in self._names)
        folder = source.folder if source.folder is not None or isinstance(source.payload, bytes) else source.payload.parent
        self._session = Session(replace(source, payload=proto.SerializeToString(), folder=folder, outputs=specs), "disabled")

    def run(self, feed: Mapping[str, Value]) -> dict[str, Float64]:
        """What every watched tensor holds for one input, as float64.

        Raises:
            RunFailed: the model does not run on this input.
        """
        found = dict(zip(self._names, self._session.run(feed), strict=True))
        everything = {name: np.asarray(value) for name, value in {**feed, **found}.items()}
        return {name: value.astype(np.float64) for name, value in everything.items() if value.dtype != object}

    def moments(self, runs: Sequence[Mapping[str, Float64]]) -> list[Moments]:
        """The moments over several runs together."""
        return [_moments(norm, runs) for norm in self.norms]


def distance(moments: Sequence[Moments]) -> float:
    """How far all normalizations together are from their statistics: 0 when they agree; inf where something is not finite.

    The mean over layers of the mean over channels of log(1 + divergence): a layer, and a channel far off, count once.
    """
    with np.errstate(all="ignore"):
        layers = [float(np.mean(np.log1p(np.maximum(each.divergence, 0)))) for each in moments]
    total = float(np.mean(layers)) if layers else 0.0
    return total if np.isfinite(total) else float("inf")


def _moments(norm: _Norm, runs: Sequence[Mapping[str, Float64]]) -> Moments:
    arrays = [np.moveaxis(run[norm.data], 1, 0).reshape(run[norm.data].shape[1], -1) for run in runs]
    count = sum(array.shape[1] for array in arrays)
    with np.errstate(all="ignore"):
        mean = sum(array.sum(1) for array in arrays) / count
        var = sum(((array - mean[:, None]) ** 2).sum(1) for array in arrays) / count
        stored = runs[0][norm.mean], np.maximum(runs[0][norm.var] + norm.epsilon, _CLEAR)
    return Moments(norm.data, *stored, np.asarray(mean), np.asarray(np.maximum(var + norm.epsilon, _CLEAR)))


def _norms(proto: onnx.ModelProto) -> tuple[_Norm, ...]:
    """The normalizations of the main graph that keep statistics per channel."""
    found = []
    for node in proto.graph.node:
        told = {attribute.name: attribute for attribute in node.attribute}
        trains = "training_mode" in told and told["training_mode"].i == 1
        per_channel = "spatial" not in told or told["spatial"].i == 1
        if node.op_type == "BatchNormalization" and not node.domain and len(node.output) == 1 and per_channel and not trains:
            epsilon = told["epsilon"].f if "epsilon" in told else _EPSILON
            found.append(_Norm(node.input[0], node.input[3], node.input[4], epsilon))
    return tuple(found)


def _full_proto(source: Source) -> onnx.ModelProto:
    """The model with the weights that its file holds; external data stays where it is."""
    import onnx

    if isinstance(source.payload, bytes):
        return onnx.load_model_from_string(source.payload)
    proto: onnx.ModelProto = onnx.load(source.payload, load_external_data=False)
    return proto
