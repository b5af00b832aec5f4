"""A network that looks at the road and steers.

M. Bojarski et al., "End to end learning for self-driving cars", 2016, figure 4: a fixed normalization of the pixels,
five convolutions (three 5×5 with stride 2, two 3×3), four fully connected layers, and the inverse turning radius as the
output. The normalizations behind the convolutions are not in the paper; the network shipped here has half its width.
"""

from itertools import pairwise

import torch
from torch import nn

CONVOLUTIONS = ((24, 5, 2), (36, 5, 2), (48, 5, 2), (64, 3, 1), (64, 3, 1))  # channels, kernel, stride


class PilotNet(nn.Module):
    """Images `[N, 3, 66, 200]`, 0 … 255, to inverse turning radii `[N]`, with 5 normalizations behind convolutions.

    250,000 parameters in the paper, at width 1.

    Args:
        width: factor of all channel counts and layer sizes.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for channels, kernel, stride in CONVOLUTIONS:
            outputs = round(channels * width)
            layers += [nn.Conv2d(inputs, outputs, kernel, stride, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
        self.features = nn.Sequential(*layers)
        sizes = (inputs * 1 * 18, *(round(size * width) for size in (100, 50, 10)))
        hidden = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
        self.head = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(sizes[-1], 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(image / 127.5 - 1)).squeeze(1)
