"""A small classifier of patches of tissue.

Patches of 32×32 pixels and a small convolutional network are the usual first step in digital pathology: A. Janowczyk,
A. Madabhushi, "Deep learning for digital pathology image analysis: a comprehensive tutorial with selected use cases",
2016. This one has a normalization behind each convolution, which their networks of that time had not.
"""

import torch
from torch import nn

from models.layers import conv_norm


class PatchNet(nn.Module):
    """Patches `[N, 3, 32, 32]` in 0 … 1 to logits `[N, 2]`, with 4 normalizations.

    Args:
        width: channels of the first convolution.
    """

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_norm(3, width, 3),
            nn.MaxPool2d(2),
            conv_norm(width, 2 * width, 3),
            nn.MaxPool2d(2),
            conv_norm(2 * width, 2 * width, 3),
            conv_norm(2 * width, 2 * width, 3),
        )
        self.classifier = nn.Linear(2 * width, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(image).mean((2, 3)))
