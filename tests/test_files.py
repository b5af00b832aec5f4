"""Files: external data in every layout, bad input, and writing that fails half-way."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import resource
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold import pipeline
from bnfold.errors import BnfoldError, EnvironmentUnfit, InputError
from bnfold.runtime.verify import Verification

ROOT = Path(__file__).resolve().parents[1]


# -- external data: layouts -----------------------------------------------------------------------------------------------


class Layout:
    """Puts the tensors of a model into external files, as `place(tensor number, name)` says.

    Args:
        place: gives the location, and the offset or None for the end of the file; or None for a tensor that stays inside.
        keys: the entries that are written beside `location`.
    """

    def __init__(self, place, keys=("offset", "length"), extra=()):
        self.place, self.keys, self.extra = place, keys, extra

    def save(self, model: onnx.ModelProto, path: Path, tensors) -> None:
        model = onnx.ModelProto.FromString(model.SerializeToString())
        path.parent.mkdir(parents=True, exist_ok=True)
        for number, tensor in enumerate(list(tensors(model))):
            place = self.place(number, tensor.name)
            if place is not None:
                self.move_out(tensor, path.parent, *place)
        path.write_bytes(model.SerializeToString())

    def move_out(self, tensor: onnx.TensorProto, folder: Path, location: str, offset: int | None) -> None:
        file = folder / location
        file.parent.mkdir(parents=True, exist_ok=True)
        content = bytearray(file.read_bytes() if file.exists() else b"")
        start = len(content) if offset is None else offset
        end = start + len(tensor.raw_data)
        content.extend(b"\xaa" * (end - len(content)))  # not zero, so that a wrong offset shows
        content[start:end] = tensor.raw_data
        file.write_bytes(content)
        values = {"offset": start, "length": len(tensor.raw_data)}
        point(tensor, location, **{key: values[key] for key in self.keys}, **dict(self.extra))


def point(tensor: onnx.TensorProto, location: str | None, **entries: object) -> None:
    """Makes `tensor` external."""
    for field in ("raw_data", "float_data", "external_data"):
        tensor.ClearField(field)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))


LAYOUTS = {
    "one file": Layout(lambda number, name: ("weights.bin", None)),
    "two files": Layout(lambda number, name: (f"weights{number % 2}.bin", None)),
    "a file each": Layout(lambda number, name: (f"{name}.bin", None)),
    "a file each, only located": Layout(lambda number, name: (f"{name}.bin", None), keys=()),
    "offsets of any kind": Layout(lambda number, name: ("weights.bin", 1 + 4099 * number)),
    "pages": Layout(lambda number, name: ("weights.bin", 4096 * number)),
    "backwards": Layout(lambda number, name: ("weights.bin", 4096 * (40 - number))),
    "a subfolder": Layout(lambda number, name: ("data/deep er/weights.bin", None)),
    "a dot in the path": Layout(lambda number, name: ("./data/../weights.bin", None)),
    "a name that is not ASCII": Layout(lambda number, name: ("вага %20.bin", None)),
    "no suffix": Layout(lambda number, name: ("weights", None)),
    "torch's name": Layout(lambda number, name: ("model.onnx.data", None)),
    "the large ones only": Layout(lambda number, name: ("weights.bin", None) if name.endswith("weight") else None),
    "the statistics only": Layout(lambda number, name: ("weights.bin", None) if name.endswith(("mean", "var")) else None),
    "what does not fold only": Layout(lambda number, name: ("weights.bin", None) if name in ("factor", "nothing") else None),
    "checksums": Layout(lambda number, name: ("weights.bin", None), extra=[("checksum", "0" * 40)]),
}


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return LAYOUTS[request.param]


@pytest.fixture
def inline(network):
    return network()


@pytest.fixture
def expected(inline):
    """The folded network, when no file is involved."""
    result = bnfold.fold(inline)
    assert len(result.plan.folds) == 3
    return result.model


@pytest.fixture
def loaded(loaded):
    """The same without what a saved model says about where it comes from, which a fold in memory does not."""

    def read(path):
        model = loaded(path)
        kept = [entry for entry in model.metadata_props if not entry.key.startswith("bnfold.")]
        del model.metadata_props[:]
        model.metadata_props.extend(kept)
        return model

    return read


@pytest.fixture
def source(tmp_path):
    return tmp_path / "in" / "model.onnx"


def external_files(path: Path, tensors) -> set[str]:
    model = onnx.load(path, load_external_data=False)
    return {entry.value for tensor in tensors(model) for entry in tensor.external_data if entry.key == "location"}


@pytest.mark.parametrize("destination", ["in/folded.onnx", "out/folded.onnx", "out/model.onnx"])
def test_external_data_folds_like_inline_data(layout, inline, expected, source, destination, tensors, loaded, snapshot, tmp_path):
    layout.save(inline, source, tensors)
    before = snapshot(source.parent)
    target = tmp_path / destination
    target.parent.mkdir(exist_ok=True)
    report = bnfold.optimize(source, target)
    assert report.ok
    assert report.written
    assert len(report.plan.folds) == 3
    assert loaded(target) == expected
    assert before.items() <= snapshot(source.parent).items()
    new = {name for name in snapshot(tmp_path) if not name.endswith("/")} - {f"in/{name}" for name in before}
    folder = Path(destination).parent
    assert new == {destination, *(str(folder / name) for name in external_files(target, tensors))}
    assert report.size_after_bytes == sum((tmp_path / name).stat().st_size for name in new)


def test_external_data_folds_like_inline_data_in_place(layout, inline, expected, source, tensors, loaded):
    layout.save(inline, source, tensors)
    report = bnfold.optimize(source, source)
    assert report.written
    assert loaded(source) == expected


def test_external_data_folds_in_memory(layout, inline, expected, source, tensors, snapshot):
    layout.save(inline, source, tensors)
    before = snapshot(source.parent)
    folded = bnfold.fold(source).model
    for tensor in tensors(folded):
        tensor.ClearField("data_location")
    assert folded == expected
    assert snapshot(source.parent) == before


def test_external_data_is_found_from_another_folder(inline, expected, source, tensors, loaded, tmp_path, monkeypatch):
    LAYOUTS["one file"].save(inline, source, tensors)
    (tmp_path / "out").mkdir()
    (tmp_path / "weights.bin").write_bytes(b"\xee" * 100_000)  # of the same name where we stand: not to be read
    monkeypatch.chdir(tmp_path)
    assert bnfold.plan("in/model.onnx").folds
    assert bnfold.optimize("in/model.onnx", "out/folded.onnx").ok
    assert loaded(tmp_path / "out" / "folded.onnx") == expected
    assert len(bnfold.fold("in/model.onnx").plan.folds) == 3
    monkeypatch.chdir(source.parent)
    assert bnfold.optimize("model.onnx", "folded.onnx").ok
    assert loaded(source.parent / "folded.onnx") == expected


def test_a_region_that_several_tensors_share_is_not_changed_under_the_others(inline, source, tensors, loaded):
    # first.gamma also scales the output, and both Conv of the same shape read one weight: two maps, one region.
    LAYOUTS["pages"].save(inline, source, tensors)
    model = onnx.load(source, load_external_data=False)
    by_name = {tensor.name: tensor for tensor in tensors(model)}
    for name, other in (("body.weight", "second.weight"), ("factor", "first.gamma"), ("second.bias", "first.bias")):
        shape = list(by_name[name].dims)
        entries = [(entry.key, entry.value) for entry in by_name[other].external_data]
        if name == "factor":
            entries[-1] = ("length", "4")
        by_name[name].ClearField("external_data")
        for key, value in entries:
            by_name[name].external_data.add(key=key, value=value)
        assert list(by_name[name].dims) == shape
    onnx.save(model, source)
    inside = loaded(source)
    for destination in (source.with_name("folded.onnx"), source):
        assert bnfold.optimize(source, destination).ok
        assert loaded(destination) == bnfold.fold(inside).model


def test_regions_that_overlap_are_read_as_they_are(inline, source, tensors, loaded):
    LAYOUTS["one file"].save(inline, source, tensors)
    model = onnx.load(source, load_external_data=False)
    for tensor in tensors(model):
        if tensor.name in ("first.gamma", "first.beta", "first.bias", "second.weight"):
            entry = next(entry for entry in tensor.external_data if entry.key == "offset")
            entry.value = str(int(entry.value) - 8)
    onnx.save(model, source)
    inside = loaded(source)
    assert bnfold.optimize(source, source).ok
    assert loaded(source) == bnfold.fold(inside).model


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_types_fold_from_external_data(inline, source, tensors, loaded, dtype):
    for tensor in tensors(inline):
        name, array = tensor.name, numpy_helper.to_array(tensor).astype(dtype)
        tensor.CopyFrom(numpy_helper.from_array(array, name))
    inline.graph.input[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    inline.graph.output[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for branch in inline.graph.node[6].attribute:
        branch.g.output[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    LAYOUTS["offsets of any kind"].save(inline, source, tensors)
    bnfold.optimize(source, source.with_name("folded.onnx"), verify=False)
    assert loaded(source.with_name("folded.onnx")) == bnfold.fold(inline).model


def test_a_training_step_s_external_data_comes_along(inline, source, tensors, loaded, tmp_path):
    algorithm = helper.make_graph([], "algorithm", [], [], [numpy_helper.from_array(np.float32([0.1]), "rate")])
    inline.training_info.append(onnx.TrainingInfoProto(algorithm=algorithm))
    LAYOUTS["one file"].save(inline, source, tensors)
    (tmp_path / "out").mkdir()
    bnfold.optimize(source, tmp_path / "out" / "folded.onnx", verify=False)
    (rate,) = onnx.load(tmp_path / "out" / "folded.onnx", load_external_data=False).training_info[0].algorithm.initializer
    place = {entry.key: entry.value for entry in rate.external_data}
    content = (tmp_path / "out" / place["location"]).read_bytes()
    assert content[int(place["offset"]) :][:4] == np.float32(0.1).tobytes()


def test_a_function_s_external_data_folds_and_comes_along(tmp_path):
    rng = np.random.default_rng(1)
    values = {"W": rng.normal(size=(4, 3, 1, 1)), "gamma": rng.normal(size=4), "beta": np.zeros(4), "mean": np.zeros(4)}
    values = {name: value.astype(np.float32) for name, value in {**values, "var": np.ones(4)}.items()}
    weights = {name: numpy_helper.from_array(value, name) for name, value in values.items()}
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    Layout(None).move_out(weights["W"], tmp_path / "in", "weights.bin", 16)
    constants = [helper.make_node("Constant", [], [name], value=weight) for name, weight in weights.items()]
    conv = helper.make_node("Conv", ["x", "W"], ["c"], name="conv")
    norm = helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["y"], epsilon=0.0)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    function = helper.make_function("local", "f", ["x"], ["y"], [*constants, conv, norm], opsets[:1])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("f", ["x"], ["y"], domain="local")], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=8)
    (tmp_path / "in" / "model.onnx").write_bytes(model.SerializeToString())
    expected = (values["W"].astype(np.float64) * values["gamma"].reshape(-1, 1, 1, 1)).astype(np.float32)
    bnfold.optimize(tmp_path / "in" / "model.onnx", tmp_path / "out" / "out.onnx", verify=False)
    (made,) = onnx.load(tmp_path / "out" / "out.onnx", load_external_data=False).functions
    weight = next(node for node in made.node if node.output[0] == "W").attribute[0].t
    place = {entry.key: entry.value for entry in weight.external_data}
    content = (tmp_path / "out" / place["location"]).read_bytes()[int(place["offset"]) :][: int(place["length"])]
    assert content == expected.tobytes()
    (folded,) = bnfold.fold(tmp_path / "in" / "model.onnx").model.functions
    weight = next(node for node in folded.node if node.output[0] == "W").attribute[0].t
    np.testing.assert_array_equal(numpy_helper.to_array(weight), expected)


# -- external data: nothing to fold ---------------------------------------------------------------------------------------


def test_nothing_to_fold_copies_the_model_and_its_data(layout, inline, source, tensors, loaded, snapshot, tmp_path):
    layout.save(inline, source, tensors)
    before = snapshot(source.parent)
    (tmp_path / "out").mkdir()
    report = bnfold.optimize(source, tmp_path / "out" / "copy.onnx", keep=["*"])
    assert report.identical
    assert report.written
    assert loaded(tmp_path / "out" / "copy.onnx") == inline
    after = {name: content for name, content in snapshot(tmp_path / "out").items() if not name.endswith("/")}
    assert after.pop("copy.onnx") == before["model.onnx"]
    assert after.items() <= before.items()
    assert snapshot(source.parent) == before


def test_nothing_to_fold_leaves_the_data_where_it_is_in_the_same_folder(layout, inline, source, tensors, snapshot):
    layout.save(inline, source, tensors)
    before = snapshot(source.parent)
    bnfold.optimize(source, source.with_name("copy.onnx"), keep=["*"])
    assert snapshot(source.parent) == before | {"copy.onnx": before["model.onnx"]}
    bnfold.optimize(source, source, keep=["*"])
    assert snapshot(source.parent) == before | {"copy.onnx": before["model.onnx"]}


@pytest.mark.parametrize("destination", ["in/copy.onnx", "in/model.onnx", "out/copy.onnx"])
def test_a_copy_is_as_large_as_its_source(destination, inline, source, tensors, tmp_path):
    LAYOUTS["one file"].save(inline, source, tensors)
    (tmp_path / "out").mkdir()
    for _ in range(2):  # the second time, the data is there already
        report = bnfold.optimize(source, tmp_path / destination, keep=["*"])
        assert report.size_after_bytes == report.source.size_bytes


def test_a_second_copy_replaces_the_first_together_with_its_data(network, source, tensors, loaded, tmp_path):
    (tmp_path / "out").mkdir()
    for seed in (0, 1):
        shutil.rmtree(source.parent, ignore_errors=True)
        LAYOUTS["one file"].save(network(seed), source, tensors)
        bnfold.optimize(source, tmp_path / "out" / "copy.onnx", keep=["*"])
        assert loaded(tmp_path / "out" / "copy.onnx") == network(seed)


def test_a_copy_does_not_overwrite_data_that_is_somebody_else_s(network, inline, source, tensors, snapshot, tmp_path):
    LAYOUTS["one file"].save(inline, source, tensors)
    LAYOUTS["one file"].save(network(1), tmp_path / "out" / "other.onnx", tensors)
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match=r"weights\.bin"):
        bnfold.optimize(source, tmp_path / "out" / "copy.onnx", keep=["*"])
    assert snapshot(tmp_path) == before


# -- external data: what is there already ---------------------------------------------------------------------------------


def test_an_existing_output_is_replaced_together_with_its_data(network, source, tensors, loaded, snapshot, tmp_path):
    (tmp_path / "out").mkdir()
    names = []
    for seed in (0, 1):
        shutil.rmtree(source.parent, ignore_errors=True)
        LAYOUTS["one file"].save(network(seed), source, tensors)
        bnfold.optimize(source, tmp_path / "out" / "folded.onnx")
        assert loaded(tmp_path / "out" / "folded.onnx") == bnfold.fold(network(seed)).model
        names.append(set(snapshot(tmp_path / "out")))
    assert names[0] == names[1]


@pytest.mark.parametrize("suffix", [".data", "_data", ".bin"])
def test_the_source_s_data_is_not_overwritten_when_it_has_the_name_that_the_output_s_would_get(
    inline, source, tensors, loaded, snapshot, suffix
):
    # What is left when somebody renames an earlier output and forgets its data.
    Layout(lambda number, name: (f"folded.onnx{suffix}", None)).save(inline, source, tensors)
    before = snapshot(source.parent)
    message = refusal(lambda: bnfold.optimize(source, source.with_name("folded.onnx")))
    assert not message or f"folded.onnx{suffix}" in message
    assert message or loaded(source.with_name("folded.onnx")) == bnfold.fold(inline).model
    assert before.items() <= snapshot(source.parent).items()


def test_the_data_of_another_model_is_not_overwritten(network, inline, source, tensors, snapshot):
    # other.onnx keeps its weights in folded.onnx.data, and no folded.onnx is there that they could belong to.
    LAYOUTS["one file"].save(inline, source, tensors)
    other = Layout(lambda number, name: ("folded.onnx.data", None))
    other.save(network(1), source.with_name("other.onnx"), tensors)
    before = snapshot(source.parent)
    message = refusal(lambda: bnfold.optimize(source, source.with_name("folded.onnx")))
    assert not message or "folded.onnx.data" in message
    assert before.items() <= snapshot(source.parent).items()


def test_a_destination_that_links_to_the_source_does_not_change_the_source(inline, source, snapshot, loaded):
    source.parent.mkdir()
    onnx.save(inline, source)
    before = source.read_bytes()
    link = source.with_name("link.onnx")
    for make in (link.symlink_to, link.hardlink_to):
        link.unlink(missing_ok=True)
        make(source)
        assert bnfold.optimize(source, link).ok
        assert source.read_bytes() == before
        assert loaded(link) == bnfold.fold(inline).model


@pytest.mark.parametrize("name", ["folded", "модель 1.onnx", ".hidden.onnx", "a" * 235 + ".onnx", "-dash.onnx", "data.onnx.data"])
def test_any_file_name_will_do(inline, expected, source, tensors, loaded, name):
    LAYOUTS["one file"].save(inline, source, tensors)
    assert bnfold.optimize(source, source.with_name(name)).written
    assert loaded(source.with_name(name)) == expected


def test_an_output_can_be_read_by_whom_the_umask_lets(inline, source):
    source.parent.mkdir()
    onnx.save(inline, source)
    old = os.umask(0o027)
    try:
        bnfold.optimize(source, source.with_name("folded.onnx"), verify=False)
        bnfold.optimize(source, source.with_name("copy.onnx"), keep=["*"])
    finally:
        os.umask(old)
    for name in ("folded.onnx", "copy.onnx"):
        assert stat.S_IMODE(source.with_name(name).stat().st_mode) == 0o640


# -- links ----------------------------------------------------------------------------------------------------------------


def test_a_model_that_is_a_link(inline, expected, source, loaded, snapshot, tmp_path):
    source.parent.mkdir()
    onnx.save(inline, source)
    before = source.read_bytes()
    link = tmp_path / "link.onnx"
    link.symlink_to(source)
    assert bnfold.optimize(link, tmp_path / "folded.onnx").ok
    assert loaded(tmp_path / "folded.onnx") == expected
    assert source.read_bytes() == before
    assert set(snapshot(tmp_path)) == {"folded.onnx", "in/", "in/model.onnx", "link.onnx"}
    assert bnfold.optimize(link, link).ok
    assert loaded(link) == expected


def test_data_that_is_a_link_inside_the_folder(inline, expected, source, tensors, loaded, tmp_path):
    LAYOUTS["one file"].save(inline, source, tensors)
    source.with_name("weights.bin").rename(source.with_name("really.bin"))
    source.with_name("weights.bin").symlink_to("really.bin")
    (tmp_path / "out").mkdir()
    assert bnfold.plan(source).folds
    bnfold.optimize(source, tmp_path / "out" / "folded.onnx", verify=False)  # onnxruntime 1.31 takes no links in bodies
    assert loaded(tmp_path / "out" / "folded.onnx") == expected
    folded = bnfold.fold(source).model
    for tensor in tensors(folded):
        tensor.ClearField("data_location")
    assert folded == expected


def test_a_model_hub_s_cache_of_links(inline, expected, source, tensors, loaded, tmp_path):
    LAYOUTS["one file"].save(inline, source, tensors)
    snapshot_folder, blobs = tmp_path / "hub" / "snapshots" / "0f", tmp_path / "hub" / "blobs"
    snapshot_folder.mkdir(parents=True)
    blobs.mkdir()
    for name, blob in (("model.onnx", "aa"), ("weights.bin", "bb")):
        source.with_name(name).rename(blobs / blob)
        (snapshot_folder / name).symlink_to(Path("..") / ".." / "blobs" / blob)
    report = bnfold.optimize(snapshot_folder / "model.onnx", tmp_path / "folded.onnx", verify=False)
    assert report.written
    assert loaded(tmp_path / "folded.onnx") == expected
    folded = bnfold.fold(snapshot_folder / "model.onnx").model
    for tensor in tensors(folded):
        tensor.ClearField("data_location")
    assert folded == expected


# -- external data that cannot be used ------------------------------------------------------------------------------------

ENTRY_POINTS = {
    "optimize": lambda path: bnfold.optimize(path, path.with_name("out.onnx")),
    "optimize, not verified": lambda path: bnfold.optimize(path, path.with_name("out.onnx"), verify=False),
    "optimize in place": lambda path: bnfold.optimize(path, path),
    "fold": bnfold.fold,
    "plan": lambda path: bnfold.plan(path),
    "inspect": bnfold.inspect,
}


def assert_refused(path: Path, read, *words: str) -> None:
    """Expects one readable `InputError` with `words` in it from every entry point, and an untouched folder."""
    before, wrong = read(path.parent), {}
    for name, entry_point in ENTRY_POINTS.items():
        try:
            entry_point(path)
        except InputError as error:
            if complaint := unreadable(str(error), words):
                wrong[name] = complaint
        except Exception as error:
            wrong[name] = f"{type(error).__name__}: {error}"
        else:
            wrong[name] = "was taken"
        assert read(path.parent) == before, name
    assert wrong == {}


def unreadable(message: str, words: tuple[str, ...]) -> str:
    missing = [word for word in words if word not in message]
    return f"{missing} missing, or no single line: {message}" if missing or "\n" in message or len(message) > 1000 else ""


def refusal(call: Callable[[], object], kinds: type | tuple[type, ...] = InputError) -> str:
    """What an error of these kinds says; "" where there was none."""
    try:
        call()
    except kinds as error:
        return str(error) or "nothing was said"
    return ""


@contextmanager
def refused(folder: Path, read, *words: str):
    """Expects one readable `InputError` with `words` in it, and an untouched folder."""
    before = read(folder)
    with pytest.raises(InputError) as caught:
        yield
    assert not unreadable(str(caught.value), words)
    assert read(folder) == before


OUTSIDE = 4000  # beyond the end of weights.bin
BAD_PLACES = {
    "missing": ("absent.bin", {"offset": 0, "length": 432}),
    "missing subfolder": ("data/absent.bin", {}),
    "short": ("weights.bin", {"offset": OUTSIDE - 432, "length": 432}),
    "short, no length": ("weights.bin", {"offset": OUTSIDE - 432}),
    "offset beyond the end": ("weights.bin", {"offset": 10**15, "length": 432}),
    "offset beyond 64 bits": ("weights.bin", {"offset": 10**30, "length": 432}),
    "length too small": ("weights.bin", {"offset": 0, "length": 428}),
    "length too large": ("weights.bin", {"offset": 0, "length": 436}),
    "negative offset": ("weights.bin", {"offset": -4, "length": 432}),
    "negative length": ("weights.bin", {"offset": 0, "length": -432}),
    "offset no number": ("weights.bin", {"offset": "start", "length": 432}),
    "length no number": ("weights.bin", {"offset": 0, "length": "0x1b0"}),
    "empty offset": ("weights.bin", {"offset": "", "length": 432}),
    "parent": ("../outside.bin", {"offset": 0, "length": 432}),
    "parent, by way of a folder": ("data/../../outside.bin", {}),
    "absolute": ("{outside}", {}),
    "absolute and inside": ("{inside}", {}),
    "link to a file outside": ("link.bin", {}),
    "link to a folder outside": ("linked/outside.bin", {}),
    "link to itself": ("loop.bin", {}),
    "link to nothing": ("dangling.bin", {}),
    "a folder": ("data", {}),
    "the model's own folder": (".", {}),
    "a file as a folder": ("weights.bin/deeper", {}),
    "a device": ("/dev/zero", {}),
    "no location": (None, {"offset": 0, "length": 432}),
    "empty location": ("", {}),
    "a zero byte": ("weights\0.bin", {}),
    "a name too long": ("w" * 5000, {}),
}


@pytest.mark.parametrize("case", BAD_PLACES)
def test_external_data_that_cannot_be_used_is_refused(case, inline, source, tensors, snapshot, tmp_path):
    location, entries = BAD_PLACES[case]
    LAYOUTS["one file"].save(inline, source, tensors)
    outside = tmp_path / "outside.bin"
    outside.write_bytes(bytes(1000))
    links = {"link.bin": outside, "linked": tmp_path, "loop.bin": "loop.bin", "dangling.bin": "nowhere.bin"}
    for name, target in links.items():
        (source.parent / name).symlink_to(target)
    (source.parent / "data").mkdir()
    if location is not None:
        location = location.format(outside=outside, inside=source.with_name("weights.bin"))
    model = onnx.load(source, load_external_data=False)
    weight = next(tensor for tensor in tensors(model) if tensor.name == "first.weight")
    point(weight, location, **entries)
    onnx.save(model, source)
    assert source.with_name("weights.bin").stat().st_size < OUTSIDE
    shown = [] if location is None or len(location) > 100 or "\0" in location else [location]
    assert_refused(source, no_links(snapshot), "first.weight", "model.onnx", *shown)


def no_links(snapshot):
    """A snapshot that passes over links, which need not lead anywhere."""

    def read(folder: Path) -> dict[str, bytes]:
        links = {path.name: os.readlink(path) for path in folder.iterdir() if path.is_symlink()}
        for name in links:
            (folder / name).unlink()
        try:
            return snapshot(folder) | {name: os.fsencode(target) for name, target in links.items()}
        finally:
            for name, target in links.items():
                (folder / name).symlink_to(target)

    return read


@pytest.mark.parametrize("name", ["first.gamma", "factor", "nothing", "body.weight", "body.var"])
def test_missing_external_data_is_named_wherever_its_tensor_is(name, inline, source, tensors, snapshot):
    source.parent.mkdir()
    point(next(tensor for tensor in tensors(inline) if tensor.name == name), "absent.bin", offset=0)
    onnx.save(inline, source)
    assert_refused(source, snapshot, name, "absent.bin", "model.onnx")


def test_a_file_that_becomes_short_while_it_is_read_is_refused(inline, source, tensors, snapshot):
    LAYOUTS["one file"].save(inline, source, tensors)

    def shorten(*arguments):
        result = original(*arguments)
        os.truncate(source.with_name("weights.bin"), 1000)
        return result

    original = pipeline.decide
    with mock.patch.object(pipeline, "decide", shorten), pytest.raises(InputError, match=r"weights\.bin"):
        bnfold.optimize(source, source.with_name("out.onnx"))
    assert set(snapshot(source.parent)) == {"model.onnx", "weights.bin"}


@pytest.mark.parametrize("function", [bnfold.fold, bnfold.plan])
def test_a_model_in_memory_does_not_say_where_its_external_data_is(function, inline, source, tensors, monkeypatch):
    LAYOUTS["one file"].save(inline, source, tensors)
    model = onnx.load(source, load_external_data=False)
    for folder in (source.parent, source.parent.parent):  # it must not depend on where we stand
        monkeypatch.chdir(folder)
        with pytest.raises(InputError, match=r"first\.weight"):
            function(model)


# -- files that are no models ---------------------------------------------------------------------------------------------


def zip_bytes(path: Path) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
    return path.read_bytes()


NO_MODELS = {
    "empty": b"",
    "one zero": b"\0",
    "zeros": bytes(1000),
    "a line": b"hello\n",
    "text": b"This is not a model.\n" * 50,
    "json": b'{"schema": 1, "ok": true}',
    "html": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "git lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 1234\n",
    "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x05hello\x94.",
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "utf-16": "a model".encode("utf-16"),
    "a tensor": numpy_helper.from_array(np.arange(6, dtype=np.float32), "x").SerializeToString(),
    "a graph": helper.make_graph([], "only", [], []).SerializeToString(),
    "a header": b"\x08\x08",
    "a varint without end": b"\xff" * 30,
    "a length without end": b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    "a group": b"\x3b\x3b\x3b\x3b",
    "deep groups": b"\x3b" * 10000,
    "field 0": b"\x02\x01a",
}


@pytest.mark.parametrize("kind", NO_MODELS)
def test_a_file_that_is_no_model_is_refused(kind, source, snapshot):
    source.parent.mkdir()
    source.write_bytes(NO_MODELS[kind])
    assert_refused(source, snapshot, "model.onnx")


def test_archives_and_random_bytes_are_refused(source, snapshot, tmp_path):
    source.parent.mkdir()
    contents = [random.Random(seed).randbytes(1 + 37 * seed) for seed in range(40)]
    for content in [zip_bytes(tmp_path / "x.zip"), *contents]:
        source.write_bytes(content)
        assert_refused(source, snapshot, "model.onnx")


PLACES_WITHOUT_A_MODEL = {
    "absent": "absent.onnx",
    "in an absent folder": "absent/model.onnx",
    "in a file": "file.onnx/model.onnx",
    "a link to nothing": "dangling.onnx",
    "a link to itself": "loop.onnx",
    "a name too long": "m" * 300 + ".onnx",
    "a folder": "folder",
    "a folder called like a model": "folder.onnx",
}


@pytest.mark.parametrize("kind", PLACES_WITHOUT_A_MODEL)
def test_what_is_no_file_is_refused(kind, tmp_path, snapshot):
    (tmp_path / "file.onnx").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "dangling.onnx").symlink_to("nowhere")
    (tmp_path / "loop.onnx").symlink_to("loop.onnx")
    place, read = PLACES_WITHOUT_A_MODEL[kind], no_links(snapshot)
    assert_refused(tmp_path / place, lambda folder: read(tmp_path), place[:100])


def test_a_file_that_cannot_be_read_is_refused():
    if not Path("/proc/self/mem").exists():
        pytest.skip("there is no /proc here, which has files that fail to be read")
    assert_refused(Path("/proc/self/mem"), lambda folder: None, "/proc/self/mem")


def cut_points(length: int) -> list[int]:
    evenly = [length * step // 40 for step in range(1, 40)]
    return sorted({*evenly, *range(1, 12), *range(length - 12, length)})


@pytest.mark.parametrize("name", ["lenet.onnx", "network"])
def test_a_model_cut_short_is_refused_or_a_shorter_model(name, inline, source, snapshot):
    source.parent.mkdir()
    whole = inline.SerializeToString() if name == "network" else (ROOT / "models" / name).read_bytes()
    refusals = 0
    for length in cut_points(len(whole)):
        for entry_point in ENTRY_POINTS.values():
            source.write_bytes(whole[:length])
            kinds = (InputError, EnvironmentUnfit) if length > len(whole) - 12 else InputError  # only the opset is missing
            message = refusal(partial(entry_point, source), kinds)
            if message:
                refusals += 1
                assert not unreadable(message, ("model.onnx",))
                assert snapshot(source.parent) == {"model.onnx": whole[:length]}
            source.with_name("out.onnx").unlink(missing_ok=True)
    assert refusals > 55 * len(ENTRY_POINTS)


def test_damaged_bytes_never_cause_anything_but_a_message(inline, source):
    source.parent.mkdir()
    whole = inline.SerializeToString()
    # The weights are most of the file, and damage there goes unnoticed: aim at what is between them.
    weights = [whole.find(tensor.raw_data) for tensor in inline.graph.initializer if len(tensor.raw_data) > 16]
    hidden = {
        place for start, tensor in zip(weights, inline.graph.initializer, strict=False) for place in range(start, start + 400)
    }
    places = [place for place in range(len(whole)) if place not in hidden]
    rng, failures = random.Random(5), {}
    for _ in range(500):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 8))):
            damaged[rng.choice(places)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        source.write_bytes(damaged)
        for name in ("plan", "optimize, not verified"):
            try:
                ENTRY_POINTS[name](source)
            except (InputError, EnvironmentUnfit):
                continue
            except Exception as error:
                failures.setdefault(re.sub(r"\d+", "N", f"{type(error).__name__}: {error}"), bytes(damaged).hex())
    assert not list(failures)


NAMES = [
    "network",
    "x",
    "y",
    "first.bn",
    "first.conv",
    "first.c",
    "first.n",
    "first.gamma",
    "first.weight",
    "then_branch",
    "body.n",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_not_utf_8_fold_or_are_refused(name, inline, source):
    # Names in the encoding of somebody's Windows: protobuf hands them out as bytes, and onnxruntime takes most of them.
    source.parent.mkdir()
    length = bytes([len(name)])
    renamed = length + b"\xcd\xf8" + name.encode()[2:] if len(name) > 1 else length + b"\xcd"
    source.write_bytes(inline.SerializeToString().replace(length + name.encode(), renamed))
    message = refusal(lambda: bnfold.optimize(source, source.with_name("out.onnx"), keep=["nothing"]))
    if message:
        assert not unreadable(message, ("model.onnx",))
        return
    report = bnfold.optimize(source, source.with_name("out.onnx"))
    assert report.ok
    assert len(report.plan.folds) == 3
    assert json.loads(json.dumps(report.to_dict()))["folded"] == 3
    assert run("inspect", source, "--json").returncode == 0


# -- invalid graphs -------------------------------------------------------------------------------------------------------


def broken(change) -> onnx.ModelProto:
    """x → Conv → BatchNormalization → y, and a change to it."""
    rng = np.random.default_rng(3)
    values = {"W": rng.normal(size=(4, 3, 1, 1)), "gamma": np.ones(4), "beta": np.ones(4), "mean": np.ones(4), "var": np.ones(4)}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "W"], ["c"], name="conv"),
            helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["y"], name="bn"),
        ],
        "broken",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    change(model.graph)
    return model


def adding(*nodes: onnx.NodeProto):
    return lambda graph: graph.node.extend(nodes)


def first_weight(**fields):
    def change(graph):
        weight = graph.initializer[0]
        for name, value in fields.items():
            if isinstance(value, list):
                del getattr(weight, name)[:]
                getattr(weight, name).extend(value)
            else:
                setattr(weight, name, value)

    return change


INVALID = {
    "an input that nothing makes": (lambda graph: graph.node[0].input.__setitem__(0, "z"), ["`z`", "conv"]),
    "a weight that nothing makes": (lambda graph: graph.node[0].input.__setitem__(1, "V"), ["`V`", "conv"]),
    "a parameter that nothing makes": (lambda graph: graph.node[1].input.__setitem__(4, "v"), ["`v`", "bn"]),
    "an output that nothing makes": (lambda graph: setattr(graph.output[0], "name", "z"), ["`z`"]),
    "a value made twice": (adding(helper.make_node("Relu", ["x"], ["c"], name="again")), ["`c`", "again"]),
    "a value made twice by one node": (adding(helper.make_node("Split", ["x"], ["s", "s"], name="again")), ["`s`", "again"]),
    "an input made again": (adding(helper.make_node("Relu", ["c"], ["x"], name="again")), ["`x`", "again"]),
    "an initializer made again": (adding(helper.make_node("Relu", ["c"], ["W"], name="again")), ["`W`", "again"]),
    "an initializer twice": (lambda graph: graph.initializer.append(graph.initializer[0]), ["`W`"]),
    "a circle": (lambda graph: graph.node[0].input.__setitem__(0, "y"), ["Conv `conv`", "BatchNormalization `bn`", "circle"]),
    "a bias that the operator makes itself": (lambda graph: graph.node[0].input.append("y"), ["Conv `conv`", "circle"]),
    "an input twice": (lambda graph: graph.input.append(graph.input[0]), ["`x`"]),
    "a sparse initializer and a dense one": (
        lambda graph: graph.sparse_initializer.append(onnx.SparseTensorProto(values=TensorProto(name="W"))),
        ["`W`"],
    ),
}


@pytest.mark.parametrize("kind", INVALID)
def test_an_invalid_graph_is_refused_and_says_where(kind, source, snapshot):
    change, words = INVALID[kind]
    source.parent.mkdir()
    onnx.save(broken(change), source)
    assert_refused(source, snapshot, *words)


ODD = {
    "too few values": first_weight(raw_data=b"1234"),
    "too many values": first_weight(raw_data=bytes(500)),
    "no values": lambda graph: graph.initializer[0].ClearField("raw_data"),
    "values in the wrong field": first_weight(raw_data=b"", int64_data=[1] * 12),
    "too few values of a parameter": lambda graph: setattr(graph.initializer[1], "raw_data", b"1234"),
    "a negative extent": first_weight(dims=[4, -3, 1, 1]),
    "a huge extent": first_weight(dims=[2**62, 2**62, 1, 1]),
    "a type that ONNX does not have": first_weight(data_type=999),
    "no type": first_weight(data_type=0),
    "a Conv without inputs": lambda graph: graph.node[0].ClearField("input"),
    "a normalization without outputs": lambda graph: graph.node[1].ClearField("output"),
    "a normalization with an output of no name": lambda graph: graph.node[1].output.__setitem__(0, ""),
    "a weight of strings": first_weight(data_type=TensorProto.STRING, raw_data=b"", string_data=[b"x"] * 12),
    "a weight of integers": first_weight(data_type=TensorProto.INT32),
    "a weight of complex numbers": first_weight(data_type=TensorProto.COMPLEX64, raw_data=bytes(96)),
    "a weight of 8-bit floats": first_weight(data_type=TensorProto.FLOAT8E4M3FN, raw_data=bytes(12)),
    "a weight of 4-bit integers": first_weight(data_type=TensorProto.INT4, raw_data=bytes(6)),
    "a weight without axes": first_weight(dims=[], raw_data=bytes(4)),
    "a weight with one axis": first_weight(dims=[12]),
    "a weight without channels": first_weight(dims=[0, 3, 1, 1], raw_data=b""),
    "no nodes": lambda graph: graph.ClearField("node"),
    "a normalization with one input": lambda graph: graph.node[1].input.__delitem__(slice(1, None)),
    "a normalization with no inputs": lambda graph: graph.node[1].ClearField("input"),
    "a normalization with empty inputs": lambda graph: graph.node[1].input.__setitem__(slice(1, None), ["", "", "", ""]),
    "a normalization of an empty name": lambda graph: graph.node[1].input.__setitem__(0, ""),
    "a normalization of a constant": lambda graph: graph.node[1].input.__setitem__(0, "W"),
    "a normalization of itself": lambda graph: graph.node[1].input.__setitem__(0, "y"),
    "a Conv with one input": lambda graph: graph.node[0].input.__delitem__(slice(1, None)),
    "a Conv with an empty weight": lambda graph: graph.node[0].input.__setitem__(1, ""),
    "a Conv without outputs": lambda graph: graph.node[0].ClearField("output"),
    "nodes in the wrong order": lambda graph: graph.node.sort(key=lambda node: node.op_type),
    "a node without a type": lambda graph: graph.node[0].ClearField("op_type"),
    "parameters of different lengths": lambda graph: graph.initializer[2].CopyFrom(
        numpy_helper.from_array(np.ones(3, np.float32), "beta")
    ),
    "parameters without elements": lambda graph: [
        tensor.CopyFrom(numpy_helper.from_array(np.ones(0, np.float32), tensor.name)) for tensor in graph.initializer[1:]
    ],
    "a parameter without axes": lambda graph: graph.initializer[2].CopyFrom(numpy_helper.from_array(np.float32(1), "beta")),
    "parameters with two axes": lambda graph: [
        tensor.CopyFrom(numpy_helper.from_array(np.ones((2, 2), np.float32), tensor.name)) for tensor in graph.initializer[1:]
    ],
    "an epsilon that is text": lambda graph: graph.node[1].attribute.append(helper.make_attribute("epsilon", "small")),
    "an epsilon that is a list": lambda graph: graph.node[1].attribute.append(helper.make_attribute("epsilon", [1.0, 2.0])),
    "an epsilon without a type": lambda graph: graph.node[1].attribute.add(name="epsilon"),
    "a training mode that is text": lambda graph: graph.node[1].attribute.append(helper.make_attribute("training_mode", "no")),
    "an epsilon twice": lambda graph: graph.node[1].attribute.extend(
        [helper.make_attribute("epsilon", each) for each in (0.1, 0.2)]
    ),
    "a Constant that holds nothing": lambda graph: graph.node.append(helper.make_node("Constant", [], ["k"])),
    "a Constant that holds two things": lambda graph: graph.node.append(
        helper.make_node("Constant", [], ["k"], value_float=1.0, value_ints=[1])
    ),
    "a Constant without outputs": lambda graph: graph.node.append(helper.make_node("Constant", [], [], value_float=1.0)),
    "an If without branches": adding(helper.make_node("If", ["x"], ["z"])),
    "a cycle": adding(helper.make_node("Relu", ["b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])),
    "the output is read and made": adding(helper.make_node("Identity", ["y"], ["z"])),
    "a graph without inputs": lambda graph: graph.ClearField("input") or graph.node.__delitem__(slice(None)),
    "no output": lambda graph: graph.ClearField("output"),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_graph_is_taken_or_refused_but_never_a_traceback(kind, source):
    source.parent.mkdir()
    onnx.save(broken(ODD[kind]), source)
    assert_no_traceback(source)


def assert_no_traceback(path: Path) -> None:
    """Expects an answer or a readable message from every entry point."""
    content, wrong = path.read_bytes(), {}
    for name, entry_point in ENTRY_POINTS.items():
        try:
            entry_point(path)
        except (InputError, EnvironmentUnfit) as error:
            if complaint := unreadable(str(error), ()):
                wrong[name] = complaint
        except Exception as error:
            wrong[name] = f"{type(error).__name__}: {error}"
        path.write_bytes(content)
    assert wrong == {}


@pytest.mark.parametrize(
    "opsets", [[], [("", 0)], [("", -1)], [("", 2**40)], [("", 17), ("", 9)], [("ai.onnx", 17)], [("other", 1)]]
)
@pytest.mark.parametrize("ir_version", [0, 3, 8, 2**40])
def test_odd_versions_are_taken_or_refused_but_never_a_traceback(opsets, ir_version, source):
    source.parent.mkdir()
    model = broken(lambda graph: None)
    model.ir_version = ir_version
    del model.opset_import[:]
    model.opset_import.extend(onnx.OperatorSetIdProto(domain=domain, version=version) for domain, version in opsets)
    source.write_bytes(model.SerializeToString())
    assert_no_traceback(source)


def test_a_model_without_a_graph_is_refused(source, snapshot):
    source.parent.mkdir()
    model = broken(lambda graph: None)
    model.ClearField("graph")
    source.write_bytes(model.SerializeToString())
    assert_refused(source, snapshot, "model.onnx", "graph")


def test_bodies_in_bodies_do_not_exhaust_the_stack(source):
    source.parent.mkdir()
    body = leaf(0)
    for depth in range(1, 25):
        node = helper.make_node("If", ["flag"], [f"v{depth}"], then_branch=body, else_branch=leaf(depth))
        body = helper.make_graph([node], f"g{depth}", [], [helper.make_empty_tensor_value_info(f"v{depth}")])
    model = broken(lambda graph: graph.node.extend(body.node))
    model.graph.input.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    onnx.save(model, source)
    assert_no_traceback(source)
    assert len(bnfold.plan(source).folds) == 1


def leaf(depth: int) -> onnx.GraphProto:
    name = f"leaf{depth}"
    return helper.make_graph([helper.make_node("Identity", ["x"], [name])], name, [], [helper.make_empty_tensor_value_info(name)])


# -- outputs that cannot be written ---------------------------------------------------------------------------------------

PLACES = ["absent/out.onnx", "file/out.onnx", "folder", "/proc/out.onnx", "/proc/self/absent/out.onnx", "o" * 300 + ".onnx", "/"]


@pytest.mark.parametrize("keep", [(), ("*",)])
@pytest.mark.parametrize("place", PLACES)
def test_an_output_that_cannot_be_written_is_refused(place, keep, inline, source, snapshot, tmp_path):
    source.parent.mkdir()
    onnx.save(inline, source)
    (tmp_path / "file").write_bytes(b"in the way")
    (tmp_path / "folder").mkdir()
    with refused(tmp_path, snapshot, Path(place).name[:100]):
        bnfold.optimize(source, tmp_path / place, keep=keep)


@pytest.mark.parametrize("keep", [(), ("*",)])
def test_what_is_no_regular_file_is_not_replaced(keep, inline, source):
    # `-o /dev/null`, run as root, must not put a model where the device was.
    source.parent.mkdir()
    onnx.save(inline, source)
    pipe = source.with_name("pipe")
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="pipe"):
        bnfold.optimize(source, pipe, keep=keep)
    assert pipe.is_fifo()
    assert sorted(each.name for each in source.parent.iterdir()) == ["model.onnx", "pipe"]


def test_a_folder_that_cannot_be_written_to_is_refused(inline, source, snapshot):
    source.parent.mkdir()
    onnx.save(inline, source)
    denied = mock.patch("tempfile.mkdtemp", side_effect=PermissionError(errno.EACCES, "Permission denied"))
    with denied, refused(source.parent, snapshot, "out.onnx", "ermission"):
        bnfold.optimize(source, source.with_name("out.onnx"))


def run(*arguments: object, before: object = None, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "bnfold", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, preexec_fn=before, check=False, **options)


@pytest.mark.parametrize("external", [False, True])
def test_a_file_size_limit_leaves_nothing_behind(external, network, source, tensors, snapshot):
    source.parent.mkdir()
    onnx.save(network(channels=8), source)
    if external:
        source.unlink()
        LAYOUTS["one file"].save(network(channels=8), source, tensors)
        assert source.stat().st_size < 4000 < source.with_name("weights.bin").stat().st_size
    before = snapshot(source.parent)
    limit = 4000  # bytes, for each file
    done = run("optimize", source, "--no-verify", before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert done.returncode in (2, 3), done.stderr
    assert done.stderr.startswith("bnfold: ")
    assert "model.folded.onnx" in done.stderr
    assert "Traceback" not in done.stderr
    assert snapshot(source.parent) == before


@pytest.fixture
def tiny_disk(tmp_path):
    """A disk of 64 kB, where the machine lets us have one."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("a small disk needs the right to mount one")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("keep", [(), ("*",)])
