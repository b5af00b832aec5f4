"""Inception-v3: convolutions factored into smaller and into asymmetric ones.

C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens, Z. Wojna, "Rethinking the Inception architecture for computer vision",
2015, table 1 and figures 5 to 7, with the sizes of the authors' published network (23.8 million parameters), eps 0.001,
and without the auxiliary classifier, which exists for training only.
"""

from collections.abc import Callable

import torch
from torch import nn

from models.build import trained_looking, varied_images

Wide = Callable[[int], int]


def unit(
    inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, padding: int | tuple[int, int] = 0
) -> nn.Sequential:
    """A convolution without bias, a normalization and a ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs, eps=0.001), nn.ReLU())


def column(inputs: int, outputs: int, length: int) -> nn.Sequential:
    """A convolution `length` × 1 that keeps the size."""
    return unit(inputs, outputs, (length, 1), padding=(length // 2, 0))


def row(inputs: int, outputs: int, length: int) -> nn.Sequential:
    """A convolution 1 × `length` that keeps the size."""
    return unit(inputs, outputs, (1, length), padding=(0, length // 2))


class Branches(nn.Module):
    """Runs all of `branches` on one input and concatenates their channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def pooled(inputs: int, outputs: int) -> nn.Sequential:
    """The branch of an average of 3×3 and a 1×1 convolution."""
    return nn.Sequential(nn.AvgPool2d(3, 1, padding=1), unit(inputs, outputs, 1))


def module_a(inputs: int, pool: int, wide: Wide) -> Branches:
    """Figure 5, with one 5×5 as published: 1×1, 5×5, double 3×3, pooling; 224 channels and those of the pooling."""
    w48, w64, w96 = wide(48), wide(64), wide(96)
    return Branches(
        unit(inputs, w64, 1),
        nn.Sequential(unit(inputs, w48, 1), unit(w48, w64, 5, padding=2)),
        nn.Sequential(unit(inputs, w64, 1), unit(w64, w96, 3, padding=1), unit(w96, w96, 3, padding=1)),
        pooled(inputs, wide(pool)),
    )


def reduction_b(inputs: int, wide: Wide) -> Branches:
    """Halves the size: 3×3, double 3×3, and a maximum that passes all channels through."""
    w64, w96 = wide(64), wide(96)
    double = nn.Sequential(unit(inputs, w64, 1), unit(w64, w96, 3, padding=1), unit(w96, w96, 3, 2))
    return Branches(unit(inputs, wide(384), 3, 2), double, nn.MaxPool2d(3, 2))


def module_c(inputs: int, middle: int, wide: Wide) -> Branches:
    """Figure 6: 7×7 as 1×7 and 7×1, once and twice; 768 channels."""
    m, w192 = wide(middle), wide(192)
    return Branches(
        unit(inputs, w192, 1),
        nn.Sequential(unit(inputs, m, 1), row(m, m, 7), column(m, w192, 7)),
        nn.Sequential(unit(inputs, m, 1), column(m, m, 7), row(m, m, 7), column(m, m, 7), row(m, w192, 7)),
        pooled(inputs, w192),
    )


def reduction_d(inputs: int, wide: Wide) -> Branches:
    """Halves the size: 3×3, 7×7 and 3×3, and a maximum."""
    w192 = wide(192)
    single = nn.Sequential(unit(inputs, w192, 1), unit(w192, wide(320), 3, 2))
    double = nn.Sequential(unit(inputs, w192, 1), row(w192, w192, 7), column(w192, w192, 7), unit(w192, w192, 3, 2))
    return Branches(single, double, nn.MaxPool2d(3, 2))


def module_e(inputs: int, wide: Wide) -> Branches:
    """Figure 7: 3×3 as 1×3 beside 3×1; 2,048 channels."""
    w384, w448 = wide(384), wide(448)
    fan = [Branches(row(w384, w384, 3), column(w384, w384, 3)) for _ in range(2)]
    return Branches(
        unit(inputs, wide(320), 1),
        nn.Sequential(unit(inputs, w384, 1), fan[0]),
        nn.Sequential(unit(inputs, w448, 1), unit(w448, w384, 3, padding=1), fan[1]),
        pooled(inputs, wide(192)),
    )


class InceptionV3(nn.Module):
    """Images `[N, 3, H, W]` to logits `[N, num_classes]`, with 94 normalizations; 23.8 million parameters at width 1.

    Args:
        width: factor of all channel counts.
        num_classes: length of the output.
    """

    def __init__(self, width: float = 1.0, num_classes: int = 1000) -> None:
        super().__init__()

        def wide(channels: int) -> int:
            return round(channels * width)

        a1, a2, b, d, e = wide(224) + wide(32), wide(224) + wide(64), wide(768), wide(1280), wide(2048)
        self.features = nn.Sequential(
            unit(3, wide(32), 3, 2),
            unit(wide(32), wide(32), 3),
            unit(wide(32), wide(64), 3, padding=1),
            nn.MaxPool2d(3, 2),
            unit(wide(64), wide(80), 1),
            unit(wide(80), wide(192), 3),
            nn.MaxPool2d(3, 2),
            module_a(wide(192), 32, wide),
            module_a(a1, 64, wide),
            module_a(a2, 64, wide),
            reduction_b(a2, wide),
            *(module_c(b, middle, wide) for middle in (128, 160, 160, 192)),
            reduction_d(b, wide),
            module_e(d, wide),
            module_e(e, wide),
        )
        self.classifier = nn.Linear(e, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def inception_v3(seed: int = 0, width: float = 1.0, num_classes: int = 1000) -> InceptionV3:
    """Inception-v3 in eval mode with weights and statistics from `seed`; see `InceptionV3` for the other arguments."""
    return trained_looking(seed, lambda: InceptionV3(width, num_classes), lambda: varied_images(8, 128))
