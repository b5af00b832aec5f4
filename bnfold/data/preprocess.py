"""Preprocessing, as the user states it: a preset or a function. Never guessed.

A function takes one sample as the reader yields it (images: uint8 `[H, W]` or RGB `[H, W, 3]`; several inputs: a dict) and
returns the array that the model wants, without the batch dimension (or a dict: input name → array).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.data.dataset import Inputs, Preprocess
from bnfold.data.function import load_function
from bnfold.errors import InputError

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
_RESIZED, _CROPPED = 256, 224
_RGB = 3


def mnist(image: NDArray[Any]) -> NDArray[np.float32]:
    """Pixels / 255: uint8 `[H, W]` → float32 `[1, H, W]` in [0, 1].

    Raises:
        InputError: it is no grey image of bytes.
    """
    if image.ndim != 2 or image.dtype != np.uint8:
        raise InputError(f"the preset mnist takes grey uint8 images [H, W], and this is {image.dtype} {list(image.shape)}.")
    return (image[None] / np.float32(255)).astype(np.float32)


def imagenet(image: NDArray[Any]) -> NDArray[np.float32]:
    """uint8 RGB `[H, W, 3]` → float32 `[3, 224, 224]`.

    The shorter side is resized to 256 (bilinear with antialiasing), the centre of 224 × 224 is cut out, and each channel is
    divided by 255, centred and scaled with the data set's mean and deviation. These are the steps and the rounding of the
    reference evaluation of torchvision's classifiers (references/classification/presets.py of pytorch/vision); torchvision 0.29.2
    gives the same bits.

    Raises:
        InputError: it is no RGB image of bytes.
        EnvironmentUnfit: Pillow is missing.
    """
    from bnfold.data.images import pillow

    if image.ndim != 3 or image.shape[2] != _RGB or image.dtype != np.uint8:
        raise InputError(f"the preset imagenet takes uint8 RGB images [H, W, 3], and this is {image.dtype} {list(image.shape)}.")
    pil = pillow()
    height, width = image.shape[:2]
    short = min(height, width)
    size = (_RESIZED * width // short, _RESIZED * height // short)
    resized = np.asarray(pil.fromarray(image).resize(size, pil.Resampling.BILINEAR))
    top, left = (round((extent - _CROPPED) / 2) for extent in resized.shape[:2])
    cropped = resized[top : top + _CROPPED, left : left + _CROPPED].astype(np.float32) / np.float32(255)
    scaled = (cropped - IMAGENET_MEAN) / IMAGENET_STD
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def none(sample: NDArray[Any]) -> NDArray[Any]:
    """The sample as it is."""
    return sample


PRESETS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {"imagenet": imagenet, "mnist": mnist, "none": none}

CHOICES = (
    "imagenet (shorter side to 256, centre 224 × 224, ImageNet's mean and deviation), mnist (pixels / 255, one channel), "
    "none (as they are), or file.py:function (your own)"
)
"""The ways to state a preprocessing, for messages."""


def preprocessing(stated: str) -> Preprocess:
    """What to do to each sample.

    Args:
        stated: a key of `PRESETS`, or `file.py:function`.

    Raises:
        InputError: it is neither, or the function cannot be loaded.
    """
    if stated in PRESETS:
        return _of_preset(stated)
    if ":" not in stated:
        raise InputError(f"there is no preprocessing {stated!r}. There are {CHOICES}.")
    return _of_function(load_function(stated, "the preprocessing"), stated)


def _of_preset(name: str) -> Preprocess:
    def apply(inputs: Inputs) -> Inputs:
        if name == "none":
            return inputs
        if len(inputs) != 1:
            raise InputError(
                f"the preset {name} is for models of one input, and there are {', '.join(inputs)}. Use file.py:function."
            )
        return {key: PRESETS[name](sample) for key, sample in inputs.items()}

    return apply


def _of_function(function: Callable[..., Any], stated: str) -> Preprocess:
    def apply(inputs: Inputs) -> Inputs:
        single = len(inputs) == 1
        result = function(next(iter(inputs.values())) if single else dict(inputs))
        if isinstance(result, Mapping):
            return {str(name): np.asarray(value) for name, value in result.items()}
        if not single or result is None:
            what = "nothing" if result is None else "one array for several inputs"
            raise InputError(f"the preprocessing {stated} returns {what}. Return an array, or a dict: input name → array.")
        return {next(iter(inputs)): np.asarray(result)}

    return apply
