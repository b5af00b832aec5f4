"""The multilayer perceptron of the first experiment with batch normalization.

S. Ioffe, C. Szegedy, "Batch normalization: accelerating deep network training by reducing internal covariate shift",
2015, section 4.1: three hidden layers of 100 sigmoid units, each with a normalization before the nonlinearity, weights
drawn from a small Gaussian, and 50,000 steps with batches of 60. `norm=False` is the network that the paper compares it
with.
"""

import torch
from torch import nn

from models.build import synthetic_images, trained_looking


class MLP(nn.Module):
    """Pixels `[N, 784]` in 0 … 1 to logits `[N, 10]`, with 3 normalizations; 100,310 parameters at width 100.

    Args:
        width: units of each hidden layer.
        norm: normalize before each nonlinearity.
        whitened: give every pixel zero mean and unit variance first, by a normalization without scale and shift.
    """

    def __init__(self, width: int = 100, *, norm: bool = True, whitened: bool = False) -> None:
        super().__init__()
        self.whiten = nn.BatchNorm1d(784, affine=False) if whitened else nn.Identity()
        layers: list[nn.Module] = []
        for inputs in (784, width, width):
            layers += [nn.Linear(inputs, width), *([nn.BatchNorm1d(width)] if norm else []), nn.Sigmoid()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(self.whiten(x))


def small_gaussian(model: nn.Module) -> None:
    """Weights of linear layers from a Gaussian with standard deviation 0.1, and biases 0; the paper says only "small"."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.1)
            nn.init.zeros_(module.bias)


def mlp(seed: int = 0, width: int = 100) -> MLP:
    """The perceptron in eval mode with weights and statistics from `seed`; see `MLP` for the other argument."""

    def pixels() -> torch.Tensor:
        return synthetic_images(60, 32, channels=1)[:, 0, :28, :28].flatten(1).sigmoid()

    return trained_looking(seed, lambda: MLP(width), pixels)
