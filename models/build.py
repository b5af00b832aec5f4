"""Weights and statistics for networks that nobody trained: random, but as uneven as those of a trained network.

Every normalization gets a scale and a shift that differ from channel to channel, and running statistics measured on
inputs with the coarse-to-fine structure of photographs.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

AnyModule = TypeVar("AnyModule", bound=nn.Module)

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def trained_looking(
    seed: int,
    make: Callable[[], AnyModule],
    inputs: Callable[[], torch.Tensor],
    adjust: Callable[[AnyModule], None] = lambda model: None,
) -> AnyModule:
    """What `make` makes, in eval mode, with weights and statistics from `seed`.

    Args:
        seed: of everything random; torch's global generator is left as it was.
        make: makes the module.
        inputs: draws one batch from torch's global generator; the statistics are those of four.
        adjust: changes weights once they are drawn, before the statistics are measured.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make()
        look_trained(model)
        adjust(model)
        batches = [inputs() for _ in range(4)]
    measure_statistics(model, batches)
    return model


def look_trained(model: nn.Module) -> None:
    """Draws Kaiming-normal convolution weights, gammas around 1 and betas around 0, from torch's global generator.

    Linear layers and transposed convolutions keep the weights that they were made with.
    """
    for module in model.modules():
        if isinstance(module, CONVOLUTIONS):
            mode = "fan_out" if module.groups == 1 else "fan_in"  # torch's fan_out knows nothing of groups
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
        elif isinstance(module, _BatchNorm):
            nn.init.trunc_normal_(module.weight, mean=1.0, std=0.25, a=0.2, b=1.8)
            nn.init.normal_(module.bias, std=0.2)


def synthetic_images(count: int, size: int, channels: int = 3) -> torch.Tensor:
    """Images `[count, channels, size, size]` from torch's global generator; coarse detail is the strongest.

    `size` is a multiple of 16. Mean about 0, standard deviation about 1, as after the usual normalization.
    """
    image = torch.zeros(count, channels, size, size)
    for detail in (size // 16, size // 4, size):
        noise = torch.randn(count, channels, detail, detail)
        image += nn.functional.interpolate(noise, size=(size, size), mode="bilinear") / (detail / (size // 16)) ** 0.5
    return image


def varied_images(count: int, size: int, channels: int = 3) -> torch.Tensor:
    """Images like those of `synthetic_images`, from soft to noise alone, each with a brightness and contrast of its own.

    Deep networks need them: with statistics of soft images only, noise grows from layer to layer, and no trained network
    behaves like that.
    """
    images = synthetic_images(count, size, channels)
    noisiness, contrast, brightness = torch.rand(count, 1, 1, 1), torch.rand(count, 1, 1, 1), torch.randn(count, 1, 1, 1)
    return (0.5 + contrast) * torch.lerp(images, torch.randn_like(images), noisiness) + 0.5 * brightness


def measure_statistics(model: nn.Module, batches: list[torch.Tensor]) -> None:
    """Sets every running mean and variance to its plain average over `batches`, and leaves `model` in eval mode."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's way to ask for the plain average
    model.train()
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
