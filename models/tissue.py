"""Patches of one picture of stained tissue, with labels from the stain.

The picture is scikit-image's `immunohistochemistry`: colonic glands, stained brown (DAB) for a protein and blue
(hematoxylin) for cell nuclei, 512×512 pixels; acquired at the Center for Microscopy and Molecular Imaging, no known
copyright restrictions. A patch of 32×32 pixels is positive when more than a quarter of it is brown, which colour
deconvolution decides (A. C. Ruifrok, D. A. Johnston, "Quantification of histochemical staining by color deconvolution",
2001). The left half of the picture is for training, the right half for the test: one picture, one tissue, one staining,
so a figure measured here says that a network learned this stain, and nothing about pathology.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnfold.errors import EnvironmentUnfit

TITLE = "one immunohistochemistry picture (scikit-image)"
LICENSE = "no known copyright restrictions"
SIZE = 32
BROWN = 0.08  # of the DAB channel, in absorbance
POSITIVE = 0.25  # of the patch
STRIDE = {"train": 4, "test": 8}


def load(split: str, folder: Path | None = None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Patches `[N, 3, 32, 32]` float32 in 0 … 1 and labels `[N]`, 1 for positive; `folder` is not needed.

    Raises:
        EnvironmentUnfit: scikit-image is not installed.
    """
    try:
        from skimage.color import rgb2hed
        from skimage.data import immunohistochemistry
    except ImportError as error:
        raise EnvironmentUnfit("The picture comes with scikit-image. Run: pip install 'bnfold[models]'") from error
    picture = immunohistochemistry()
    brown = rgb2hed(picture)[..., 2] > BROWN
    middle = picture.shape[1] // 2
    half = slice(None, middle) if split == "train" else slice(middle, None)
    patches = windows(picture[:, half], STRIDE[split])
    share = windows(brown[:, half], STRIDE[split]).mean((1, 2))
    return np.float32(patches.transpose(0, 3, 1, 2) / 255), (share > POSITIVE).astype(np.int64)


def windows(picture: NDArray[np.generic], stride: int) -> NDArray[np.generic]:
    """All squares `[N, SIZE, SIZE, …]` of a picture `[H, W, …]` at multiples of `stride`."""
    places = [range(0, extent - SIZE + 1, stride) for extent in picture.shape[:2]]
    return np.stack([picture[y : y + SIZE, x : x + SIZE] for y in places[0] for x in places[1]])
