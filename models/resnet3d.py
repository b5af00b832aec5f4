"""R3D-18: ResNet-18 with 3-d convolutions, over clips of video.

D. Tran, H. Wang, L. Torresani, J. Ray, Y. LeCun, M. Paluri, "A closer look at spatiotemporal convolutions for action
recognition", 2018, table 1 (R3D). The convolutions have biases, which the normalizations make redundant: without them
PyTorch's exporter writes files that no runtime accepts (onnxscript issue 2931: a 3-d convolution gets a bias of rank 2).
"""

import torch
from torch import nn

from models.build import trained_looking, varied_images


class Block(nn.Module):
    """Two 3×3×3 convolutions and a shortcut: `[N, inplanes, T, H, W]` to `[N, planes, T / stride, H / stride, …]`."""

    def __init__(self, inplanes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inplanes, planes, 3, stride, padding=1)
        self.bn1 = nn.BatchNorm3d(planes)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv3d(planes, planes, 3, padding=1)
        self.bn2 = nn.BatchNorm3d(planes)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1:
            self.shortcut = nn.Sequential(nn.Conv3d(inplanes, planes, 1, stride), nn.BatchNorm3d(planes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class R3D18(nn.Module):
    """Clips `[N, 3, T, H, W]` to logits `[N, num_classes]`, with 20 normalizations; 33.4 million parameters at width 64.

    Args:
        width: channels of the first stage; the others have 2, 4 and 8 times as many. 64 in the paper.
        num_classes: length of the output.
    """

    def __init__(self, width: int = 64, num_classes: int = 400) -> None:
        super().__init__()
        stem = nn.Conv3d(3, width, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3))
        layers: list[nn.Module] = [stem, nn.BatchNorm3d(width), nn.ReLU(), Block(width, width, 1), Block(width, width, 1)]
        for planes in (2 * width, 4 * width, 8 * width):
            layers += [Block(planes // 2, planes, 2), Block(planes, planes, 1)]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1))
        self.fc = nn.Linear(8 * width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(x).flatten(1))


def r3d18(seed: int = 0, width: int = 64, num_classes: int = 400) -> R3D18:
    """R3D-18 in eval mode with weights and statistics from `seed`; see `R3D18` for the other arguments."""

    def clips() -> torch.Tensor:  # images that move by two pixels a frame
        image = varied_images(4, 64)
        return torch.stack([image.roll(2 * frame, dims=3) for frame in range(8)], dim=2)

    return trained_looking(seed, lambda: R3D18(width, num_classes), clips)
