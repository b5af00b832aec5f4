"""DenseNet-121 and -201: every layer reads a normalized Concat of all layers before it.

G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger, "Densely connected convolutional networks", 2017, table 1
(DenseNet-BC: bottlenecks and compression by one half).
"""

import torch
from torch import nn

from models.build import trained_looking, varied_images


class DenseLayer(nn.Module):
    """`[N, inputs, H, W]` to `growth` new channels, by a 1×1 and a 3×3 convolution, each behind its activation."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(self.relu(self.norm1(x)))
        return self.conv2(self.relu(self.norm2(x)))


class DenseBlock(nn.Module):
    """`layers` dense layers; the output is the Concat of the input and of what each of them makes."""

    def __init__(self, inputs: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DenseLayer(inputs + place * growth, growth) for place in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [x]
        for layer in self.layers:
            parts.append(layer(torch.cat(parts, 1)))
        return torch.cat(parts, 1)


class DenseNet(nn.Module):
    """Images `[N, 3, H, W]` to logits `[N, num_classes]`: DenseNet-121, with 121 normalizations; 8.0 million parameters.

    Args:
        growth: channels that each layer adds; the stem makes twice as many. 32 in the paper.
        blocks: layers in each block.
        num_classes: length of the output.
    """

    def __init__(self, growth: int = 32, blocks: tuple[int, ...] = (6, 12, 24, 16), num_classes: int = 1000) -> None:
        super().__init__()
        channels = 2 * growth
        stem = nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False)
        layers: list[nn.Module] = [stem, nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)]
        for place, count in enumerate(blocks):
            layers.append(DenseBlock(channels, growth, count))
            channels += count * growth
            layers.append(nn.BatchNorm2d(channels))
            layers.append(nn.ReLU())
            if place < len(blocks) - 1:  # a transition
                layers.append(nn.Conv2d(channels, channels // 2, 1, bias=False))
                layers.append(nn.AvgPool2d(2))
                channels //= 2
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def densenet121(seed: int = 0, growth: int = 32, blocks: tuple[int, ...] = (6, 12, 24, 16), num_classes: int = 1000) -> DenseNet:
    """DenseNet-121 in eval mode with weights and statistics from `seed`; see `DenseNet` for the other arguments."""
    return trained_looking(seed, lambda: DenseNet(growth, blocks, num_classes), lambda: varied_images(8, 128))


class DenseNet201(DenseNet):
    """201 normalizations, 20.0 million parameters at growth 32; the arguments are those of `DenseNet`."""

    def __init__(self, growth: int = 32, blocks: tuple[int, ...] = (6, 12, 48, 32), num_classes: int = 1000) -> None:
        super().__init__(growth, blocks, num_classes)


def densenet201(
    seed: int = 0, growth: int = 32, blocks: tuple[int, ...] = (6, 12, 48, 32), num_classes: int = 1000
) -> DenseNet201:
    """DenseNet-201 in eval mode with weights and statistics from `seed`; see `DenseNet` for the other arguments."""
    return trained_looking(seed, lambda: DenseNet201(growth, blocks, num_classes), lambda: varied_images(8, 128))
