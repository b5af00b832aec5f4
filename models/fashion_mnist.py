"""Fashion-MNIST: found in a folder or downloaded, checked against its SHA-256, and read with numpy.

H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms",
2017; https://github.com/zalandoresearch/fashion-mnist, MIT licence, © 2017 Zalando SE. 60,000 training and 10,000 test
images of 28×28 grey pixels in 10 classes. Preprocessing here and in every figure of this folder: pixel / 255, shape
`[N, 1, 28, 28]`, float32; no centring, no augmentation.
"""

import gzip
import hashlib
import os
import urllib.request
import zlib
from http.client import HTTPException
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnfold.errors import EnvironmentUnfit, InputError

SHA256 = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
MIRRORS = (  # the first is plain http: the checksum is what makes a file trustworthy
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
)
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "fashion_mnist"
PREFIX = {"train": "train", "test": "t10k"}


def load(split: str, folder: Path | None = None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The images and labels of one split.

    Args:
        split: "train" (60,000 images) or "test" (10,000).
        folder: where the four files are. Without it: `shared/data/fashion_mnist` beside the repository if that
            exists, otherwise the user's cache folder, to which missing files are downloaded.

    Returns:
        Images `[N, 1, 28, 28]` float32 in [0, 1], and labels `[N]` int64 in 0..9.

    Raises:
        InputError: a file is missing, damaged, or not what it should be.
        EnvironmentUnfit: the files had to be downloaded and no mirror could be reached.
    """
    if folder is None and not SHARED.is_dir():
        folder = cache_folder()
        download(folder)
    folder = folder or SHARED
    images = read_idx(folder / f"{PREFIX[split]}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{PREFIX[split]}-labels-idx1-ubyte.gz")
    return (images[:, None] / np.float32(255)).astype(np.float32), labels.astype(np.int64)


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/bnfold/fashion_mnist`, by default under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bnfold" / "fashion_mnist"


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of bytes in a gzipped IDX file that is one of the four files of the data set.

    Raises:
        InputError: the file is missing, differs from the published one, or is no IDX file of bytes.
    """
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}). `python -m models download FOLDER` fetches Fashion-MNIST."
        ) from error
    if hashlib.sha256(packed).hexdigest() != SHA256[path.name]:
        raise InputError(f"{path} is damaged or not the published file (SHA-256 differs). Delete it and fetch it anew.")
    try:
        data = gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is not a gzip file ({error}).") from error
    # IDX: two zero bytes, type 8 (unsigned byte), number of axes, one big-endian uint32 per axis, then the values
    header = 4 + 4 * data[3] if len(data) >= 4 else 4
    if data[:3] != b"\x00\x00\x08" or len(data) < header:
        raise InputError(f"{path} is not an IDX file of bytes: it starts with {data[:4]!r}.")
    shape = tuple(int(n) for n in np.frombuffer(data[4:header], ">u4"))
    values = np.frombuffer(data[header:], np.uint8)
    if values.size != np.prod(shape):
        raise InputError(f"{path} holds {values.size} values, but its header says {shape}.")
    return values.reshape(shape)


def download(folder: Path, mirrors: tuple[str, ...] = MIRRORS, timeout_s: float = 30) -> None:
    """Fetches the files that `folder` lacks or holds damaged; each appears there whole and checked, or not at all.

    Raises:
        InputError: the folder cannot be written.
        EnvironmentUnfit: no mirror gave a good copy of some file; the message names each mirror's reason.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made ({error.strerror}). Choose another folder.") from error
    for name, digest in SHA256.items():
        path = folder / name
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest:
            continue
        reasons = []
        for mirror in mirrors:
            reason = _fetch(mirror + name, path, digest, timeout_s)
            if reason is None:
                break
            reasons.append(f"\n  {mirror}{name}: {reason}")
        else:
            raise EnvironmentUnfit(
                f"Fashion-MNIST could not be downloaded to {folder}.{''.join(reasons)}\n"
                "Check the network, or put the four .gz files there yourself."
            )


def _fetch(url: str, path: Path, digest: str, timeout_s: float) -> str | None:
    """Downloads `url` to `path` by way of a temporary file; says why if that failed."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:
            content = response.read()
    except (OSError, HTTPException, ValueError) as error:  # URLError is an OSError; ValueError is a malformed URL
        return str(error) or type(error).__name__
    if hashlib.sha256(content).hexdigest() != digest:
        return f"not the published file (SHA-256 differs, {len(content):,} bytes)"
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written ({error.strerror}). Choose another folder.") from error
    return None
