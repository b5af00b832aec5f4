"""EfficientNet-B0: MobileNetV2's blocks with SiLU and squeeze-excitation.

M. Tan, Q. V. Le, "EfficientNet: rethinking model scaling for convolutional neural networks", 2019, table 1; the gate is
that of J. Hu, L. Shen, G. Sun, "Squeeze-and-excitation networks", 2018.
"""

import torch
from torch import nn

from models.build import trained_looking, varied_images
from models.layers import conv_norm, scaled

STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
"""Rows of the paper's table: expansion, channels, repetitions, stride of the first one, kernel."""


class Gate(nn.Module):
    """Squeeze-excitation: each channel times a number between 0 and 1 that is computed from the means of all channels."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.expand(nn.functional.silu(self.reduce(mean))))


class Block(nn.Module):
    """Expand, filter each channel by itself, gate, project; with a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = [conv_norm(inputs, hidden, 1, activation=nn.SiLU)] if expansion != 1 else []
        layers.append(conv_norm(hidden, hidden, kernel, stride, groups=hidden, activation=nn.SiLU))
        layers.append(Gate(hidden, max(1, inputs // 4)))
        layers.append(conv_norm(hidden, outputs, 1, activation=None))
        self.layers = nn.Sequential(*layers)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.shortcut else self.layers(x)


class EfficientNet(nn.Module):
    """Images `[N, 3, H, W]` to logits `[N, num_classes]`, with 49 normalizations; 5.3 million parameters at width 1.

    Args:
        width: factor of all channel counts; channels stay multiples of 8.
        repeats: at most so many blocks in a row of the table.
        num_classes: length of the output.
    """

    def __init__(self, width: float = 1.0, repeats: int = 4, num_classes: int = 1000) -> None:
        super().__init__()
        channels = scaled(32, width)
        layers: list[nn.Module] = [conv_norm(3, channels, 3, 2, activation=nn.SiLU)]
        for expansion, base, count, first_stride, kernel in STAGES:
            for place in range(min(count, repeats)):
                outputs = scaled(base, width)
                layers.append(Block(channels, outputs, kernel, 1 if place else first_stride, expansion))
                channels = outputs
        head = scaled(1280, width)
        self.features = nn.Sequential(*layers, conv_norm(channels, head, 1, activation=nn.SiLU))
        self.classifier = nn.Linear(head, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def efficientnet_b0(seed: int = 0, width: float = 1.0, repeats: int = 4, num_classes: int = 1000) -> EfficientNet:
    """EfficientNet-B0 in eval mode with weights and statistics from `seed`; see `EfficientNet` for the other arguments."""
    return trained_looking(seed, lambda: EfficientNet(width, repeats, num_classes), lambda: varied_images(8, 128))
