"""Affine maps `y = scale·(x − center) + shift` in float64. Knows numpy and no graph.

The center is kept apart from the shift because folding it in early cancels: for a bias `b` close to a large mean,
`(b − mean)·scale + beta` keeps digits that `b·scale − mean·scale + beta` has already lost. Composition keeps the
three-parameter form exactly: the center of `outer ∘ inner` is the inner center.

The arrays span the *map's own* axes: shape `(C,)` for a map of one channel axis, `()` for a scalar map, and
`(C, H, W)` for per-activation statistics. Which tensor axes they lie on is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]


@cache
def in_short(epsilon: float) -> float:
    """A float32 as people write it: 0.001, not 0.0010000000474974513."""
    return float(str(np.float32(epsilon)))


@dataclass(frozen=True, eq=False, slots=True)
class Affine:
    """`y = scale·(x − center) + shift`, elementwise over the map's axes.

    Attributes:
        scale: float64, any shape.
        center: float64, the same shape.
        shift: float64, the same shape.
    """

    scale: Float64
    center: Float64
    shift: Float64

    @classmethod
    def of(cls, scale: ArrayLike = 1.0, center: ArrayLike = 0.0, shift: ArrayLike = 0.0) -> Affine:
        """Makes a map from anything that converts to float64; the three arguments broadcast against each other."""
        wide = [np.array(value, np.float64) for value in (scale, center, shift)]
        if not wide[0].shape == wide[1].shape == wide[2].shape:
            wide = [np.array(array) for array in np.broadcast_arrays(*wide)]
        return cls(*wide)

    @classmethod
    def batch_normalization(
        cls, gamma: ArrayLike, beta: ArrayLike, mean: ArrayLike, var: ArrayLike, epsilon: float | Float64
    ) -> Affine:
        """The map of an inference-mode BatchNormalization, `Y = (X − input_mean) / sqrt(input_var + epsilon)·scale + B`.

        The formula is the ONNX operator's, and Algorithm 2 of Ioffe and Szegedy, https://arxiv.org/abs/1502.03167.

        Args:
            gamma: the operator's `scale`, shape (C,).
            beta: the operator's `B`, shape (C,).
            mean: `input_mean`, shape (C,).
            var: `input_var`, shape (C,). A channel with `var + epsilon ≤ 0` comes out as NaN or inf.
            epsilon: the operator's `epsilon`; an array of shape (C,) where channels of several operators are mapped at once.
        """
        with np.errstate(all="ignore"):
            scale = np.asarray(gamma, np.float64) / np.sqrt(np.asarray(var, np.float64) + epsilon)
        return cls.of(scale, mean, beta)

    @property
    def shape(self) -> tuple[int, ...]:
        """The extents of the map's axes."""
        return self.scale.shape

    @property
    def arrays(self) -> tuple[Float64, Float64, Float64]:
        """`scale`, `center` and `shift`, in the order in which `Affine.of` takes them."""
        return self.scale, self.center, self.shift

    @property
    def offset(self) -> Float64:
        """What the map adds to `scale·x`: `shift − scale·center`, the image of zero."""
        return np.asarray(self.shift - self.scale * self.center)

    @property
    def is_finite(self) -> bool:
        """Whether no parameter of any channel is NaN or inf."""
        return bool(np.isfinite(self.scale).all() and np.isfinite(self.center).all() and np.isfinite(self.shift).all())

    @property
    def has_offset(self) -> bool:
        """Whether zero is moved in any channel."""
        return bool(np.any(self.offset != 0))

    def after(self, inner: Affine) -> Affine:
        """The composition `x ↦ self(inner(x))`; the shapes broadcast."""
        return Affine.of(self.scale * inner.scale, inner.center, self(inner.shift))

    def __call__(self, values: ArrayLike) -> Float64:
        """Applies the map to `values`, which must broadcast against the map's shape."""
        return np.asarray(self.scale * (np.asarray(values, np.float64) - self.center) + self.shift)
