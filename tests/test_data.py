"""Readers of labelled data: what they give, what they refuse, and that they stream."""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bnfold.data import Data, open_data, open_iterable
from bnfold.data.images import PIP
from bnfold.data.preprocess import imagenet
from bnfold.errors import EnvironmentUnfit, InputError

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "models" / "fashion_mnist_sample.npz"
COUNT = 23
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (COUNT, 28, 28)).astype(np.uint8)
RGB = RNG.integers(0, 256, (COUNT, 32, 32, 3)).astype(np.uint8)
LABELS = np.arange(COUNT) % 10


def idx_bytes(array: np.ndarray, kind: int = 0x08) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder: Path) -> str:
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(GREY))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS.astype(np.uint8)))
    return f"{folder}:idx-test"


def write_idx_gz(folder: Path) -> str:
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(GREY)))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(LABELS.astype(np.uint8))))
    return f"{folder}:idx-train"


def write_idx_pair(folder: Path) -> str:
    write_idx_gz(folder)
    return f"{folder}/train-images-idx3-ubyte.gz"


def write_idx_named(folder: Path) -> str:
    (folder / "pictures").write_bytes(idx_bytes(GREY))
    (folder / "numbers").write_bytes(idx_bytes(LABELS.astype(">i4"), 0x0C))
    return f"{folder}/pictures,{folder}/numbers:idx"


def write_npz(folder: Path) -> str:
    np.savez(folder / "d.npz", image=GREY, label=LABELS)
    return f"{folder}/d.npz"


def write_npz_packed(folder: Path) -> str:
    np.savez_compressed(folder / "d.npz", x_test=GREY, y_test=LABELS, x_train=GREY[:3], y_train=LABELS[:3])
    return f"{folder}/d.npz:image=x_test,label=y_test"


def write_loader(folder: Path) -> str:
    np.savez(folder / "d.npz", image=GREY, label=LABELS)
    (folder / "load.py").write_text(
        "import pathlib, numpy as np\n"
        "with np.load(pathlib.Path(__file__).parent / 'd.npz') as file:\n"
        "    stored = dict(file)\n"
        "def batches():\n"
        "    for start in range(0, 23, 5):\n"
        "        yield {'image': stored['image'][start:start + 5]}, stored['label'][start:start + 5]\n"
        "def singles():\n"
        "    return zip(stored['image'], stored['label'])\n"
        "once = (each for each in [(stored['image'], list(stored['label']))])\n"
        "number = 3\n"
        "def broken():\n"
        "    yield stored['image'], stored['label']\n"
        "    raise RuntimeError('no more')\n"
    )
    return f"{folder}/load.py:batches"


GREY_SETS: dict[str, Callable[[Path], str]] = {
    "idx": write_idx,
    "idx, gzipped": write_idx_gz,
    "idx, images named": write_idx_pair,
    "idx, both named": write_idx_named,
    "npz": write_npz,
    "npz, arrays named": write_npz_packed,
    "loader of batches": write_loader,
    "loader of samples": lambda folder: write_loader(folder).replace("batches", "singles"),
    "a generator": lambda folder: write_loader(folder).replace("batches", "once"),
}


def together(data: Data, size: int, **bounds: int) -> tuple[np.ndarray, np.ndarray]:
    batches = list(data.batches(size, **bounds))
    position = bounds.get("start", 0)
    for batch in batches:
        assert batch.start == position
        assert len(batch) <= size
        position += len(batch)
    assert all(len(batch) == size for batch in batches[:-1])
    inputs = [next(iter(batch.inputs.values())) for batch in batches]
    return np.concatenate(inputs), np.concatenate([batch.labels for batch in batches])


@pytest.mark.parametrize("write", GREY_SETS.values(), ids=list(GREY_SETS))
@pytest.mark.parametrize(("size", "start", "stop"), [(4, 0, None), (64, 0, None), (5, 7, 20), (3, 20, 99)])
def test_every_format_gives_the_same_samples(
    write: Callable[[Path], str], size: int, start: int, stop: int | None, tmp_path: Path
) -> None:
    data = open_data(write(tmp_path))
    inputs, labels = together(data, size, start=start, **({} if stop is None else {"stop": stop}))
    assert np.array_equal(inputs, GREY[start:stop])
    assert np.array_equal(labels, LABELS[start:stop])
    assert data.count in (COUNT, None)
    assert list(data.batches(4, start=COUNT)) == []
    assert data.sha256() == open_data(write(tmp_path)).sha256()