@pytest.mark.parametrize("external", [False, True])
def test_a_full_disk_leaves_nothing_behind(external, keep, network, source, tensors, snapshot, tiny_disk):
    source.parent.mkdir()
    large = network(channels=40)
    onnx.save(large, source)
    if external:
        LAYOUTS["one file"].save(large, source, tensors)
    (tiny_disk / "out.onnx").write_bytes(b"what was there")
    with pytest.raises(EnvironmentUnfit, match="full"):
        bnfold.optimize(source, tiny_disk / "out.onnx", keep=keep, verify=False)
    assert snapshot(tiny_disk) == {"out.onnx": b"what was there"}


# -- failing half-way -----------------------------------------------------------------------------------------------------


class Struck(Exception):
    """Something that nobody expects."""


@pytest.fixture(params=["inline", "one file"])
def existing(request, network, inline, source, tensors):
    """A source, and an earlier output of another model at the destination."""
    for model, path in ((network(1), source), (inline, source)):
        shutil.rmtree(source.parent / "model.onnx", ignore_errors=True)
        source.parent.mkdir(exist_ok=True)
        source.with_name("weights.bin").unlink(missing_ok=True)
        if request.param == "inline":
            onnx.save(model, path)
        else:
            LAYOUTS["one file"].save(model, path, tensors)
        if model is not inline:
            bnfold.optimize(source, source.with_name("out.onnx"), verify=False)
    return source


