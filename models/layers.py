"""The layer that most networks here are made of: convolution, normalization, activation."""

from collections.abc import Callable

from torch import nn


def conv_norm(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    *,
    groups: int = 1,
    activation: Callable[[], nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """A convolution without bias that keeps the size but for its stride, a normalization, and an activation, if any."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([activation()] if activation else []))


def scaled(channels: float, width: float, divisor: int = 8) -> int:
    """`channels` times `width`, as the nearest multiple of `divisor` that is not zero."""
    return max(divisor, int(channels * width + divisor / 2) // divisor * divisor)
