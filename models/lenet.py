"""LeNet with batch normalization, in two variants with the same structure and the same figures.

The network is LeNet-5 (Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
recognition", Proc. IEEE 86(11), 1998) with a batch normalization (S. Ioffe, C. Szegedy, 2015) between each of its
first four linear layers and the sigmoid that follows, as in the chapter on batch normalization of the textbook "Dive
into Deep Learning" (A. Zhang, Z. C. Lipton, M. Li, A. J. Smola, https://d2l.ai). `lenet` uses torch's own layers;
`lenet_by_hand` writes the normalization out in arithmetic, as people do who build a network from scratch, so that its
export holds Sub, Mul, Div and Add nodes instead of BatchNormalization.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn


class BatchNormByHand(nn.Module):
    """Batch normalization in plain arithmetic, over axis 1.

    Args:
        num_features: length of axis 1.
        rank: rank of the input: 4 for `[N, C, H, W]`, 2 for `[N, C]`. The parameters are stored ready to broadcast,
            with shape `[1, C, 1, 1]` or `[1, C]`.
        eps: added to the variance.
        momentum: weight of the newest batch in the moving averages. The moving variance averages the biased variance;
            torch's own layers average the unbiased one.
    """

    moving_mean: torch.Tensor
    moving_var: torch.Tensor

    def __init__(self, num_features: int, rank: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        shape = (1, num_features) + (1,) * (rank - 2)
        self.eps = eps
        self.momentum = momentum
        self.gamma = nn.Parameter(torch.ones(shape))
        self.beta = nn.Parameter(torch.zeros(shape))
        self.register_buffer("moving_mean", torch.zeros(shape))
        self.register_buffer("moving_var", torch.ones(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return self.gamma * (x - self.moving_mean) / torch.sqrt(self.moving_var + self.eps) + self.beta
        axes = [axis for axis in range(x.dim()) if axis != 1]
        mean = x.mean(axes, keepdim=True)
        var = ((x - mean) ** 2).mean(axes, keepdim=True)
        with torch.no_grad():
            self.moving_mean.lerp_(mean, self.momentum)
            self.moving_var.lerp_(var, self.momentum)
        return self.gamma * (x - mean) / torch.sqrt(var + self.eps) + self.beta


class LeNet(nn.Module):
    """Images `[N, 1, 28, 28]` float32 to logits `[N, 10]` float32.

    Args:
        norm2d: makes the normalization of `[N, C, H, W]` from the number of channels C.
        norm1d: makes the normalization of `[N, C]` from C.
    """

    def __init__(self, norm2d: Callable[[int], nn.Module], norm1d: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, kernel_size=5)
        self.bn1 = norm2d(6)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.bn2 = norm2d(16)
        self.fc1 = nn.Linear(16 * 4 * 4, 120)
        self.bn3 = norm1d(120)
        self.fc2 = nn.Linear(120, 84)
        self.bn4 = norm1d(84)
        self.fc3 = nn.Linear(84, 10)
        self.pool = nn.MaxPool2d(2)
        self.act = nn.Sigmoid()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.act(self.bn1(self.conv1(image))))
        x = self.pool(self.act(self.bn2(self.conv2(x))))
        x = x.reshape(-1, 256)
        x = self.act(self.bn3(self.fc1(x)))
        x = self.act(self.bn4(self.fc2(x)))
        return self.fc3(x)


def lenet() -> LeNet:
    """LeNet with torch's BatchNorm2d and BatchNorm1d; untrained."""
    return LeNet(nn.BatchNorm2d, nn.BatchNorm1d)


def lenet_by_hand() -> LeNet:
    """LeNet with the normalization written by hand; untrained."""
    return LeNet(partial(BatchNormByHand, rank=4), partial(BatchNormByHand, rank=2))
