"""Fourier transforms and what goes with them."""

from __future__ import annotations

import numpy as np

from bnfold.runtime.reference.call import Call, Operator
from bnfold.runtime.reference.value import FLOAT, Array, Tensor, tensor_of


def dft(call: Call, X: Tensor, dft_length: Tensor | None = None, axis: Tensor | None = None) -> Array:
    """The discrete Fourier transform along `axis`, an attribute below opset 20; the last axis holds the two parts."""
    along = int(axis.scalar()) if axis is not None else call.integer("axis", 1 if call.opset < 20 else -2)
    along %= X.array.ndim
    length = None if dft_length is None else int(dft_length.scalar())
    x, one_sided = _complex(X.array), bool(call.integer("onesided"))
    if not call.integer("inverse"):
        return _pairs(np.fft.rfft(x.real, length, along) if one_sided else np.fft.fft(x, length, along))
    if one_sided:
        return np.asarray(np.fft.irfft(x, length, along))[..., None]
    return _pairs(np.fft.ifft(x, length, along))


def stft(call: Call, X: Tensor, frame_step: Tensor, window: Tensor | None = None, frame_length: Tensor | None = None) -> Array:
    """The transform of frames `frame_step` apart, each times the window."""
    x, step = _complex(X.array), int(frame_step.scalar())
    length = x.shape[1] if window is None else window.shape[0]
    if frame_length is not None:
        length = int(frame_length.scalar())
    starts = np.arange((x.shape[1] - length) // step + 1) * step
    frames = x[:, starts[:, None] + np.arange(length)]
    if window is not None:
        frames = frames * window.array
    return _pairs(np.fft.rfft(frames.real) if call.integer("onesided", 1) else np.fft.fft(frames))


def _complex(x: Array) -> Array:
    return np.asarray(x[..., 0] + 1j * x[..., 1] if x.shape[-1] == 2 else x[..., 0] + 0j)


def _pairs(x: Array) -> Array:
    return np.stack([x.real, x.imag], -1)


def mel_weight_matrix(call: Call, bins: Tensor, dft_length: Tensor, rate: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """Triangles over the spectrum with corners equally far apart on the mel scale, rounded down to a line of the spectrum."""
    count, length = int(bins.scalar()), int(dft_length.scalar())
    edges = 2595 * np.log10(1 + np.asarray([lowest.scalar(), highest.scalar()], np.float64) / 700)
    mels = edges[0] + np.arange(count + 2) * (edges[1] - edges[0]) / (count + 2)
    lines = ((length + 1) * 700 * (10 ** (mels / 2595) - 1) // float(rate.scalar())).astype(int)
    y = np.zeros((length // 2 + 1, count))
    for place, (low, middle, high) in enumerate(zip(lines, lines[1:], lines[2:], strict=False)):
        rising = np.arange(low, middle + 1)
        y[rising, place] = 1.0 if middle == low else (rising - low) / (middle - low)
        falling = np.arange(middle, high)
        y[falling, place] = (high - falling) / max(1, high - middle)
    return tensor_of(y, call.integer("output_datatype", FLOAT))


def _window(*factors: float) -> Operator:
    """`Σ (−1)^k·factor_k·cos(2πkn/N)`; N is the size, or one less where the window is not to be periodic."""

    def operator(call: Call, size: Tensor) -> Tensor:
        count = int(size.scalar())
        turns = 2 * np.pi * np.arange(count) / (count if call.integer("periodic", 1) else count - 1)
        parts = [(-1) ** k * factor * np.cos(k * turns) for k, factor in enumerate(factors)]
        return tensor_of(np.sum(parts, 0), call.integer("output_datatype", FLOAT))

    return operator


OPERATORS: dict[str, Operator] = {
    "BlackmanWindow": _window(0.42, 0.5, 0.08),
    "DFT": dft,
    "HammingWindow": _window(25 / 46, 21 / 46),
    "HannWindow": _window(0.5, 0.5),
    "MelWeightMatrix": mel_weight_matrix,
    "STFT": stft,
}
