"""MobileNetV2: depthwise convolutions between linear bottlenecks.

M. Sandler, A. Howard, M. Zhu, A. Zhmoginov, L.-C. Chen, "MobileNetV2: inverted residuals and linear bottlenecks", 2018,
table 2.
"""

import torch
from torch import nn

from models.build import trained_looking, varied_images
from models.layers import conv_norm, scaled

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Rows of the paper's table: expansion, channels, repetitions, stride of the first one."""


class InvertedResidual(nn.Module):
    """Expand by a 1×1 convolution, filter each channel by itself, project to few channels without an activation."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers = [conv_norm(inputs, hidden, 1, activation=nn.ReLU6)] if expansion != 1 else []
        layers.append(conv_norm(hidden, hidden, 3, stride, groups=hidden, activation=nn.ReLU6))
        layers.append(conv_norm(hidden, outputs, 1, activation=None))
        self.layers = nn.Sequential(*layers)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.shortcut else self.layers(x)


class MobileNetV2(nn.Module):
    """Images `[N, 3, H, W]` to logits `[N, num_classes]`, with 52 normalizations; 3.5 million parameters at width 1.

    Args:
        width: factor of all channel counts; channels stay multiples of 8.
        repeats: at most so many blocks in a row of the table.
        num_classes: length of the output.
    """

    def __init__(self, width: float = 1.0, repeats: int = 4, num_classes: int = 1000) -> None:
        super().__init__()
        channels = scaled(32, width)
        layers: list[nn.Module] = [conv_norm(3, channels, 3, 2, activation=nn.ReLU6)]
        for expansion, base, count, first_stride in STAGES:
            for place in range(min(count, repeats)):
                outputs = scaled(base, width)
                layers.append(InvertedResidual(channels, outputs, 1 if place else first_stride, expansion))
                channels = outputs
        head = scaled(1280, width)
        self.features = nn.Sequential(*layers, conv_norm(channels, head, 1, activation=nn.ReLU6))
        self.classifier = nn.Linear(head, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def mobilenet_v2(seed: int = 0, width: float = 1.0, repeats: int = 4, num_classes: int = 1000) -> MobileNetV2:
    """MobileNetV2 in eval mode with weights and statistics from `seed`; see `MobileNetV2` for the other arguments."""
    return trained_looking(seed, lambda: MobileNetV2(width, repeats, num_classes), lambda: varied_images(8, 128))
