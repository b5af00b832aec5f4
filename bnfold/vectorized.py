"""Arithmetic for many normalizations at once: their parameters and weights are laid end to end, since for small ones numpy takes
longer to begin than to compute. All of it is elementwise, so that the values are the same, to the last bit, as one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.affine import Affine, Float64
from bnfold.weights import FLOAT_TYPES, largest_finite, round_to, smallest_normal


def read_maps(
    elem_type: int, parameters: Sequence[Sequence[bytes]], epsilons: Sequence[float]
) -> tuple[Affine, NDArray[np.int64], NDArray[np.bool_]]:
    """The maps of many BatchNormalizations.

    Args:
        elem_type: `TensorProto.DataType` of all parameters.
        parameters: for each one the stored bytes of scale, B, input_mean and input_var: vectors of one extent, which is not 0.
        epsilons: for each one, its `epsilon`.

    Returns:
        Their maps, laid end to end; where each begins, and after the last one the end; and which of them are finite, with
        statistics that look trained.
    """
    gamma, beta, mean, var = (joined(elem_type, (each[place] for each in parameters)) for place in range(4))
    extents = [len(each[0]) // FLOAT_TYPES[elem_type].itemsize for each in parameters]
    bounds = np.concatenate([[0], np.cumsum(extents)])
    whole = Affine.batch_normalization(gamma, beta, mean, var, np.repeat(epsilons, extents))
    finite = np.isfinite(whole.scale) & np.isfinite(whole.center) & np.isfinite(whole.shift)
    starts = bounds[:-1]
    trained = np.logical_or.reduceat((mean != 0) | (var != 1), starts) & np.logical_or.reduceat(var != 0, starts)
    return whole, bounds, np.logical_and.reduceat(finite, starts) & trained


def scaled(elem_type: int, weights: NDArray[Any], factors: Float64) -> NDArray[Any] | None:
    """`weights·factors`, rounded once; None where a value overflows, or becomes subnormal."""
    smallest = smallest_normal(elem_type)
    with np.errstate(all="ignore"):
        exact = weights * factors
        rounded, size = round_to(exact, elem_type), np.abs(exact)
        if size.min() >= smallest and size.max() <= largest_finite(elem_type):
            return rounded
        wide, before = np.abs(rounded.astype(np.float64)), np.abs(weights.astype(np.float64))
        lost = (np.isinf(wide) & np.isfinite(before)) | ((wide < smallest) & (exact != 0) & (before >= smallest))
    return None if lost.any() else rounded


def mapped(elem_type: int, biases: Float64, affine: Affine) -> tuple[NDArray[Any], NDArray[np.bool_]] | None:
    """`affine(biases)`, rounded once, and which of them are not zero; None where one of them does not fit the type."""
    exact = affine(biases)
    fits = not exact.size or bool(np.abs(exact).max() <= largest_finite(elem_type))
    return (round_to(exact, elem_type), exact != 0) if fits else None


def flushed(elem_type: int, raw: bytes) -> bytes:
    """Stored values with zero in the place of subnormal ones."""
    values = np.frombuffer(raw, FLOAT_TYPES[elem_type]).copy()
    values[np.abs(values.astype(np.float64)) < smallest_normal(elem_type)] = 0
    return values.tobytes()


def joined(elem_type: int, parts: Iterable[bytes]) -> Float64:
    """Stored values, laid end to end, in float64."""
    return np.frombuffer(b"".join(parts), FLOAT_TYPES[elem_type]).astype(np.float64)
