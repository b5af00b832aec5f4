"""CaffeNet with each normalization behind the activation instead of in front of it: Conv, ReLU, normalization.

D. Mishkin, N. Sergievskiy, J. Matas, "Systematic evaluation of convolution neural network advances on the ImageNet",
2017, sections 2 and 3.2: AlexNet for images of 128 × 128, with fully connected layers of 2048 and without groups; the
authors found the normalization behind the activation to do better.
"""

import torch
from torch import nn

from models.build import trained_looking, varied_images


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> list[nn.Module]:
    """Convolution, activation, normalization."""
    return [nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.ReLU(), nn.BatchNorm2d(outputs)]


def linear(inputs: int, outputs: int) -> list[nn.Module]:
    """Linear layer, activation, normalization."""
    return [nn.Linear(inputs, outputs), nn.ReLU(), nn.BatchNorm1d(outputs)]


class CaffeNet(nn.Module):
    """Images `[N, 3, 128, 128]` to logits `[N, num_classes]`, with 7 normalizations; 14.7 million parameters at width 1.

    Args:
        width: factor of all channel counts.
        num_classes: length of the output.
    """

    def __init__(self, width: float = 1.0, num_classes: int = 1000) -> None:
        super().__init__()
        c1, c2, c3, c4, c5, f6, f7 = (round(width * count) for count in (96, 256, 384, 384, 256, 2048, 2048))
        pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)  # Caffe rounds sizes up
        convolutions = [*conv(3, c1, 11, stride=4), pool, *conv(c1, c2, 5, padding=2), pool, *conv(c2, c3, 3, padding=1)]
        convolutions += [*conv(c3, c4, 3, padding=1), *conv(c4, c5, 3, padding=1), pool]
        self.features = nn.Sequential(*convolutions)
        self.classifier = nn.Sequential(*linear(c5 * 9, f6), *linear(f6, f7), nn.Linear(f7, num_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).flatten(1))


def caffenet(seed: int = 0, width: float = 1.0, num_classes: int = 1000) -> CaffeNet:
    """CaffeNet in eval mode with weights and statistics from `seed`; see `CaffeNet` for the other arguments."""
    return trained_looking(seed, lambda: CaffeNet(width, num_classes), lambda: varied_images(8, 128))
