"""RepVGG-A0 as it is trained: a 3×3, a 1×1 and an identity branch, each with its own normalization.

X. Ding, X. Zhang, N. Ma, J. Han, G. Ding, J. Sun, "RepVGG: making VGG-style ConvNets great again", 2021, figure 2 and
tables 2 and 3. (For inference the authors merge the three branches of a block into one 3×3 convolution.)
"""

import torch
from torch import nn

from models.build import trained_looking, varied_images
from models.layers import conv_norm


class Block(nn.Module):
    """The sum of three branches, activated; the identity is there where input and output have the same shape."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.dense = conv_norm(inputs, outputs, 3, stride, activation=None)
        self.pointwise = conv_norm(inputs, outputs, 1, stride, activation=None)
        self.identity = nn.BatchNorm2d(inputs) if inputs == outputs and stride == 1 else None
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = self.dense(x) + self.pointwise(x)
        return self.relu(total if self.identity is None else total + self.identity(x))


class RepVGG(nn.Module):
    """Images `[N, 3, H, W]` to logits `[N, num_classes]`, with 61 normalizations; 9.1 million parameters at width 64.

    Args:
        width: channels of the first stage before the factors of variant A0.
        layers: blocks in each stage.
        num_classes: length of the output.
    """

    def __init__(self, width: int = 64, layers: tuple[int, ...] = (2, 4, 14, 1), num_classes: int = 1000) -> None:
        super().__init__()
        widths = [int(width * factor) for factor in (0.75, 1.5, 3, 20)]  # a = 0.75, and b = 2.5 in the last stage
        channels = widths[0]
        blocks = [Block(3, channels, 2)]
        for outputs, count in zip(widths, layers, strict=True):
            for place in range(count):
                blocks.append(Block(channels, outputs, 1 if place else 2))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.blocks(x).mean((2, 3)))


def repvgg_a0(seed: int = 0, width: int = 64, layers: tuple[int, ...] = (2, 4, 14, 1), num_classes: int = 1000) -> RepVGG:
    """RepVGG-A0 in eval mode with weights and statistics from `seed`; see `RepVGG` for the other arguments."""
    return trained_looking(seed, lambda: RepVGG(width, layers, num_classes), lambda: varied_images(8, 128))
