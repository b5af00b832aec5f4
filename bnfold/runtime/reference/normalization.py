"""Normalizations: batch (every opset, training included), instance, layer, group, RMS, local response, Lp, mean-variance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnfold.runtime.reference.call import Call, Operator
from bnfold.runtime.reference.value import Array, Tensor


def batch_normalization(call: Call, X: Tensor, scale: Tensor, B: Tensor, mean: Tensor, var: Tensor) -> tuple[Array | Tensor, ...]:
    """`(X − mean)/√(var + eps)·scale + B`, per channel; per activation where `spatial` is 0.

    It trains when `training_mode` says so (opset 14), when more than one output is named (7 to 13), or unless `is_test` is set
    (below 7); then the statistics are those of the batch, the variance that of the population, and the running ones follow as
    `running·momentum + batch·(1 − momentum)`. Opset 7 to 13 leaves open what its last two outputs hold, so nobody may read them.
    """
    x = X.array
    per_channel = bool(call.integer("spatial", 1))
    training = _trains(call)
    m, v = mean.array, var.array
    if training:
        axes = (0, *range(2, x.ndim)) if per_channel else (0,)
        m, v = x.mean(axes), x.var(axes)
    y = _normalized(x, m, v, scale.array, B.array, call.number("epsilon", 1e-5), per_channel)
    if not training or call.outputs < 2:
        return (y,)
    momentum = call.number("momentum", 0.9)
    running = [old.like(old.array * momentum + new * (1 - momentum)) for old, new in ((mean, m), (var, v))]
    return (y, *running, mean.like(m), var.like(v))


def _trains(call: Call) -> bool:
    if call.opset < 7:
        return not call.integer("is_test")
    return call.outputs > 1 if call.opset < 14 else bool(call.integer("training_mode"))


def _normalized(x: Array, mean: Array, var: Array, scale: Array, shift: Array, eps: float, per_channel: bool) -> Array:
    shape = (-1, *[1] * (x.ndim - 2)) if per_channel and x.ndim > 1 else scale.shape
    y = x - mean.reshape(shape)
    y *= (scale / np.sqrt(var + eps)).reshape(shape)
    y += shift.reshape(shape)
    return np.asarray(y)


def instance_normalization(call: Call, X: Tensor, scale: Tensor, B: Tensor) -> Array:
    """`(x − mean)/√(var + eps)·scale + B`, with the statistics of every sample's channel."""
    shape = (-1, *[1] * (X.array.ndim - 2))
    y = _standardized(X.array, range(2, X.array.ndim), call.number("epsilon", 1e-5))
    return np.asarray(y * scale.array.reshape(shape) + B.array.reshape(shape))


def layer_normalization(call: Call, X: Tensor, Scale: Tensor, B: Tensor | None = None) -> tuple[Array | Tensor, ...]:
    """Standardized over the axes from `axis` on; also gives the mean and 1/√(var + eps)."""
    x = X.array
    axes = tuple(range(call.integer("axis", -1) % x.ndim, x.ndim))
    mean = x.mean(axes, keepdims=True)
    inverse = 1 / np.sqrt(x.var(axes, keepdims=True) + call.number("epsilon", 1e-5))
    y = (x - mean) * inverse * Scale.array
    return (y if B is None else y + B.array, X.like(mean), X.like(inverse))


def group_normalization(call: Call, X: Tensor, scale: Tensor, bias: Tensor) -> Array:
    """Standardized over each group of channels; scale and bias per group in opset 18, per channel from 21 on."""
    x, groups = X.array, call.integer("num_groups")
    split = x.reshape(len(x), groups, -1)
    y = _standardized(split, (2,), call.number("epsilon", 1e-5))
    if call.opset < 21:
        return np.asarray(y * scale.array[:, None] + bias.array[:, None]).reshape(x.shape)
    shape = (-1, *[1] * (x.ndim - 2))
    return np.asarray(y.reshape(x.shape) * scale.array.reshape(shape) + bias.array.reshape(shape))


def rms_normalization(call: Call, X: Tensor, scale: Tensor) -> Array:
    """`x/√(mean(x²) + eps)·scale` over the axes from `axis` on."""
    x = X.array
    axes = tuple(range(call.integer("axis", -1) % x.ndim, x.ndim))
    return np.asarray(x / np.sqrt(np.mean(x * x, axes, keepdims=True) + call.number("epsilon", 1e-5)) * scale.array)


def lrn(call: Call, X: Tensor) -> Array:
    """`x/(bias + alpha/size·Σ x²)^beta`, the sum over `size` neighbouring channels."""
    x, size = X.array, call.integer("size")
    before, channels = (size - 1) // 2, x.shape[1]
    squares = np.zeros_like(x)
    for offset in range(-before, size - before):
        start, stop = max(0, -offset), min(channels, channels - offset)
        squares[:, start:stop] += x[:, start + offset : stop + offset] ** 2
    return np.asarray(x / (call.number("bias", 1.0) + call.number("alpha", 1e-4) / size * squares) ** call.number("beta", 0.75))


def lp_normalization(call: Call, X: Tensor) -> Array:
    """`x/‖x‖ₚ` along `axis`, and 0 where the norm is 0."""
    x, axis = X.array, call.integer("axis", -1)
    norm = np.abs(x).sum(axis, keepdims=True) if call.integer("p", 2) == 1 else np.sqrt((x * x).sum(axis, keepdims=True))
    return np.asarray(np.where(norm == 0, 0.0, x / norm))


def mean_variance_normalization(call: Call, X: Tensor) -> Array:
    """`(x − mean)/(√var + 1e-9)` over `axes`."""
    x, axes = X.array, tuple(call.integers("axes", [0, 2, 3]))
    return np.asarray((x - x.mean(axes, keepdims=True)) / (x.std(axes, keepdims=True) + float(np.float32(1e-9))))


def _standardized(x: Array, axes: Sequence[int], eps: float) -> Array:
    over = tuple(axes)
    return np.asarray((x - x.mean(over, keepdims=True)) / np.sqrt(x.var(over, keepdims=True) + eps))


OPERATORS: dict[str, Operator] = {
    "BatchNormalization": batch_normalization,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LRN": lrn,
    "LayerNormalization": layer_normalization,
    "LpNormalization": lp_normalization,
    "MeanVarianceNormalization": mean_variance_normalization,
    "RMSNormalization": rms_normalization,
}
