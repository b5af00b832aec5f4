"""Pre-activation ResNet-18: normalization and activation stand in front of each convolution.

K. He, X. Zhang, S. Ren, J. Sun, "Identity mappings in deep residual networks", 2016, figure 1(b) and section 3. The
first unit follows the activation of the stem, and one more activation stands behind the last unit.
"""

import torch
from torch import nn

from models.build import trained_looking, varied_images


class PreActivationBlock(nn.Module):
    """Two 3×3 convolutions, each behind its activation, and a shortcut: `[N, inplanes, H, W]` to `[N, planes, H / stride, …]`.

    Args:
        inplanes: channels of the input.
        planes: channels of the output.
        stride: of the first convolution and the shortcut.
        first: whether the input is activated already.
    """

    def __init__(self, inplanes: int, planes: int, stride: int, first: bool = False) -> None:
        super().__init__()
        self.activation = nn.Identity() if first else nn.Sequential(nn.BatchNorm2d(inplanes), nn.ReLU())
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.projection = None
        if stride != 1 or inplanes != planes:
            self.projection = nn.Conv2d(inplanes, planes, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        active = self.activation(x)
        shortcut = x if self.projection is None else self.projection(active)
        return self.conv2(self.relu(self.bn2(self.conv1(active)))) + shortcut


class PreActivationResNet18(nn.Module):
    """Images `[N, 3, H, W]` to logits `[N, num_classes]`, with 17 normalizations.

    Args:
        width: channels of the first stage; the others have 2, 4 and 8 times as many. 64 in the paper.
        num_classes: length of the output.
    """

    def __init__(self, width: int = 64, num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        blocks = [PreActivationBlock(width, width, 1, first=True), PreActivationBlock(width, width, 1)]
        for planes in (2 * width, 4 * width, 8 * width):
            blocks += [PreActivationBlock(planes // 2, planes, 2), PreActivationBlock(planes, planes, 1)]
        self.blocks = nn.Sequential(*blocks)
        self.bn2 = nn.BatchNorm2d(8 * width)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.maxpool(self.relu(self.bn1(self.conv1(x)))))
        return self.fc(self.avgpool(self.relu(self.bn2(x))).flatten(1))


def preact_resnet18(seed: int = 0, width: int = 64, num_classes: int = 1000) -> PreActivationResNet18:
    """Pre-activation ResNet-18 in eval mode with weights and statistics from `seed`; see `PreActivationResNet18`."""
    return trained_looking(seed, lambda: PreActivationResNet18(width, num_classes), lambda: varied_images(8, 128))
