"""How the values of generated inputs are drawn: from noise of several sizes to something as smooth as a photograph.

White noise alone is a weak probe. Averages over an image bring it to zero, so whatever stands behind a global pooling sees one
and the same value; coarse structure survives them. Values of size 1 say little about a model that divides its input by 255, and
large ones drive others into saturation. Inputs near zero leave the shifts alone on the stage, where an error in one shows best.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Float64: TypeAlias = NDArray[np.float64]
Shape: TypeAlias = tuple[int, ...]

_CHANNELS_LAST = {1, 3, 4}
_COARSEST = 4
"""Cells along each axis at the coarsest level of `smooth`."""


@dataclass(frozen=True)
class Distribution:
    """One way to draw floats.

    Attributes:
        label: what reports call it.
        draw: makes float64 values of a shape from a generator.
        wide: whether a model may be driven out of its range by them, so that it may turn them down.
        resized: whether they are drawn at odd sizes and with a batch of 1, where the model leaves those open.
    """

    label: str
    draw: Callable[[np.random.Generator, Shape], Float64]
    wide: bool = False
    resized: bool = False


def smooth(rng: np.random.Generator, shape: Shape, levels: int = 8) -> Float64:
    """Noise of mean about 0 and variance about 1 in which coarse structure is the strongest, as in photographs.

    A sum of `levels` octaves of piecewise linear noise along the spatial axes, each half as strong in amplitude as the next
    coarser one; each sample and channel has a brightness of its own. Without spatial axes it is plain normal noise.
    """
    axes = spatial_axes(shape)
    if not axes or 0 in shape:
        return rng.standard_normal(shape)
    total = 0.5 * rng.standard_normal(_cells(shape, axes, 1))
    power, cells, strength = 0.25, _COARSEST, 0.8
    for _ in range(levels):
        grid = rng.standard_normal(_cells(shape, axes, cells))
        for axis in axes:
            grid = _stretched(grid, axis, shape[axis])
        total = total + strength * grid
        power += strength**2 * float(np.mean(grid**2))
        if all(cells >= shape[axis] for axis in axes):
            break
        cells, strength = 2 * cells, strength / 2
    return np.asarray(np.broadcast_to(total, shape) / np.sqrt(power))


def spatial_axes(shape: Shape) -> tuple[int, ...]:
    """The axes that are extents of an image or a sequence: all behind batch and channels, which may stand last."""
    if len(shape) == 4 and shape[-1] in _CHANNELS_LAST and shape[1] not in _CHANNELS_LAST:
        return (1, 2)
    return tuple(range(2, len(shape)))


def channel_axis(shape: Shape) -> int:
    """The axis of the channels: 1, or the last one of an image that keeps its 1, 3 or 4 channels there."""
    return 3 if spatial_axes(shape) == (1, 2) else min(1, len(shape) - 1)


DISTRIBUTIONS: tuple[Distribution, ...] = (
    Distribution("normal(0, 1)", lambda rng, shape: rng.standard_normal(shape)),
    Distribution("smooth(0, 1)", smooth),
    Distribution("other sizes, normal(0, 1)", lambda rng, shape: rng.standard_normal(shape), wide=True, resized=True),
    Distribution("uniform(0, 255)", lambda rng, shape: rng.uniform(0.0, 255.0, shape), wide=True),
    Distribution("uniform(0, 1)", lambda rng, shape: rng.random(shape)),
    Distribution("normal(0, 0.001)", lambda rng, shape: rng.normal(0.0, 1e-3, shape), wide=True),
    Distribution("zero", lambda rng, shape: np.zeros(shape), wide=True),
    Distribution("normal(0, 4)", lambda rng, shape: rng.normal(0.0, 4.0, shape), wide=True),
)
"""The most telling first: a verification may have time for two or three only."""


def _cells(shape: Shape, axes: Shape, cells: int) -> list[int]:
    return [min(cells, extent) if axis in axes else extent for axis, extent in enumerate(shape)]


def _stretched(values: Float64, axis: int, extent: int) -> Float64:
    """Piecewise linear interpolation along one axis to a larger extent."""
    cells = values.shape[axis]
    if cells == extent:
        return values
    place = np.linspace(0, cells - 1, extent)
    low = np.minimum(place.astype(np.intp), max(cells - 2, 0))
    share = (place - low).reshape([-1 if each == axis else 1 for each in range(values.ndim)])
    return np.asarray(values.take(low, axis) * (1 - share) + values.take(np.minimum(low + 1, cells - 1), axis) * share)
