"""A network like LeViT: attention over tokens, with a normalization in every linear layer instead of LayerNorm.

B. Graham, A. El-Nouby, H. Touvron, P. Stock, A. Joulin, H. Jégou, M. Douze, "LeViT: a vision transformer in ConvNet's
clothing for faster inference", 2021, figure 5 and table 1 (LeViT-128S). Between stages a token grid is thinned out by
averaging, where LeViT has an attention with fewer queries; the attention bias has an entry for each pair of tokens.
"""

import torch
from torch import nn

from models.build import trained_looking, varied_images
from models.layers import conv_norm


class LinearNorm(nn.Module):
    """A linear layer without bias on tokens `[N, T, C]`; they are normalized as rows of `[N·T, C]`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.linear(x)
        return self.norm(x.flatten(0, 1)).reshape_as(x)


class Attention(nn.Module):
    """Self-attention over `tokens` tokens of `dim` channels, with keys of `key` and values of `2·key` channels a head."""

    def __init__(self, dim: int, tokens: int, heads: int, key: int) -> None:
        super().__init__()
        self.heads, self.key = heads, key
        self.qkv = LinearNorm(dim, 4 * heads * key)
        self.bias = nn.Parameter(0.1 * torch.randn(heads, tokens, tokens))
        self.activation = nn.Hardswish()
        self.projection = LinearNorm(2 * heads * key, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = x.shape
        parts = self.qkv(x).view(batch, tokens, self.heads, 4 * self.key).transpose(1, 2)
        query, key, value = parts.split([self.key, self.key, 2 * self.key], dim=3)
        weights = (query @ key.transpose(2, 3) * self.key**-0.5 + self.bias).softmax(dim=3)
        return self.projection(self.activation((weights @ value).transpose(1, 2).flatten(2)))


class Perceptron(nn.Sequential):
    """Two linear layers on each token, twice as wide in between."""

    def __init__(self, dim: int) -> None:
        super().__init__(LinearNorm(dim, 2 * dim), nn.Hardswish(), LinearNorm(2 * dim, dim))


class Thinning(nn.Module):
    """A `side`×`side` grid of tokens to one of half the side, with `outputs` channels."""

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.pool = nn.AvgPool2d(2, ceil_mode=True)
        self.linear = LinearNorm(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grid = x.transpose(1, 2).unflatten(2, (self.side, self.side))
        return self.linear(self.pool(grid).flatten(2).transpose(1, 2))


class LeViT(nn.Module):
    """Images `[N, 3, size, size]` to logits `[N, num_classes]`, with 43 normalizations; 6.0 million parameters at width 128.

    Args:
        width: channels of the first stage; the others have 2 and 3 times as many. 128 in the paper.
        depths: pairs of attention and perceptron in each stage.
        size: height and width of the images, a multiple of 16.
        num_classes: length of the output.
    """

    def __init__(self, width: int = 128, depths: tuple[int, ...] = (2, 3, 4), size: int = 224, num_classes: int = 1000) -> None:
        super().__init__()
        stem = [(3, width // 8), (width // 8, width // 4), (width // 4, width // 2)]
        layers = [conv_norm(*pair, 3, 2, activation=nn.Hardswish) for pair in stem]
        self.stem = nn.Sequential(*layers, conv_norm(width // 2, width, 3, 2, activation=None))
        stages: list[nn.Module] = []
        side, dim = size // 16, width
        for stage, depth in enumerate(depths):
            if stage:
                wider = (stage + 1) * width
                stages.append(Thinning(dim, wider, side))
                side, dim = (side + 1) // 2, wider
            for _ in range(depth):
                stages += [Attention(dim, side * side, 4 + 2 * stage, max(4, width // 8)), Perceptron(dim)]
        self.stages = nn.ModuleList(stages)
        self.head_norm = nn.BatchNorm1d(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        for stage in self.stages:
            x = stage(x) if isinstance(stage, Thinning) else x + stage(x)
        return self.head(self.head_norm(x.mean(1)))


def calm(model: LeViT) -> None:
    """Makes the last scales of each branch small, as `models.resnet.calm` does and for the same reason.

    With scales around 1 there are inputs on which float32 itself is off by 3e-4 of the output.
    """
    with torch.no_grad():
        for stage in model.stages:
            if isinstance(stage, Attention):
                stage.projection.norm.weight.mul_(0.25)
            elif isinstance(stage, Perceptron):
                stage[-1].norm.weight.mul_(0.25)


def levit(
    seed: int = 0, width: int = 128, depths: tuple[int, ...] = (2, 3, 4), size: int = 224, num_classes: int = 1000
) -> LeViT:
    """The network in eval mode with weights and statistics from `seed`; see `LeViT` for the other arguments."""
    return trained_looking(seed, lambda: LeViT(width, depths, size, num_classes), lambda: varied_images(8, size), calm)
