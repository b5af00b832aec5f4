"""Inputs that look to a network like what it was trained on, found from the statistics that its normalizations store.

Noise of mean 0 and variance 1 is nothing that a network has seen. Behind it many channels lie far from their running statistics,
units behind a Relu are dead or always on, and what is wrong with a dead unit shows in no output. Here the input's mean and
strength per channel are solved for from the first normalizations, to which they map linearly, and its texture is searched for;
the best is what brings all normalizations closest to what they store. Only forward runs of the model are needed.

The idea of synthesizing inputs from these statistics: Yin et al., "Dreaming to Distill: Data-Free Knowledge Transfer via
DeepInversion", CVPR 2020, who use gradients.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from bnfold.errors import BnfoldError
from bnfold.runtime.draws import Float64, Shape, channel_axis, smooth
from bnfold.runtime.feeds import DTYPES, FLOATS, Feed
from bnfold.runtime.session import Value
from bnfold.runtime.source import Source, ValueSpec
from bnfold.runtime.statistics import Watch, distance

_SAMPLES = 8
_LARGE, _FEW_SAMPLES = 1 << 16, 4
"""Inputs of more elements are searched with fewer samples."""
_RUNS = 4
"""At most so many feeds come out, where the model takes a few samples at a time only."""
_PROBES, _PROBED = 1024, 1 << 22
"""Channels, and elements over all of them, up to which each channel is probed by itself."""
_REFINEMENTS = 16
_NONLINEAR = 1e-3


@dataclass(frozen=True)
class Texture:
    """What an input looks like, apart from the mean and strength of its channels.

    Attributes:
        smoothness: share of the variance that is coarse structure; the rest is white noise.
        cut: values below that many standard deviations are cut off, so that few stand out from a flat ground.
        likeness: share of the variance that all channels have in common, as those of a photograph do.
        brightness: standard deviation of each sample's own shift, relative to the strength.
        contrast: standard deviation of the logarithm of each sample's own gain.
        gain: factor on the strength of all channels.
        offset: shift of all channels, relative to the strength.
    """

    smoothness: float
    cut: float = -4.0
    likeness: float = 0.5
    brightness: float = 0.25
    contrast: float = 0.25
    gain: float = 1.0
    offset: float = 0.0


_START = tuple(Texture(smoothness, cut) for cut in (-4.0, 0.5) for smoothness in (0.0, 0.5, 0.9))
_GAINS = (0.1, 1.0, 10.0, 100.0)


@dataclass(frozen=True)
class _Canvas:
    """What stays the same during one search.

    Attributes:
        spec: the input that is searched for.
        others: values of the model's other inputs.
        batch: samples in one run; 0 where all may go into one.
        shape: of all samples.
        axis: of the channels.
        noise: white and coarse noise of that shape, and the same with one channel.
        tilts: two normal numbers for each sample.
    """

    spec: ValueSpec
    others: Mapping[str, Value]
    batch: int
    shape: Shape
    axis: int
    noise: tuple[tuple[Float64, Float64], ...]
    tilts: tuple[Float64, Float64]


@dataclass(frozen=True)
class _Channels:
    """Mean and strength of each input channel, broadcasting against the samples; `solved` where statistics decided them."""

    mean: Float64
    strength: Float64
    solved: bool


def with_matched(source: Source, proposals: Iterable[tuple[Feed, ...]], seed: int) -> Iterator[tuple[Feed, ...]]:
    """Yields each proposal with inputs in front that are matched to the model's statistics, of the same shapes.

    A proposal comes out as it was where the model stores no statistics, has no float input with channels, or does not run on it.
    """
    watch: Watch | None = None
    for feeds in proposals:
        matched: tuple[Feed, ...] = ()
        try:
            watch = watch or Watch(source)
            canvas = _canvas(source, feeds[0], seed)
            if watch.norms and canvas is not None:
                matched = _search(watch, canvas, np.random.default_rng(seed))
        except BnfoldError:  # the verification will say what is wrong
            pass
        yield (*matched, *feeds)


def _canvas(source: Source, feed: Feed, seed: int) -> _Canvas | None:
    """The setting for a search around one feed; None where it has no float input with channels."""
    floats = [spec for spec in source.inputs if spec.elem_type in FLOATS and np.ndim(feed.values[spec.name]) >= 2]
    spec = max(floats, key=lambda each: np.size(feed.values[each.name]), default=None)
    if spec is None or np.size(feed.values[spec.name]) == 0:
        return None
    others = {name: value for name, value in feed.values.items() if name != spec.name}
    given = np.shape(feed.values[spec.name])
    free = not others and spec.shape is not None and not isinstance(spec.shape[0], int)
    count = _SAMPLES if np.prod(given[1:]) <= _LARGE else _FEW_SAMPLES
    batch = 0 if free else given[0]
    shape = (count if free else -(-count // batch) * batch, *given[1:])
    axis = channel_axis(shape)
    rng = np.random.default_rng(seed)
    single = tuple(1 if place == axis else extent for place, extent in enumerate(shape))
    noise = tuple((rng.standard_normal(each), smooth(rng, each)) for each in (shape, single))
    tilts = rng.standard_normal((2, shape[0], *[1] * (len(shape) - 1)))
    return _Canvas(spec, others, batch, shape, axis, noise, (tilts[0], tilts[1]))


def _search(watch: Watch, canvas: _Canvas, rng: np.random.Generator) -> tuple[Feed, ...]:
    """The matched inputs; none where the model gives nothing finite for any that was tried."""
    mean = _solve_means(watch, canvas)
    start = _START if mean is not None else tuple(replace(each, gain=gain) for each in _START[:3] for gain in _GAINS)
    tried = []
    for texture in start:
        channels = _solve_strengths(watch, canvas, mean, texture)
        tried.append((_distance(watch, canvas, texture, channels), texture, channels))
    best, texture, channels = min(tried, key=lambda each: each[0])
    for _ in range(_REFINEMENTS):
        other = _varied(texture, rng)
        reached = _distance(watch, canvas, other, channels)
        if reached < best:
            best, texture = reached, other
    if not np.isfinite(best):
        return ()
    runs = list(_feeds(canvas, _image(canvas, texture, channels)))
    return tuple(
        Feed("matched" if len(runs) == 1 else f"matched, {number}", values, generated=True, wide=True)
        for number, values in enumerate(runs[:_RUNS], 1)
    )


def _solve_means(watch: Watch, canvas: _Canvas) -> tuple[Float64, tuple[int, ...]] | None:
    """The input means that the first normalizations ask for, and which those are; None where none is an affine map away.

    The mean before such a normalization is an affine function of the input's means: least squares, weighted by its variance.
    """
    blank = np.zeros((1, *canvas.shape[1:]))
    bump = np.random.default_rng(0).standard_normal(blank.shape)
    base, once, twice = (watch.run(next(_feeds(canvas, each))) for each in (blank, bump, 2 * bump))
    affine = []
    for place, norm in enumerate(watch.norms):
        step = once[norm.data] - base[norm.data]
        bend = twice[norm.data] - base[norm.data] - 2 * step
        if np.abs(step).max(initial=0) > 0 and np.abs(bend).max(initial=0) <= _NONLINEAR * np.abs(step).max():
            affine.append(place)
    if not affine:
        return None
    groups = _groups(canvas)
    rest = watch.moments([base])
    answers = [watch.moments([run]) for run in _each(watch, canvas, groups)]
    sd = np.sqrt(np.concatenate([rest[place].stored_var for place in affine]))
    wanted = np.concatenate([rest[place].stored_mean - rest[place].mean for place in affine]) / sd
    columns = [np.concatenate([answer[place].mean - rest[place].mean for place in affine]) / sd for answer in answers]
    slopes = np.stack(columns, 1)
    ridge = 1e-3 * np.sqrt(np.mean(slopes**2) + 1e-30) * np.eye(len(columns))
    solution = np.linalg.lstsq(np.concatenate([slopes, ridge]), np.concatenate([wanted, np.zeros(len(columns))]), rcond=None)[0]
    return np.asarray(sum(part * share for part, share in zip(groups, solution, strict=True))), tuple(affine)


def _solve_strengths(watch: Watch, canvas: _Canvas, mean: tuple[Float64, tuple[int, ...]] | None, texture: Texture) -> _Channels:
    """Standard deviations of the input's channels, such that the variances before the first normalizations are those stored.

    They are sums of what each channel contributes. The non-negative solution is approached by multiplicative steps (Lee, Seung,
    "Algorithms for Non-negative Matrix Factorization", 2000), which stay close to equal shares where many would do.
    """
    if mean is None:
        return _Channels(np.zeros(()), np.ones(()), False)
    means, affine = mean
    groups = _groups(canvas)
    field = _field(canvas, replace(texture, likeness=0.0))[:2]
    answers = [watch.moments([run]) for run in _each(watch, canvas, [field * part for part in groups])]
    stored = np.concatenate([answers[0][place].stored_var for place in affine])
    shares = np.stack([np.concatenate([answer[place].var for place in affine]) / stored for answer in answers], 1)
    power = np.full(len(groups), 1 / max(float(np.mean(shares.sum(1))), 1e-30))
    for _ in range(200):
        power = power * shares.sum(0) / np.maximum(shares.T @ (shares @ power), 1e-30)
    strength = sum(np.sqrt(share) * part for part, share in zip(groups, power, strict=True))
    return _Channels(means, np.asarray(strength), True)


def _groups(canvas: _Canvas) -> list[Float64]:
    """Masks of the channels that get a mean and a strength of their own; one of all channels where there are too many."""
    shape = [1] * len(canvas.shape)
    shape[canvas.axis] = count = canvas.shape[canvas.axis]
    if count > _PROBES or count * np.prod(canvas.shape[1:]) > _PROBED:
        return [np.ones(shape)]
    return [row.reshape(shape) for row in np.eye(count)]


def _each(watch: Watch, canvas: _Canvas, images: list[Float64]) -> list[dict[str, Float64]]:
    """What is watched for each of several images."""
    blank = np.zeros((1, *canvas.shape[1:]))
    return [watch.run(next(_feeds(canvas, image + blank))) for image in images]


def _distance(watch: Watch, canvas: _Canvas, texture: Texture, channels: _Channels) -> float:
    runs = [watch.run(feed) for feed in _feeds(canvas, _image(canvas, texture, channels))]
    return distance(watch.moments(runs))


def _feeds(canvas: _Canvas, image: Float64) -> Iterator[dict[str, Value]]:
    """The samples in runs that the model takes; the last are repeated where they do not fill one."""
    dtype = DTYPES[canvas.spec.elem_type]
    size = canvas.batch or len(image)
    for first in range(0, len(image), size):
        samples = np.arange(first, first + size) % len(image)
        with np.errstate(over="ignore"):
            yield {canvas.spec.name: image[samples].astype(dtype), **canvas.others}


def _image(canvas: _Canvas, texture: Texture, channels: _Channels) -> Float64:
    strength = texture.gain * channels.strength
    return np.asarray(channels.mean + strength * (_field(canvas, texture) + texture.offset))


def _field(canvas: _Canvas, texture: Texture) -> Float64:
    """Samples with the texture, of mean 0 and variance 1 in each channel."""
    own, shared = (
        np.sqrt(1 - texture.smoothness) * white + np.sqrt(texture.smoothness) * coarse for white, coarse in canvas.noise
    )
    field = np.sqrt(1 - texture.likeness) * own + np.sqrt(texture.likeness) * shared
    field = np.maximum(field, texture.cut)
    field = field * np.exp(texture.contrast * canvas.tilts[0]) + texture.brightness * canvas.tilts[1]
    axes = tuple(axis for axis in range(field.ndim) if axis != canvas.axis)
    field = field - field.mean(axes, keepdims=True)
    spread = field.std(axes, keepdims=True)
    return np.asarray(field / np.where(spread > 0, spread, 1))


def _varied(texture: Texture, rng: np.random.Generator) -> Texture:
    step = rng.standard_normal(7)
    return Texture(
        smoothness=float(np.clip(texture.smoothness + 0.2 * step[0], 0, 1)),
        cut=float(np.clip(texture.cut + 0.5 * step[1], -4, 2)),
        likeness=float(np.clip(texture.likeness + 0.25 * step[2], 0, 1)),
        brightness=float(abs(texture.brightness + 0.2 * step[3])),
        contrast=float(abs(texture.contrast + 0.2 * step[4])),
        gain=float(texture.gain * np.exp(0.3 * step[5])),
        offset=float(texture.offset + 0.2 * step[6]),
    )