@pytest.mark.parametrize(
    "failure", [Struck(), KeyboardInterrupt(), SystemExit(3), MemoryError(), OSError(errno.EIO, "I/O error")]
)
def test_a_verification_that_breaks_leaves_everything_as_it_was(failure, existing, snapshot):
    before = snapshot(existing.parent)
    with mock.patch("bnfold.runtime.verify.verify", side_effect=failure), pytest.raises((type(failure), BnfoldError)):
        bnfold.optimize(existing, existing.with_name("out.onnx"))
    assert snapshot(existing.parent) == before
    with mock.patch("bnfold.runtime.verify.verify", side_effect=failure), pytest.raises((type(failure), BnfoldError)):
        bnfold.optimize(existing, existing)
    assert snapshot(existing.parent) == before


def test_a_verification_that_fails_leaves_everything_as_it_was(existing, snapshot):
    before = snapshot(existing.parent)
    failed = Verification((), ("Output `y` differs.",), (), 1, 0.0)
    for destination in (existing.with_name("out.onnx"), existing, existing.with_name("new.onnx")):
        with mock.patch("bnfold.runtime.verify.verify", return_value=failed):
            report = bnfold.optimize(existing, destination)
        assert not report.ok
        assert not report.written
        assert report.size_after_bytes is None
        assert snapshot(existing.parent) == before


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("destination", ["out.onnx", "model.onnx"])
def test_a_move_that_fails_leaves_what_was_there_usable(call, destination, existing, loaded, snapshot):
    # The data has been moved and the model has not, or the other way round: what is there must still be one model.
    target = existing.with_name(destination)
    was, names = loaded(target), set(snapshot(existing.parent))
    calls, replace = [], os.replace

    def failing(source, target):
        calls.append(target)
        if len(calls) == call:
            raise OSError(errno.EIO, "I/O error")
        replace(source, target)

    with mock.patch("os.replace", failing):
        message = refusal(lambda: bnfold.optimize(existing, target))
    if message:
        assert destination in message
        assert loaded(target) == was
        assert set(snapshot(existing.parent)) == names
    else:
        assert len(calls) < call  # there was only one file to move


