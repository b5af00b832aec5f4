"""The generator of DCGAN: noise to images, by transposed convolutions.

A. Radford, L. Metz, S. Chintala, "Unsupervised representation learning with deep convolutional generative adversarial
networks", 2016, figure 1; with kernels of 4, which divide by the stride, in place of 5.
"""

import torch
from torch import nn

from models.build import trained_looking


class Generator(nn.Module):
    """Noise `[N, 100, 1, 1]` to images `[N, 3, 64, 64]` in −1 … 1, with 4 normalizations; 12.7 million parameters at width 128.

    Args:
        width: channels before the last convolution; 2, 4 and 8 times as many further up. 128 in the paper.
    """

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 100
        for factor in (8, 4, 2, 1):
            outputs = factor * width
            stride, padding = (2, 1) if layers else (1, 0)
            layers.append(nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False))
            layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.ReLU())
            inputs = outputs
        layers.append(nn.ConvTranspose2d(inputs, 3, 4, 2, 1, bias=False))
        layers.append(nn.Tanh())
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def dcgan(seed: int = 0, width: int = 128) -> Generator:
    """The generator in eval mode with weights and statistics from `seed`; see `Generator` for the other argument."""
    return trained_looking(seed, lambda: Generator(width), lambda: torch.randn(16, 100, 1, 1))
