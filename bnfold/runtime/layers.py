"""Where two models part: each tensor that both have and make differently, compared with its true value.

Each is a *layer* here. It is compared channel by channel, so that an error in a channel of small values is not hidden by a large
one.

Some names do not keep their values: where a map travels through operators (Conv → Relu → BatchNormalization), the tensors on its
way are scaled by it. Such a tensor has *moved*: it differs, and yet everything that is made from it agrees again. It is told
from an error by that, and by its size: an error that the next layer hides is small, and is no affine map of its channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bnfold.runtime.against_truth import TrueValues
from bnfold.runtime.deviation import Deviation
from bnfold.runtime.places import Place
from bnfold.runtime.tolerance import UNIT_ROUNDOFF, Precision

Status: TypeAlias = Literal["ok", "moved", "wrong", "suspect"]

CHANNEL_FACTOR = 32.0
"""How many times the rounding of the stored weights a channel of a layer may be off in float64; see docs/verification.md."""

_MOVED = 1e-2  # of the layer's size: no error as large as this is hidden by the next layer
_FEW = 16  # values per channel
_LAST_AXIS = frozenset({"MatMul", "Gemm"})
_NAMED_CHANNELS = frozenset({"BatchNormalization", "Conv", "ConvTranspose", "InstanceNormalization"})


@dataclass(frozen=True)
class Layer:
    """One place of two models against its true value, over one input or more.

    Attributes:
        tensor: its name in both models.
        made_by: the operators that make it, as "layer2.0.bn1 → Conv `layer2.0.conv1`".
        original: the original's error in onnxruntime; None where it was not run with this tensor as an output.
        candidate: the candidate's.
        algebra: the difference of both models in float64.
        severity: `algebra` in parts of what is allowed, of the channel where that is largest.
        channel: that channel.
        channels: how many there are.
        affine: whether the candidate's channels are scaled and shifted ones of the original's, and nothing else.
        status: "ok", "wrong", or "moved": another value is meant to bear this name. Before it is judged also "suspect": nothing
            undid it on the input that was looked at.
    """

    tensor: str
    made_by: str
    original: Deviation | None
    candidate: Deviation | None
    algebra: Deviation
    severity: float
    channel: int
    channels: int
    affine: bool = False
    status: Status = "ok"

    @property
    def where(self) -> str:
        """The layer and its worst channel, in words."""
        channel = f", channel {self.channel} of {self.channels}" if self.channels > 1 else ""
        return f"{self.made_by}{channel}"

    def plus(self, other: Layer) -> Layer:
        """Both together, with the worse channel."""
        worse = max(self, other, key=lambda one: one.severity)
        return replace(
            worse,
            original=_both(self.original, other.original),
            candidate=_both(self.candidate, other.candidate),
            algebra=self.algebra.plus(other.algebra),
            affine=self.affine and other.affine,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; NaN and inf become None."""
        return {
            "tensor": self.tensor,
            "made_by": self.made_by,
            "status": self.status,
            "original": None if self.original is None else self.original.to_dict(),
            "candidate": None if self.candidate is None else self.candidate.to_dict(),
            "algebra": self.algebra.to_dict(),
            "severity": self.severity if math.isfinite(self.severity) else None,
            "channel": self.channel,
            "channels": self.channels,
        }


def measure_layer(
    place: Place,
    truth: TrueValues,
    precision: Precision,
    original: NDArray[Any] | None,
    candidate: NDArray[Any] | None,
) -> Layer:
    """Compares one place on one input.

    Args:
        place: which.
        truth: its true values.
        precision: the coarsest precision in the model.
        original: what onnxruntime gave for the original, where it was asked.
        candidate: and for the candidate.
    """
    with np.errstate(all="ignore"):
        axis = _channel_axis(place, truth.original.ndim)
        true, other, rounding = (_by_channel(each, axis) for each in (truth.original, truth.candidate, truth.rounding))
        usable = np.isfinite(true) & np.isfinite(other) & np.isfinite(rounding)
        true, other, rounding = (np.where(usable, each, 0.0) for each in (true, other, rounding))
        off = np.abs(other - true).max(axis=1, initial=0.0)
        size, moves = np.abs(true).max(axis=1, initial=0.0), rounding.max(axis=1, initial=0.0)
        live = size > 0
        # One sample of a channel's rounding may be small by chance: it counts as no less than is usual in this layer. And of a
        # few values nobody knows whether they are small by chance: then the usual is taken as it is, and not by their size.
        usual = float(np.median(moves[live] / size[live])) * size if live.any() else np.zeros_like(size)
        few = float(np.median(moves[live])) if live.any() and true.shape[1] < _FEW else 0.0
        noise = np.maximum(np.maximum(moves, usual), few)
        allowed = CHANNEL_FACTOR * (noise + UNIT_ROUNDOFF[precision] * size + _TINY[precision])
        shares = off / allowed
        worst = int(shares.argmax()) if shares.size else 0
        severity = float(shares[worst]) if shares.size else 0.0
        finite = np.isfinite(truth.original) & np.isfinite(truth.candidate)
        return Layer(
            tensor=place.tensor,
            made_by=place.made_by,
            original=_error(original, truth.original),
            candidate=_error(candidate, truth.original),
            algebra=Deviation.of((truth.candidate - truth.original)[finite], truth.original[finite]),
            severity=severity,
            channel=worst,
            channels=true.shape[0],
            affine=severity > 1 and _is_affine(true, other, allowed),
        )


