"""ResNet-18 with trained-looking weights, for tests and benchmarks; the names are those of torchvision's models.

K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", 2015, table 1.
"""

import torch
from torch import nn

from models.build import synthetic_images, trained_looking


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut: `[N, inplanes, H, W]` to `[N, planes, H / stride, W / stride]`."""

    def __init__(self, inplanes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class ResNet18(nn.Module):
    """Images `[N, 3, H, W]` to logits `[N, num_classes]`, with 20 normalizations; 11.7 million parameters at width 64.

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
        self.layer1 = nn.Sequential(BasicBlock(width, width, 1), BasicBlock(width, width, 1))
        self.layer2 = nn.Sequential(BasicBlock(width, 2 * width, 2), BasicBlock(2 * width, 2 * width, 1))
        self.layer3 = nn.Sequential(BasicBlock(2 * width, 4 * width, 2), BasicBlock(4 * width, 4 * width, 1))
        self.layer4 = nn.Sequential(BasicBlock(4 * width, 8 * width, 2), BasicBlock(8 * width, 8 * width, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def resnet18(seed: int = 0, width: int = 64, num_classes: int = 1000) -> ResNet18:
    """ResNet-18 in eval mode with weights and statistics from `seed`; see `ResNet18` for the other arguments."""
    return trained_looking(seed, lambda: ResNet18(width, num_classes), lambda: synthetic_images(8, 64))
