"""LeNet with batch normalization, in two variants with the same structure and the same figures.

The network is LeNet-5 (Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
recognition", Proc. IEEE 86(11), 1998) with a batch normalization (S. Ioffe, C. Szegedy, 2015) between each of its
first four linear layers and the sigmoid that follows, as in the chapter on batch normalization of the textbook "Dive
into Deep Learning" (A. Zhang, Z. C. Lipton, M. Li, A. J. Smola, https://d2l.ai). `lenet` uses torch's own layers;
`lenet_by_hand` writes the normalization out in arithmetic, as people do who build a network from scratch, so that its
export holds Sub, Mul, Div and Add nodes instead of BatchNormalization. Both can normalize behind the activation instead
of before it (D. Mishkin, N. Sergievskiy, J. Matas, "Systematic evaluation of convolution neural network advances on the
ImageNet", 2017, compare the two), and both can whiten their input first.
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
        affine: with trained scale and shift.
    """

    moving_mean: torch.Tensor
    moving_var: torch.Tensor

    def __init__(self, num_features: int, rank: int, eps: float = 1e-5, momentum: float = 0.1, *, affine: bool = True) -> None:
        super().__init__()
        shape = (1, num_features) + (1,) * (rank - 2)
        self.eps = eps
        self.momentum = momentum
        self.gamma = nn.Parameter(torch.ones(shape)) if affine else None
        self.beta = nn.Parameter(torch.zeros(shape)) if affine else None
        self.register_buffer("moving_mean", torch.zeros(shape))
        self.register_buffer("moving_var", torch.ones(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return self.normalize(x, self.moving_mean, self.moving_var)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        mean = x.mean(axes, keepdim=True)
        var = ((x - mean) ** 2).mean(axes, keepdim=True)
        with torch.no_grad():
            self.moving_mean.lerp_(mean, self.momentum)
            self.moving_var.lerp_(var, self.momentum)
        return self.normalize(x, mean, var)

    def normalize(self, x: torch.Tensor, mean: torch.Tensor, var: torch.Tensor) -> torch.Tensor:
        if self.gamma is None or self.beta is None:
            return (x - mean) / torch.sqrt(var + self.eps)
        return self.gamma * (x - mean) / torch.sqrt(var + self.eps) + self.beta


class LeNet(nn.Module):
    """Images `[N, 1, 28, 28]` float32 to logits `[N, 10]` float32.

    Args:
        norm2d: makes the normalization of `[N, C, H, W]` from the number of channels C.
        norm1d: makes the normalization of `[N, C]` from C.
        after: normalize behind the activation (and before the pooling), not before it.
        whiten: reads the image first; for a normalization without scale and shift.
    """

    def __init__(
        self,
        norm2d: Callable[[int], nn.Module],
        norm1d: Callable[[int], nn.Module],
        *,
        after: bool = False,
        whiten: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.after = after
        self.whiten = whiten or nn.Identity()
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
        x = self.pool(self.activate(self.bn1, self.conv1(self.whiten(image))))
        x = self.pool(self.activate(self.bn2, self.conv2(x)))
        x = x.reshape(-1, 256)
        x = self.activate(self.bn3, self.fc1(x))
        x = self.activate(self.bn4, self.fc2(x))
        return self.fc3(x)

    def activate(self, norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return norm(self.act(x)) if self.after else self.act(norm(x))


def lenet(*, after: bool = False, whitened: bool = False) -> LeNet:
    """LeNet with torch's BatchNorm2d and BatchNorm1d; untrained.

    Args:
        after: normalize behind the activation.
        whitened: give the image zero mean and unit variance first, by a normalization without scale and shift.
    """
    whiten = nn.BatchNorm2d(1, affine=False) if whitened else None
    return LeNet(nn.BatchNorm2d, nn.BatchNorm1d, after=after, whiten=whiten)


def lenet_by_hand(*, after: bool = False, whitened: bool = False) -> LeNet:
    """LeNet with the normalization written by hand; untrained. The arguments are those of `lenet`."""
    whiten = BatchNormByHand(1, rank=4, affine=False) if whitened else None
    return LeNet(partial(BatchNormByHand, rank=4), partial(BatchNormByHand, rank=2), after=after, whiten=whiten)
