"""U-Net: a contracting path, and an expanding one that doubles the size by transposed convolutions.

O. Ronneberger, P. Fischer, T. Brox, "U-Net: convolutional networks for biomedical image segmentation", 2015, figure 1.
As is common today, and unlike the paper, convolutions are padded, and every convolution but the last is normalized, the
transposed ones too.
"""

import torch
from torch import nn

from models.build import trained_looking, varied_images
from models.layers import conv_norm


def double_conv(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3×3 convolutions with normalization and activation; the size stays."""
    return nn.Sequential(conv_norm(inputs, outputs, 3), conv_norm(outputs, outputs, 3))


class Up(nn.Module):
    """Doubles the size of `[N, 2·channels, H, W]`, and joins it with the `[N, channels, 2H, 2W]` of the contracting path."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2 * channels, channels, 2, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv = double_conv(2 * channels, channels)

    def forward(self, x: torch.Tensor, skipped: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.cat([skipped, self.relu(self.norm(self.up(x)))], 1))


class UNet(nn.Module):
    """Images `[N, 1, H, W]` to logits `[N, num_classes, H, W]`, with 22 normalizations; 31 million parameters at width 64.

    Args:
        width: channels at full size; they double with each of the four halvings. 64 in the paper.
        num_classes: channels of the output.
    """

    def __init__(self, width: int = 64, num_classes: int = 2) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(5)]
        self.down = nn.ModuleList(double_conv(*pair) for pair in zip([1, *widths[:-1]], widths, strict=True))
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(Up(channels) for channels in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skipped = []
        for level in self.down[:-1]:
            skipped.append(level(x))
            x = self.pool(skipped[-1])
        x = self.down[-1](x)
        for up in self.up:
            x = up(x, skipped.pop())
        return self.head(x)


def unet(seed: int = 0, width: int = 64, num_classes: int = 2) -> UNet:
    """U-Net in eval mode with weights and statistics from `seed`; see `UNet` for the other arguments."""
    return trained_looking(seed, lambda: UNet(width, num_classes), lambda: varied_images(4, 128, channels=1))
