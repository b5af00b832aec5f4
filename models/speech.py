"""A network over frames of speech that tells languages.

A time delay network with dilated convolutions over frames, and an average over time, as for x-vectors: D. Snyder et al.,
"X-vectors: robust DNN embeddings for speaker recognition", 2018, and "Spoken language recognition using x-vectors", 2018
(theirs also has the standard deviation over time). As in the recipe of their toolkit Kaldi, every normalization stands
*behind* the activation, and one without scale and shift stands at the input, where it takes the place of the
normalization of features by mean and variance.
"""

import torch
from torch import nn


class TDNN(nn.Module):
    """Log-mel frames `[N, bands, frames]` to logits `[N, num_classes]`, with 5 normalizations over time.

    Args:
        bands: of the spectrum.
        channels: of each layer.
        num_classes: length of the output.
    """

    def __init__(self, bands: int = 40, channels: int = 64, num_classes: int = 5) -> None:
        super().__init__()
        self.whiten = nn.BatchNorm1d(bands, affine=False)
        layers: list[nn.Module] = []
        for inputs, kernel, dilation in ((bands, 5, 1), (channels, 3, 2), (channels, 3, 3)):
            layers += [nn.Conv1d(inputs, channels, kernel, dilation=dilation), nn.ReLU(), nn.BatchNorm1d(channels)]
        self.frames = nn.Sequential(*layers)
        self.segment = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.BatchNorm1d(channels))
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.segment(self.frames(self.whiten(frames)).mean(2)))