def judged(layers: Sequence[Layer], places: Sequence[Place], failed: set[str]) -> list[Layer]:
    """Tells what moved from what is wrong.

    Args:
        layers: in the order of the candidate's graph.
        places: theirs.
        failed: the graph outputs that are not equivalent.
    """
    by_name = {place.tensor: place for place in places}
    bad = set(failed)
    found: dict[str, Layer] = {}
    for layer in reversed(layers):
        if layer.severity <= 1:
            found[layer.tensor] = layer
            continue
        if layer.status == "wrong" or (layer.status == "suspect" and bad):
            bad.add(layer.tensor)
            found[layer.tensor] = replace(layer, status="wrong")
            continue
        if layer.status == "moved":
            found[layer.tensor] = layer
            continue
        place = by_name[layer.tensor]
        hidden = not any(name in bad for name in place.readers)
        large = layer.algebra.squares > _MOVED**2 * layer.algebra.signal
        moved = hidden and (large or layer.affine)
        if not moved:
            bad.add(layer.tensor)
        found[layer.tensor] = replace(layer, status="moved" if moved else "wrong")
    return [found[layer.tensor] for layer in layers]


def first_wrong(layers: Sequence[Layer], places: Sequence[Place]) -> Layer | None:
    """The layer where the two models part; None where none is wrong.

    It is the first in graph order, unless that is an operator that only seems to carry a map for the one behind it.
    """
    kept = {place.tensor for place in places if place.op_types[0] == place.op_types[1]}
    wrong = [layer for layer in layers if layer.status == "wrong"]
    carrying = [layer for layer in wrong if layer.tensor in kept and layer.affine and layer.channels > 1]
    return next((layer for layer in wrong if layer not in carrying), wrong[0] if wrong else None)


_TINY: dict[Precision, float] = {
    "float64": 2.0**-1074,
    "float32": 2.0**-149,
    "float16": 2.0**-24,
    "quantized": 2.0**-149,
    "bfloat16": 2.0**-133,
}
"""The smallest positive number of each precision."""


def _is_affine(true: NDArray[np.float64], other: NDArray[np.float64], allowed: NDArray[np.float64]) -> bool:
    """Whether each row of `other` is a scaled and shifted row of `true`, and most of them are not the same."""
    center = true - true.mean(axis=1, keepdims=True)
    power = (center**2).sum(axis=1)
    scale = np.divide((center * other).sum(axis=1), power, out=np.zeros_like(power), where=power > 0)
    rest = other - other.mean(axis=1, keepdims=True) - scale[:, None] * center
    room = allowed * np.maximum(1.0, np.abs(scale))
    changed = np.abs(other - true).max(axis=1) > allowed
    return bool((np.abs(rest).max(axis=1) <= room).all() and np.count_nonzero(changed) > changed.size / 2)


def _error(found: NDArray[Any] | None, true: NDArray[np.float64]) -> Deviation | None:
    if found is None or found.shape != true.shape:
        return None
    wide = found.astype(np.float64)
    finite = np.isfinite(wide) & np.isfinite(true)
    return Deviation.of((wide - true)[finite], true[finite])


def _both(one: Deviation | None, other: Deviation | None) -> Deviation | None:
    return one.plus(other) if one is not None and other is not None else one or other


def _channel_axis(place: Place, rank: int) -> int | None:
    if rank < 2:
        return None
    types = set(place.op_types)
    second = rank == 2 or types & _NAMED_CHANNELS or (rank > 3 and not types & _LAST_AXIS)
    return 1 if second else rank - 1


def _by_channel(values: NDArray[np.float64], axis: int | None) -> NDArray[np.float64]:
    if axis is None:
        return values.reshape(1, -1)
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
