"""`PATH[:format]`: what the user calls a data set, and the reader for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bnfold.data import cifar, idx, loader
from bnfold.data.cifar import CifarReader
from bnfold.data.dataset import Data, Preprocess, Reader
from bnfold.data.idx import IdxReader
from bnfold.data.images import FolderReader
from bnfold.data.manifest import ManifestReader
from bnfold.data.npz import NpzReader
from bnfold.data.preprocess import preprocessing
from bnfold.errors import InputError

FORMATS: dict[str, str] = {
    "npz": "an .npz file with one array for each input and the labels as `label`, `labels` or `y`",
    "INPUT=ARRAY,label=ARRAY": "an .npz file with other names",
    "images": "a folder with one folder of images for each class",
    "idx": "IDX files, gzipped or not: the images (the labels beside them), or IMAGES,LABELS",
    "idx-test": "a folder with t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte",
    "idx-train": "the same with train-…",
    "cifar10": "a file of CIFAR-10, binary version",
    "cifar10-test": "a folder with test_batch.bin",
    "cifar10-train": "a folder with data_batch_1.bin to data_batch_5.bin",
    "csv": "a list of files: a header with path and label, one line for each file",
    "jsonl": 'a list of files: {"path": …, "label": …} on each line',
}
"""Format → what it is, for messages and the documentation. A loader is named as `file.py:loader`."""

_BY_SUFFIX = {".npz": "npz", ".csv": "csv", ".jsonl": "jsonl"}


def open_data(spec: str, preprocess: str | None = None) -> Data:
    """Opens a data set. Nothing but headers, or names of files, is read before its samples are.

    Args:
        spec: `PATH`, `PATH:format` with a key of `FORMATS`, or `file.py:loader`.
        preprocess: a preset ("imagenet", "mnist", "none"), or `file.py:function`; None leaves the samples as they are.

    Raises:
        InputError: there is no such file, its format cannot be told, or it is damaged.
        EnvironmentUnfit: an optional package is missing.
    """
    path, form = _split(spec)
    prepare = None if preprocess is None else preprocessing(preprocess)
    return _data(_reader(path, form, spec), prepare, preprocess)


def open_iterable(data: Iterable[Any], preprocess: str | None = None) -> Data:
    """The data set of a Python iterable of (inputs, label) or (inputs, labels): see `bnfold.data.loader`."""
    return _data(loader.from_object(data), None if preprocess is None else preprocessing(preprocess), preprocess)


def _data(reader: Reader, prepare: Preprocess | None, stated: str | None) -> Data:
    return Data(reader) if prepare is None else Data(reader, prepare, stated or "")


def _split(spec: str) -> tuple[str, str]:
    path, colon, form = spec.rpartition(":")
    if not colon or Path(spec).exists():
        return spec, ""
    if form in FORMATS or "=" in form or path.endswith(".py"):
        return path, form
    if Path(path).exists():
        raise InputError(f"{spec}: there is no format {form!r}. There are {', '.join(FORMATS)}.")
    return spec, ""


def _reader(path: str, form: str, spec: str) -> Reader:
    if path.endswith(".py"):
        if not form:
            raise InputError(f"{path} is Python code: name the loader in it, {path}:loader.")
        return loader.from_file(spec)
    images, comma, labels = path.partition(",")
    if comma and not Path(path).exists():
        if form not in ("", "idx"):
            raise InputError(f"{spec}: two files are of the format idx.")
        return IdxReader(Path(images), Path(labels), spec)
    place = Path(path)
    if not place.exists():
        raise InputError(f"the data {path} does not exist.")
    form = form or _told(place)
    if "=" in form:
        return NpzReader(place, _names(form, spec), spec)
    return _of_format(place, form, spec)


def _of_format(place: Path, form: str, spec: str) -> Reader:
    wants_folder = form in ("images", "idx-test", "idx-train", "cifar10-test", "cifar10-train")
    if place.is_dir() != wants_folder:
        what = "a folder" if place.is_dir() else "a file"
        raise InputError(f"{place} is {what}, and {form} is {FORMATS[form]}.")
    if form == "npz":
        return NpzReader(place, None, spec)
    if form == "images":
        return FolderReader(place, spec)
    if form == "idx":
        return IdxReader(place, idx.labels_beside(place), spec)
    if form.startswith("idx-"):
        return IdxReader(*idx.in_folder(place, form.removeprefix("idx-")), spec)
    if form == "cifar10":
        return CifarReader([place], spec)
    if form.startswith("cifar10-"):
        return CifarReader([place / name for name in cifar.SPLITS[form.removeprefix("cifar10-")]], spec)
    return ManifestReader(place, form, spec)


def _told(place: Path) -> str:
    """The format that a path shows by itself."""
    if place.is_file():
        if place.suffix.lower() in _BY_SUFFIX:
            return _BY_SUFFIX[place.suffix.lower()]
        if "idx" in place.name and "ubyte" in place.name:
            return "idx"
        raise InputError(f"{place} does not tell its format. Say it: {place}:FORMAT, one of {', '.join(FORMATS)}.")
    names = {entry.name for entry in place.iterdir()}
    if any("idx" in name and "ubyte" in name for name in names):
        raise InputError(f"{place} holds IDX files: say which, {place}:idx-test or {place}:idx-train.")
    if "test_batch.bin" in names or "data_batch_1.bin" in names:
        raise InputError(f"{place} holds CIFAR-10: say which, {place}:cifar10-test or {place}:cifar10-train.")
    return "images"


def _names(form: str, spec: str) -> Mapping[str, str]:
    pairs = [pair.partition("=") for pair in form.split(",")]
    if not all(name and array for name, _, array in pairs):
        raise InputError(f"{spec}: {form!r} is not of the form INPUT=ARRAY,label=ARRAY.")
    return {name.strip(): array.strip() for name, _, array in pairs}
