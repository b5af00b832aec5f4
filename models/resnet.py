"""ResNet-18, -50 and -152 with trained-looking weights, for tests and benchmarks; the names are those of torchvision's models.

K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", 2015, table 1. In a bottleneck the 3×3
convolution has the stride, as in most libraries; the paper gives it to the first 1×1.
"""

from collections.abc import Sequence

import torch
from torch import nn

from models.build import synthetic_images, trained_looking, varied_images


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut: `[N, inplanes, H, W]` to `[N, planes, H / stride, W / stride]`."""

    expansion = 1

    def __init__(self, inplanes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample(inplanes, planes, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 and a shortcut: `[N, inplanes, H, W]` to `[N, 4 * planes, H / stride, W / stride]`."""

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.relu = nn.ReLU()
        self.downsample = downsample(inplanes, 4 * planes, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return self.relu(self.bn3(self.conv3(out)) + self.downsample(x))


def downsample(inplanes: int, outplanes: int, stride: int) -> nn.Module:
    """The shortcut: a 1×1 convolution and a normalization where the shape changes."""
    if stride == 1 and inplanes == outplanes:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inplanes, outplanes, 1, stride, bias=False), nn.BatchNorm2d(outplanes))


class ResNet(nn.Module):
    """Images `[N, 3, H, W]` to logits `[N, num_classes]`.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        layers: blocks in each stage.
        width: channels of the first stage; the others have 2, 4 and 8 times as many. 64 in the paper.
        num_classes: length of the output.
    """

    def __init__(
        self, block: type[BasicBlock | Bottleneck], layers: Sequence[int], width: int = 64, num_classes: int = 1000
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inplanes = width
        for place, count in enumerate(layers):
            planes, stage = width << place, []
            for number in range(count):
                stage.append(block(inplanes, planes, 2 if place and number == 0 else 1))
                inplanes = planes * block.expansion
            self.add_module(f"layer{place + 1}", nn.Sequential(*stage))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inplanes, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


class ResNet18(ResNet):
    """20 normalizations, 11.7 million parameters at width 64; the arguments are those of `ResNet`."""

    def __init__(self, width: int = 64, num_classes: int = 1000) -> None:
        super().__init__(BasicBlock, (2, 2, 2, 2), width, num_classes)


class ResNet50(ResNet):
    """53 normalizations, 25.6 million parameters at width 64; the arguments are those of `ResNet`."""

    def __init__(self, width: int = 64, num_classes: int = 1000, layers: Sequence[int] = (3, 4, 6, 3)) -> None:
        super().__init__(Bottleneck, layers, width, num_classes)


class ResNet152(ResNet):
    """155 normalizations, 60.2 million parameters at width 64; the arguments are those of `ResNet`."""

    def __init__(self, width: int = 64, num_classes: int = 1000, layers: Sequence[int] = (3, 8, 36, 3)) -> None:
        super().__init__(Bottleneck, layers, width, num_classes)


def calm(model: ResNet) -> None:
    """Makes the last scales of each bottleneck small, as they are in trained networks, where many even start from zero.

    P. Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017, section 5.1. With scales around 1
    the rounding of 50 blocks adds up to 2e-4 of the output of ResNet-152, and no trained network behaves like that.
    """
    with torch.no_grad():
        for block in model.modules():
            if isinstance(block, Bottleneck):
                block.bn3.weight.mul_(0.25)


def resnet18(seed: int = 0, width: int = 64, num_classes: int = 1000) -> ResNet18:
    """ResNet-18 in eval mode with weights and statistics from `seed`; see `ResNet` for the other arguments."""
    return trained_looking(seed, lambda: ResNet18(width, num_classes), lambda: synthetic_images(8, 64))


def resnet50(seed: int = 0, **options: int | Sequence[int]) -> ResNet50:
    """ResNet-50 in eval mode with weights and statistics from `seed`; see `ResNet50` for the other arguments."""
    return trained_looking(seed, lambda: ResNet50(**options), lambda: varied_images(8, 128), calm)


def resnet152(seed: int = 0, **options: int | Sequence[int]) -> ResNet152:
    """ResNet-152 in eval mode with weights and statistics from `seed`; see `ResNet152` for the other arguments."""
    return trained_looking(seed, lambda: ResNet152(**options), lambda: varied_images(8, 128), calm)
