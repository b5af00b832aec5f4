"""BN-Inception, the network that batch normalization was introduced with.

S. Ioffe, C. Szegedy, "Batch normalization: accelerating deep network training by reducing internal covariate shift",
2015, figure 5: GoogLeNet with a normalization in every convolution, and each 5×5 convolution replaced by two 3×3. The
first convolution is an ordinary one, where the paper factors it by depth.
"""

import torch
from torch import nn

from models.build import trained_looking, varied_images
from models.layers import conv_norm

MODULES = (
    (64, 64, 64, 64, 96, "avg", 32),
    (64, 64, 96, 64, 96, "avg", 64),
    (0, 128, 160, 64, 96, "max", 0),
    (224, 64, 96, 96, 128, "avg", 128),
    (192, 96, 128, 96, 128, "avg", 128),
    (160, 128, 160, 128, 160, "avg", 96),
    (96, 128, 192, 160, 192, "avg", 96),
    (0, 128, 192, 192, 256, "max", 0),
    (352, 192, 320, 160, 224, "avg", 128),
    (352, 192, 320, 192, 224, "max", 128),
)
"""Rows 3a to 5b of the paper's table: 1×1; 3×3 and its reduction; double 3×3 and its reduction; pooling and its projection."""


class Inception(nn.Module):
    """Four branches and their Concat. A row without 1×1 and projection halves the size, and its pooling passes through."""

    def __init__(
        self, inputs: int, single: int, reduce3: int, conv3: int, reduce33: int, conv33: int, pool: str, projection: int
    ) -> None:
        super().__init__()
        stride = 1 if projection else 2
        branches = [conv_norm(inputs, single, 1)] if single else []
        branches.append(nn.Sequential(conv_norm(inputs, reduce3, 1), conv_norm(reduce3, conv3, 3, stride)))
        double = [conv_norm(inputs, reduce33, 1), conv_norm(reduce33, conv33, 3), conv_norm(conv33, conv33, 3, stride)]
        branches.append(nn.Sequential(*double))
        pooling = (nn.AvgPool2d if pool == "avg" else nn.MaxPool2d)(3, stride, padding=1)
        branches.append(nn.Sequential(pooling, *([conv_norm(inputs, projection, 1)] if projection else [])))
        self.branches = nn.ModuleList(branches)
        self.outputs = single + conv3 + conv33 + (projection or inputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class BNInception(nn.Module):
    """Images `[N, 3, H, W]` to logits `[N, num_classes]`, with 69 normalizations; 11 million parameters at width 1.

    Args:
        width: factor of all channel counts.
        num_classes: length of the output.
    """

    def __init__(self, width: float = 1.0, num_classes: int = 1000) -> None:
        super().__init__()

        def wide(channels: int) -> int:
            return round(channels * width)

        layers: list[nn.Module] = [conv_norm(3, wide(64), 7, 2), nn.MaxPool2d(3, 2, padding=1)]
        layers += [conv_norm(wide(64), wide(64), 1), conv_norm(wide(64), wide(192), 3), nn.MaxPool2d(3, 2, padding=1)]
        channels = wide(192)
        for *convolutions, pool, projection in MODULES:
            module = Inception(channels, *map(wide, convolutions), pool, wide(projection))
            layers.append(module)
            channels = module.outputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def bn_inception(seed: int = 0, width: float = 1.0, num_classes: int = 1000) -> BNInception:
    """BN-Inception in eval mode with weights and statistics from `seed`; see `BNInception` for the other arguments."""
    return trained_looking(seed, lambda: BNInception(width, num_classes), lambda: varied_images(8, 128))