@pytest.mark.parametrize("name", ["carry_out", "decide"])
def test_a_bug_leaves_everything_as_it_was(name, existing, snapshot):
    before = snapshot(existing.parent)
    with mock.patch(f"bnfold.pipeline.{name}", side_effect=Struck), pytest.raises(Struck):
        bnfold.optimize(existing, existing)
    assert snapshot(existing.parent) == before


def test_a_dry_run_writes_nothing(existing, snapshot):
    before = snapshot(existing.parent)
    for destination in (existing, existing.with_name("out.onnx"), existing.with_name("new.onnx")):
        report = bnfold.optimize(existing, destination, dry_run=True)
        assert len(report.plan.folds) == 3
        assert not report.written
        assert report.verification is None
    assert snapshot(existing.parent) == before


def test_an_inputs_file_that_does_not_fit_leaves_everything_as_it_was(existing, snapshot, tmp_path):
    before = snapshot(existing.parent)
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "wrong.npz", z=np.zeros(3))
    for name in ("absent.npz", "text.npz", "wrong.npz"):
        with pytest.raises(InputError) as caught:
            bnfold.optimize(existing, existing.with_name("out.onnx"), inputs=tmp_path / name)
        assert "cannot write" not in str(caught.value)
        assert snapshot(existing.parent) == before
