"""Images in folders, one folder for each class, and how one image is read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.data import digest
from bnfold.data.dataset import Sample
from bnfold.errors import EnvironmentUnfit, InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What counts as an image in a folder, the list of torchvision's ImageFolder."""

PIP = "pip install 'bnfold[images]'"


class FolderReader:
    """`ROOT/CLASS/**/IMAGE`: the classes are numbered in the order of their sorted names, as torchvision's ImageFolder does.

    Only the files of one class are listed at a time.

    Raises:
        InputError: there are no class folders, or one has no images.
        EnvironmentUnfit: Pillow is missing.
    """

    sequential = False

    def __init__(self, root: Path, name: str) -> None:
        pillow()
        self.name = name
        self._root = root
        self._classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
        self._counts = [len(self._files(each)) for each in self._classes]
        self.count = sum(self._counts)
        if not self._classes:
            raise InputError(f"{root} holds no folders. Put the images of each class into a folder of its own.")
        if empty := [each for each, count in zip(self._classes, self._counts, strict=True) if not count]:
            raise InputError(f"{root / empty[0]} holds no image ({', '.join(SUFFIXES)}). Remove the folder, or fill it.")

    def samples(self, start: int) -> Iterator[Sample]:
        """RGB images uint8 `[H, W, 3]`, with the number of their class."""
        for label, (each, count) in enumerate(zip(self._classes, self._counts, strict=True)):
            if start >= count:
                start -= count
                continue
            for path in self._files(each)[start:]:
                yield {"": read_image(path)}, label
            start = 0

    def digest(self) -> str:
        """Over all images, with their paths."""
        files = (path for each in self._classes for path in self._files(each))
        return digest.of_files((path.relative_to(self._root).as_posix(), path) for path in files)

    identity = digest

    def _files(self, each: str) -> list[Path]:
        found = (path for path in (self._root / each).rglob("*") if path.suffix.lower() in SUFFIXES)
        return sorted(path for path in found if stat.S_ISREG(path.stat().st_mode))


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image file as RGB, uint8 `[H, W, 3]`.

    Raises:
        InputError: the file is missing or damaged.
        EnvironmentUnfit: Pillow is missing.
    """
    pil = pillow()
    try:
        with pil.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:  # Pillow's "cannot identify image file" is one
        raise InputError(f"{path} cannot be read as an image: {error.strerror or error}.") from error
    except (SyntaxError, ValueError, pil.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as an image: {error}.") from error


def pillow() -> Any:
    """Pillow's module `PIL.Image`.

    Raises:
        EnvironmentUnfit: it is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise EnvironmentUnfit(f"reading images needs Pillow, which is not installed: {PIP}") from None
    module: ModuleType = Image
    return module