def test_the_hash_of_a_file_is_that_of_the_file(tmp_path: Path) -> None:
    data = open_data(write_npz(tmp_path))
    assert data.sha256() == hashlib.sha256((tmp_path / "d.npz").read_bytes()).hexdigest()


@pytest.mark.parametrize("write", GREY_SETS.values(), ids=list(GREY_SETS))
def test_the_hash_changes_with_a_label(write: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_data(write(tmp_path)).sha256()
    monkeypatch.setitem(globals(), "LABELS", np.where(np.arange(COUNT) == 22, 7, LABELS))
    assert open_data(write(tmp_path)).sha256() != before


def test_cifar_is_read_plane_by_plane(tmp_path: Path) -> None:
    records = [bytes([label]) + image.transpose(2, 0, 1).tobytes() for label, image in zip(LABELS, RGB, strict=True)]
    for name, part in (("data_batch_1.bin", records[:10]), ("data_batch_2.bin", records[10:12])):
        (tmp_path / name).write_bytes(b"".join(part))
    for number in (3, 4, 5):
        (tmp_path / f"data_batch_{number}.bin").write_bytes(b"".join(records[9 + number : 10 + number]))
    (tmp_path / "test_batch.bin").write_bytes(b"".join(records))
    for spec, count in (
        (f"{tmp_path}:cifar10-test", 23),
        (f"{tmp_path}:cifar10-train", 15),
        (f"{tmp_path}/test_batch.bin:cifar10", 23),
    ):
        data = open_data(spec)
        images, labels = together(data, 4)
        assert data.count == count
        assert np.array_equal(images, RGB[:count])
        assert np.array_equal(labels, LABELS[:count])
        assert np.array_equal(together(data, 4, start=11)[0], RGB[11:count])


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    image = pytest.importorskip("PIL.Image", reason="reading images needs Pillow, the extra `images`")
    for number, name in enumerate(("dog/b.png", "dog/a.png", "cat/deep/c.png", "ant/z.bmp", "dog/c.ppm")):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(RGB[number]).save(tmp_path / "set" / name)
    (tmp_path / "set" / "dog" / "notes.txt").write_text("no image")
    return tmp_path / "set"


def test_folders_are_classes_in_sorted_order(pictures: Path) -> None:
    data = open_data(str(pictures))
    images, labels = together(data, 2)
    assert labels.tolist() == [0, 1, 2, 2, 2]
    assert np.array_equal(images, RGB[[3, 2, 1, 0, 4]])
    assert np.array_equal(together(data, 2, start=3)[0], RGB[[0, 4]])
    before = data.sha256()
    (pictures / "dog" / "a.png").rename(pictures / "cat" / "a.png")
    assert open_data(f"{pictures}:images").sha256() != before


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_list_of_files(kind: str, pictures: Path, tmp_path: Path) -> None:
    np.save(pictures / "x.npy", RGB[7])
    names = ["set/dog/b.png", "set/x.npy", "set/ant/z.bmp"] * 500
    labels = [number % 7 for number in range(len(names))]
    if kind == "csv":
        rows = [f"{label},{name},x" for name, label in zip(names, labels, strict=True)]
        (tmp_path / "list.csv").write_text("\n".join(["label,path,other", *rows]) + "\n\n")
    else:
        entries = [json.dumps({"path": name, "label": label}) for name, label in zip(names, labels, strict=True)]
        (tmp_path / "list.jsonl").write_text("\n".join(entries))
    data = open_data(f"{tmp_path}/list.{kind}")
    assert data.count == 1500
    images, found = together(data, 64, start=1111)
    assert found.tolist() == labels[1111:]
    assert np.array_equal(images[:3], RGB[[7 if n % 3 == 1 else 0 if n % 3 == 0 else 3 for n in range(1111, 1114)]])
    assert len(data.sha256()) == 64


def test_without_pillow_the_command_is_named(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(EnvironmentUnfit, match="Pillow") as error:
        open_data(str(pictures))
    assert PIP in str(error.value)


def test_an_iterable_of_python_objects() -> None:
    pairs = [(GREY[:5], LABELS[:5]), (GREY[5:6], [5]), (GREY[6], 6)]
    images, labels = together(open_iterable(pairs), 4)
    assert np.array_equal(images, GREY[:7])
    assert labels.tolist() == list(range(7))
    unlabelled = next(open_iterable([(GREY[:5], None)]).batches(8))
    assert unlabelled.labels is None
    assert len(unlabelled) == 5


# -- preprocessing --------------------------------------------------------------------------------------------------------


def test_the_preset_mnist_is_pixels_by_255(tmp_path: Path) -> None:
    images, _ = together(open_data(write_idx(tmp_path), "mnist"), 8)
    assert images.dtype == np.float32
    assert np.array_equal(images, GREY[:, None].astype(np.float32) / np.float32(255))


def test_the_preset_imagenet() -> None:
    pytest.importorskip("PIL", reason="resizing images needs Pillow, the extra `images`")
    flat = imagenet(np.full((300, 500, 3), (255, 0, 128), np.uint8))
    assert flat.shape == (3, 224, 224)
    assert flat.dtype == np.float32
    expected = (np.float32([255, 0, 128]) / 255 - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    assert np.allclose(flat, expected[:, None, None], atol=1e-6)
    # A ramp of one grey level per column, as large as the resized image: the centre is cut out, rows and columns told apart.
    ramp = np.repeat(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 256, 0), 3, 2)
    row = imagenet(ramp)[0, 0] * np.float32(0.229) + np.float32(0.485)
    assert np.allclose(row * 255, np.arange(16, 240), atol=1e-3)
    assert imagenet(RGB[0]).shape == imagenet(np.zeros((257, 900, 3), np.uint8)).shape == (3, 224, 224)


def test_a_function_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "prepare.py").write_text(
        "import numpy as np\n"
        "def halve(image):\n    return image[None] / np.float32(2)\n"
        "def named(image):\n    return {'a': image, 'b': image + 1}\n"
        "def nothing(image):\n    pass\n"
        "def fails(image):\n    return image['x']\n"
    )
    spec = write_idx(tmp_path)
    images, _ = together(open_data(spec, f"{tmp_path}/prepare.py:halve"), 8)
    assert np.array_equal(images, GREY[:, None] / np.float32(2))
    batch = next(open_data(spec, f"{tmp_path}/prepare.py:named").batches(3))
    assert np.array_equal(batch.inputs["b"], GREY[:3] + 1)
    with pytest.raises(InputError, match=r"sample 0.*returns nothing"):
        next(open_data(spec, f"{tmp_path}/prepare.py:nothing").batches(3))
    with pytest.raises(InputError, match=r"sample 2.*IndexError in line 9 of"):
        next(open_data(spec, f"{tmp_path}/prepare.py:fails").batches(3, start=2))


# -- what is refused ------------------------------------------------------------------------------------------------------


def broken(name: str, content: bytes) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        (folder / name).write_bytes(content)
        return str(folder / name)

    return write


def arrays(**content: np.ndarray) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        np.savez(folder / "d.npz", **content)
        return str(folder / "d.npz")

    return write


def cut(write: Callable[[Path], str], name: str, size: int) -> Callable[[Path], str]:
    def write_and_cut(folder: Path) -> str:
        spec = write(folder)
        (folder / name).write_bytes((folder / name).read_bytes()[:size])
        return spec

    return write_and_cut


def then(write: Callable[[Path], str], suffix: str) -> Callable[[Path], str]:
    return lambda folder: write(folder).partition(":")[0] + suffix


REFUSED: dict[str, tuple[Callable[[Path], str], str]] = {
    "missing": (lambda folder: f"{folder}/no.npz", "does not exist"),
    "unknown suffix": (broken("a.dat", b"x"), "does not tell its format"),
    "unknown format": (then(write_npz, ":nps"), "no format 'nps'"),
    "folder of IDX": (lambda folder: write_idx(folder).partition(":")[0], ":idx-test or"),
    "other split": (then(write_idx, ":idx-train"), "neither train-images-idx3-ubyte nor"),
    "empty folder": (lambda folder: str(folder), "holds no folders"),
    "folder as file": (lambda folder: f"{folder}:npz", "is a folder"),
    "IDX cut off": (cut(write_idx, "t10k-images-idx3-ubyte", 5000), "cut off"),
    "IDX without header": (cut(write_idx, "t10k-labels-idx1-ubyte", 2), "cut off"),
    "gzip cut off": (cut(write_idx_gz, "train-images-idx3-ubyte.gz", 9000), "cut off"),
    "no IDX": (broken("a-idx3-ubyte", b"P5 28 28 255 and so on"), "no labels are beside"),
    "CIFAR cut off": (lambda folder: broken("c.bin", b"x" * 3000)(folder) + ":cifar10", "no multiple of 3,073"),
    "CIFAR missing": (lambda folder: f"{folder}:cifar10-test", "test_batch.bin"),
    "no zip": (broken("a.npz", b"PK\x03\x04 and no more"), "damaged or no .npz"),
    "no labels": (arrays(image=GREY), "none of its arrays is called"),
    "two labels": (arrays(image=GREY, y=LABELS, label=LABELS), "several arrays could be the labels: y, label.*INPUT=ARRAY"),
    "labels only": (arrays(y=LABELS), "no inputs"),
    "lengths": (arrays(image=GREY, y=LABELS[:3]), "`image` 23, `y` 3"),
    "number": (arrays(image=GREY, y=np.int64(3)), "single number"),
    "Fortran": (arrays(image=np.asfortranarray(GREY), y=LABELS), "Fortran order"),
    "objects": (arrays(image=np.array([{}] * COUNT), y=LABELS), "Python objects"),
    "no such array": (then(write_npz, ":image=images,label=label"), "no array `images`"),
    "half a name": (then(write_npz, ":image=,label=label"), "not of the form"),
    "label alone": (then(write_npz, ":label=label"), "name the inputs, too"),
    "csv without header": (broken("a.csv", b"a.png,3\n"), "the first line has to name the columns"),
    "csv columns": (broken("a.csv", b"path,label\na.png\n"), "has 1 columns"),
    "csv label": (broken("a.csv", b"path,label\na.png,cat\n"), "'cat' is no number"),
    "csv empty": (broken("a.csv", b"path,label\n"), "lists no files"),
    "jsonl": (broken("a.jsonl", b'{"path": "a.npy"}\n'), "entry 1 is not of the form"),
    "no JSON": (broken("a.jsonl", b"a.npy 3\n"), "is no JSON"),
    "file of the list": (broken("a.csv", b"path,label\nnot.npy,3\n"), "not.npy cannot be read"),
    "loader without name": (lambda folder: write_loader(folder).rpartition(":")[0], "name the loader"),
    "no such loader": (then(write_loader, ":nothing"), "defines no `nothing`"),
    "no iterable": (then(write_loader, ":number"), "is a int and not an iterable"),
    "loader fails": (then(write_loader, ":broken"), "RuntimeError in line 13 of .*no more"),
    "loader has a mistake": (lambda folder: broken("l.py", b"def f(:\n")(folder) + ":f", "SyntaxError"),
}


@pytest.mark.parametrize(("write", "message"), REFUSED.values(), ids=list(REFUSED))
def test_what_cannot_be_read_is_refused(write: Callable[[Path], str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        for _ in open_data(write(tmp_path)).batches(5):
            pass


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([GREY], "item 0 is a ndarray and not a pair"),
        ([(GREY, LABELS[:3])], "differ in their first extent"),
        ([(GREY[0], 1), (GREY[0][:5], 1)], "do not stack"),
        ([({"a": GREY[0]}, 1), ({"b": GREY[0]}, 1)], "do not stack"),
    ],
)
def test_pairs_that_make_no_batches(pairs: list[object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(open_iterable(pairs).batches(4))


@pytest.mark.parametrize("stated", ["imagnet", "nothing.py:f", "x.txt:f"])
def test_an_unknown_preprocessing(stated: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="preprocessing"):
        open_data(write_idx(tmp_path), stated)


def test_a_preset_says_what_it_takes(tmp_path: Path) -> None:
    for preset, message in (("imagenet", r"RGB images \[H, W, 3\], and this is uint8 \[28, 28\]"), ("mnist", "grey")):
        spec = write_idx(tmp_path) if preset == "imagenet" else str(SAMPLE)
        with pytest.raises(InputError, match=message):
            next(open_data(spec, preset).batches(2))


# -- memory ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["idx", "npz", "npz, packed", "loader"])
def test_memory_does_not_grow_with_the_data(form: str, tmp_path: Path) -> None:
    count = 20_000  # of 784 bytes, 16 MB in all
    images, labels = np.zeros((count, 28, 28), np.uint8), np.zeros(count, np.uint8)
    if form == "idx":
        (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
        (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))
        spec = f"{tmp_path}:idx-test"
    elif form == "loader":
        text = "import numpy as np\ndef f():\n    for _ in range(200):\n        yield np.zeros((100, 28, 28)), np.zeros(100)\n"
        (tmp_path / "l.py").write_text(text)
        spec = f"{tmp_path}/l.py:f"
    else:
        (np.savez_compressed if "packed" in form else np.savez)(tmp_path / "d.npz", image=images, label=labels)
        spec = f"{tmp_path}/d.npz"
    del images
    tracemalloc.start()
    total = sum(len(batch) for batch in open_data(spec).batches(64))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == count
    assert peak < 4e6
