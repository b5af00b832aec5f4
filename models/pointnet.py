"""PointNet for classification: one perceptron for every point, a maximum over all points, and two learned alignments.

C. R. Qi, H. Su, K. Mo, L. J. Guibas, "PointNet: deep learning on point sets for 3D classification and segmentation",
2017, figure 2 and supplementary C.
"""

from itertools import pairwise

import torch
from torch import nn

from models.build import trained_looking


def per_point(*widths: int) -> nn.Sequential:
    """The same perceptron on every point of `[N, C, points]`: convolutions of kernel 1, normalization, activation."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv1d(inputs, outputs, 1), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def per_cloud(*widths: int, outputs: int) -> nn.Sequential:
    """A perceptron on `[N, C]` with normalization and activation in all layers but the last."""
    layers: list[nn.Module] = []
    for inputs, hidden in pairwise(widths):
        layers += [nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))


class Alignment(nn.Module):
    """Multiplies the points `[N, dim, points]` by a matrix `[N, dim, dim]` that is computed from all of them."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.dim = dim
        self.points = per_point(dim, width, 2 * width, 16 * width)
        self.cloud = per_cloud(16 * width, 8 * width, 4 * width, outputs=dim * dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        matrix = self.cloud(self.points(x).amax(2)).unflatten(1, (self.dim, self.dim)) + torch.eye(self.dim).to(x)
        return matrix @ x


class PointNet(nn.Module):
    """Point clouds `[N, 3, points]` to logits `[N, num_classes]`, with 17 normalizations; 3.5 million parameters at width 64.

    Args:
        width: channels of the first perceptron. 64 in the paper.
        num_classes: length of the output.
    """

    def __init__(self, width: int = 64, num_classes: int = 40) -> None:
        super().__init__()
        self.align_points = Alignment(3, width)
        self.lower = per_point(3, width, width)
        self.align_features = Alignment(width, width)
        self.upper = per_point(width, width, 2 * width, 16 * width)
        self.classifier = per_cloud(16 * width, 8 * width, 4 * width, outputs=num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.align_features(self.lower(self.align_points(x)))
        return self.classifier(self.upper(x).amax(2))


def pointnet(seed: int = 0, width: int = 64, num_classes: int = 40) -> PointNet:
    """PointNet in eval mode with weights and statistics from `seed`; see `PointNet` for the other arguments."""

    def clouds() -> torch.Tensor:  # points in a box of its own proportions, in the unit sphere, as the paper's data
        points = (torch.rand(16, 3, 256) - 0.5) * torch.rand(16, 3, 1)
        return points / points.norm(dim=1).amax(1)[:, None, None]

    return trained_looking(seed, lambda: PointNet(width, num_classes), clouds)
