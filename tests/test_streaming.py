"""Weights that are never loaded as a whole: cut out of the model's own file, or in external data.

The result is the same, byte for byte, as that of folding in memory.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold import inline, splice, weights
from bnfold.errors import InputError
from bnfold.model import Model
from bnfold.weights import Scaled, Stored, rounded_blocks, tiles
from tests import test_lossless as lossless
from tests.cases import CASES, Case
from tests.random_graphs import sample

BLOCK = 7  # elements: no row of anything fits
LARGE = 41  # bytes: constants that hold shapes, which inference needs, are smaller
FLOATS = {TensorProto.FLOAT: np.float32, TensorProto.DOUBLE: np.float64, TensorProto.FLOAT16: np.float16}


@pytest.fixture
def everything_is_large(monkeypatch):
    """Every file is scanned, every weight cut out that is larger than a shape, and every block a few elements long."""
    monkeypatch.setattr(inline, "LARGE_FILE_BYTES", 1)
    monkeypatch.setattr(splice, "LARGE_WEIGHT_BYTES", LARGE)
    monkeypatch.setattr(weights, "_BLOCK_ELEMENTS", BLOCK)


def streamed(model: onnx.ModelProto, folder: Path, **options: object) -> bytes:
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    bnfold.optimize(folder / "model.onnx", folder / "out.onnx", verify=False, metadata=False, **options)
    return (folder / "out.onnx").read_bytes()


def assert_streams_alike(model: onnx.ModelProto, folder: Path, **options: object) -> None:
    in_memory = bnfold.fold(model, **options).model.SerializeToString()
    assert streamed(model, folder, **options) == in_memory


def cut_out(path: Path) -> list[str]:
    return [tensor.name for tensor in Model.open(path).proto.graph.initializer if inline.is_cut_out(tensor)]


# -- inside the model's own file ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.usefixtures("everything_is_large")
def test_every_case_comes_out_as_in_memory(case: Case, tmp_path):
    assert_streams_alike(case.model(), tmp_path, **case.options)


@pytest.mark.parametrize("start", range(0, 120, 20))
@pytest.mark.usefixtures("everything_is_large")
def test_random_graphs_come_out_as_in_memory(start, tmp_path):
    for seed in range(start, start + 20):
        assert_streams_alike(sample(seed).model, tmp_path)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.usefixtures("everything_is_large")
def test_a_model_with_every_field_comes_out_as_in_memory(bias, tmp_path):
    model = lossless.with_fold(bias)
    assert_streams_alike(model, tmp_path)
    assert {"W", "of_FLOAT8E5M2"} & set(cut_out(tmp_path / "model.onnx"))


@pytest.mark.usefixtures("everything_is_large")
def test_nothing_to_fold_is_copied(network, tmp_path):
    model = network()
    assert streamed(model, tmp_path, keep="*") == model.SerializeToString()


@pytest.mark.usefixtures("everything_is_large")
def test_a_model_replaces_itself(network, tmp_path):
    model, path = network(), tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    bnfold.optimize(path, path, metadata=False)
    assert path.read_bytes() == bnfold.fold(model).model.SerializeToString()


@pytest.mark.usefixtures("everything_is_large")
def test_verification_reads_what_was_cut_out(network, tmp_path):
    (tmp_path / "model.onnx").write_bytes(network().SerializeToString())
    report = bnfold.optimize(tmp_path / "model.onnx", tmp_path / "out.onnx")
    assert report.verification.ok
    assert len(report.plan.folds) == 3


@pytest.mark.usefixtures("everything_is_large")
def test_sizes_count_every_byte_once(network, tmp_path):
    (tmp_path / "model.onnx").write_bytes(network().SerializeToString())
    report = bnfold.optimize(tmp_path / "model.onnx", tmp_path / "out.onnx", verify=False, metadata=False)
    assert report.source.size_bytes == (tmp_path / "model.onnx").stat().st_size
    assert report.size_after_bytes == (tmp_path / "out.onnx").stat().st_size
    assert report.data_files == ()


@pytest.mark.usefixtures("everything_is_large")
def test_what_was_cut_out_can_be_loaded_by_onnx(network, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(network().SerializeToString())
    opened = Model.open(path).proto
    onnx.load_external_data_for_model(opened, str(tmp_path))
    for found, expected in zip(opened.graph.initializer, network().graph.initializer, strict=True):
        assert numpy_helper.to_array(found).tobytes() == numpy_helper.to_array(expected).tobytes()


@dataclass(frozen=True)
class Odd:
    """A tensor that is not cut out."""

    name: str
    tensor: onnx.TensorProto


VALUES = bytes(4 * 20)
ODD = [
    Odd("too short", TensorProto(name="W", data_type=TensorProto.FLOAT, dims=[21], raw_data=VALUES)),
    Odd("values in two fields", TensorProto(name="W", data_type=TensorProto.FLOAT, dims=[20], raw_data=VALUES, float_data=[2])),
    Odd("an unknown type", TensorProto(name="W", data_type=99, dims=[20], raw_data=VALUES)),
    Odd("a negative extent", TensorProto(name="W", data_type=TensorProto.FLOAT, dims=[-20], raw_data=VALUES)),
    Odd("in segments", TensorProto(name="W", data_type=1, dims=[20], raw_data=VALUES, segment=TensorProto.Segment(begin=0))),
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.name)
@pytest.mark.usefixtures("everything_is_large")
def test_an_odd_tensor_stays_as_it_is(odd: Odd, network, tmp_path):
    model = network()
    model.graph.initializer.append(odd.tensor)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert "W" not in cut_out(path)
    assert_streams_alike(model, tmp_path)


@pytest.mark.usefixtures("everything_is_large")
def test_messages_in_two_parts_are_merged(network, tmp_path):
    """protobuf merges a message that is written twice, and what is repeated in it adds up."""
    model = network()
    first, second = onnx.ModelProto(), onnx.ModelProto()
    first.CopyFrom(model)
    del first.graph.initializer[3:]
    second.graph.initializer.extend(model.graph.initializer[3:])
    path = tmp_path / "model.onnx"
    path.write_bytes(first.SerializeToString() + second.SerializeToString())
    bnfold.optimize(path, tmp_path / "out.onnx", verify=False, metadata=False)
    assert (tmp_path / "out.onnx").read_bytes() == bnfold.fold(model).model.SerializeToString()


@pytest.mark.parametrize("second", [numpy_helper.from_array(np.ones(20, np.float32)), TensorProto(doc_string="the same")])
@pytest.mark.usefixtures("everything_is_large")
def test_an_attribute_written_twice_is_merged(second, tmp_path):
    """Of a field that occurs twice in a message, the later values count, and what only the first has stays."""
    first = numpy_helper.from_array(np.arange(20, dtype=np.float32))
    attribute = b"".join(onnx.AttributeProto(t=each).SerializeToString() for each in (first, second))
    node = helper.make_node("Constant", [], ["k"])
    node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).MergeFromString(attribute[:0])
    parts = node.attribute.pop().SerializeToString() + attribute
    head = node.SerializeToString() + b"\x2a" + wire_varint(len(parts)) + parts  # field 5 of the node
    output = helper.make_tensor_value_info("k", TensorProto.FLOAT, None)
    graph = helper.make_graph([], "g", [], [output]).SerializeToString() + b"\x0a" + wire_varint(len(head)) + head
    imports = onnx.ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 17)]).SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(imports + b"\x3a" + wire_varint(len(graph)) + graph)
    merged, opened = onnx.load(path), Model.open(path).proto
    assert len(merged.graph.node[0].attribute[0].t.raw_data) == 80
    assert opened.SerializeToString() == merged.SerializeToString()


@pytest.mark.usefixtures("everything_is_large")
def test_every_cut_of_a_file_is_refused_or_a_shorter_model(network, tmp_path):
    whole, path = network().SerializeToString(), tmp_path / "model.onnx"
    for length in range(1, len(whole), 41):
        path.write_bytes(whole[:length])
        with contextlib.suppress(InputError):
            bnfold.plan(path)


def test_small_files_are_read_whole(network, tmp_path):
    (tmp_path / "model.onnx").write_bytes(network().SerializeToString())
    assert cut_out(tmp_path / "model.onnx") == []


# -- near and above 2 GB --------------------------------------------------------------------------------------------------

GIB = 1 << 30


def with_a_hole(path: Path, model: onnx.ModelProto, size: int) -> None:
    """Writes `model` with one more initializer of `size` bytes, all zero, which take no place on the disk."""
    hole = TensorProto(name="hole", data_type=TensorProto.UINT8, dims=[size]).SerializeToString()
    field = b"\x4a" + wire_varint(size)
    tensor = b"\x2a" + wire_varint(len(hole) + len(field) + size) + hole + field  # field 5 of the graph
    rest = model.SerializeToString()
    with path.open("wb") as stream:
        stream.write(rest + b"\x3a" + wire_varint(len(tensor) + size) + tensor)  # field 7 of the model
        stream.truncate(stream.tell() + size)


def wire_varint(value: int) -> bytes:
    from bnfold.wire import varint

    return varint(value)


@pytest.mark.parametrize("size", [GIB, 2 * GIB - 5000, 3 * GIB])
def test_a_model_of_any_size_can_be_planned(size, network, tmp_path):
    path = tmp_path / "model.onnx"
    with_a_hole(path, network(), size)
    assert len(bnfold.plan(path).folds) == 3
    assert cut_out(path) == ["hole"]
    assert bnfold.inspect(path).facts.size_bytes == path.stat().st_size > size


def test_a_model_that_protobuf_cannot_hold_is_refused_before_it_is_written(network, tmp_path, snapshot):
    path = tmp_path / "model.onnx"
    with_a_hole(path, network(), 3 * GIB)
    with pytest.raises(InputError, match="larger than 2 GB"):
        bnfold.optimize(path, tmp_path / "out.onnx", verify=False, metadata=False)
    assert os.listdir(tmp_path) == ["model.onnx"]


# -- external data --------------------------------------------------------------------------------------------------------


def external(model: onnx.ModelProto, folder: Path, offsets: dict[str, tuple[str, int]]) -> Path:
    """Saves `model` with the values of some initializers at (file, offset), in sparse files."""
    folder.mkdir()
    for tensor in model.graph.initializer:
        if tensor.name not in offsets:
            continue
        location, offset = offsets[tensor.name]
        with (folder / location).open("r+b" if (folder / location).exists() else "wb") as stream:
            stream.seek(offset)
            stream.write(tensor.raw_data)
        entries = {"location": location, "offset": offset, "length": len(tensor.raw_data)}
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


def test_offsets_beyond_4_gb_in_more_than_one_file(network, loaded, tmp_path):
    places = {
        "first.weight": ("one.bin", 5 * GIB),
        "second.weight": ("two.bin", 5 * GIB + 4096),
        "factor": ("two.bin", 4 * GIB + 1),
        "nothing": ("one.bin", 5 * GIB - 16),
    }
    path = external(network(), tmp_path / "in", places)
    report = bnfold.optimize(path, tmp_path / "out.onnx", metadata=False)
    assert report.verification.ok
    assert loaded(tmp_path / "out.onnx").graph == bnfold.fold(network()).model.graph
    assert (tmp_path / "out.onnx.data").stat().st_size < 20_000


def test_offsets_of_the_output_can_be_mapped(network, tmp_path):
    model = network(channels=40)
    path = external(model, tmp_path / "in", {tensor.name: (f"{tensor.name}.bin", 0) for tensor in model.graph.initializer})
    bnfold.optimize(path, tmp_path / "out.onnx", verify=False, metadata=False)
    written = onnx.load(tmp_path / "out.onnx", load_external_data=False).graph.initializer
    entries = [{entry.key: entry.value for entry in tensor.external_data} for tensor in written]
    assert sum(int(entry["length"]) >= 4096 for entry in entries) == 2
    for entry in entries:
        assert int(entry["offset"]) % (4096 if int(entry["length"]) >= 4096 else 16) == 0


@pytest.mark.usefixtures("everything_is_large")
def test_two_tensors_share_a_region_and_one_of_them_folds(network, loaded, tmp_path):
    model = network()
    twin = model.graph.initializer.add()
    twin.CopyFrom(model.graph.initializer[0])
    twin.name = "twin"
    expected = bnfold.fold(model).model
    path = external(model, tmp_path / "in", {"first.weight": ("w.bin", 32), "twin": ("w.bin", 32)})
    bnfold.optimize(path, tmp_path / "out.onnx", verify=False, metadata=False)
    assert loaded(tmp_path / "out.onnx").graph == expected.graph


def test_external_data_that_becomes_short_between_plan_and_copy(network, tmp_path, monkeypatch):
    from bnfold import planner

    model = network()
    path = external(model, tmp_path / "in", {"factor": ("w.bin", 0), "first.weight": ("w.bin", 64)})
    apply = planner.apply

    def shorten(*arguments):
        pending = apply(*arguments)
        os.truncate(path.with_name("w.bin"), 2)
        return pending

    monkeypatch.setattr(planner, "apply", shorten)
    with pytest.raises(InputError, match=r"w\.bin"):
        bnfold.optimize(path, tmp_path / "out.onnx", verify=False, metadata=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


# -- blocks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(1,), (5,), (23,), (3, 4), (1, 50), (2, 3, 4), (2, 1, 9), (4, 2, 1, 1), (1, 2, 3, 4), (0, 3), (3, 0)]
)
@pytest.mark.usefixtures("everything_is_large")
def test_tiles_cover_a_tensor_in_order(shape):
    whole = np.arange(np.prod(shape)).reshape(shape)
    parts = [whole[index].ravel() for index in tiles(shape)]
    np.testing.assert_array_equal(np.concatenate([*parts, []]), whole.ravel())
    assert all(part.size <= BLOCK for part in parts)
    for index, part in zip(tiles(shape), parts, strict=True):
        assert not part.size or weights.first_element(shape, index) == part[0]


@pytest.mark.parametrize("elem_type", FLOATS)
@pytest.mark.parametrize("shape", [(23,), (3, 4), (2, 30), (2, 3, 4), (1, 5, 2, 3)])
@pytest.mark.usefixtures("everything_is_large")
def test_blocks_are_what_the_whole_is(elem_type, shape, tmp_path):
    random = np.random.default_rng(3)
    values = random.normal(size=shape).astype(FLOATS[elem_type])
    (tmp_path / "w.bin").write_bytes(b"?" * 3 + values.tobytes())
    tensor = TensorProto(name="W", data_type=elem_type, dims=shape, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    tensor.external_data.add(key="offset", value="3")
    scaled = Stored(tensor, tmp_path)
    for axis, extent in enumerate(shape):
        factor = random.normal(size=[extent if place == axis else 1 for place in range(len(shape))])
        scaled = Scaled.of(scaled, factor)
        values = values * factor
    blocks = np.concatenate([block.ravel() for block in rounded_blocks(scaled)])
    np.testing.assert_array_equal(blocks, values.astype(FLOATS[elem_type]).ravel())


@pytest.mark.parametrize("elem_type", FLOATS)
@pytest.mark.parametrize("large", [False, True])
def test_magnitudes_are_those_of_the_values(elem_type, large, monkeypatch):
    monkeypatch.setattr(weights, "_BLOCK_ELEMENTS", BLOCK if large else 1 << 17)
    tiny = np.finfo(FLOATS[elem_type]).smallest_subnormal
    for values, expected in (
        ([0.0, -3.0, 2.0, 0.0] * 9, (2.0, 3.0)),
        ([-0.0] * 20, (np.inf, 0.0)),
        ([1.0, -np.inf] * 9, (1.0, np.inf)),
        ([1.0, float(tiny), 0.0] * 9, (float(tiny), 1.0)),
    ):
        stored = Stored(numpy_helper.from_array(np.array(values, FLOATS[elem_type])))
        assert stored.magnitudes == expected
    assert np.isnan(Stored(numpy_helper.from_array(np.array([1, np.nan] * 9, FLOATS[elem_type]))).magnitudes[1])


@pytest.mark.parametrize("value", [2.0**-126, 1.5 * 2.0**-126, 3e38, 1e-45, 0.0, np.nan, np.inf, 1.0])
@pytest.mark.parametrize("factor", [0.5, 2.0, 1e-30, 0.0, 1.0, 1e39])
@pytest.mark.usefixtures("everything_is_large")
def test_bounds_never_hide_what_rounding_does(value, factor):
    """What is said of a weight of many blocks is what is said when every value is looked at."""
    values = np.ones((2, 3 * BLOCK), np.float32)
    values[1, 5] = value
    stored = Stored(numpy_helper.from_array(values))
    scaled = Scaled.of(stored, np.array([[1.0], [factor]]))
    found = weights.rounding_of(scaled)
    with np.errstate(all="ignore"):
        exact = values.astype(np.float64) * np.array([[1.0], [factor]])
        rounded = exact.astype(np.float32)
    lost = np.isinf(rounded) & np.isfinite(values)
    smallest = 2.0**-126
    small = (np.abs(rounded) < smallest) & (exact != 0) & (np.abs(values) >= smallest)
    assert found.subnormal == small.sum()
    assert (found.overflow is not None) == lost.any()


def test_workers_stop_at_the_first_failure():
    from bnfold.parallel import for_each

    seen = []

    def work(item):
        seen.append(item)
        if item == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        for_each(work, range(100_000))
    assert len(seen) < 50_000


def test_a_model_in_a_function_s_body_is_left_to_protobuf(tmp_path, monkeypatch):
    """Large weights in local functions are not looked for, but stay right."""
    monkeypatch.setattr(inline, "LARGE_FILE_BYTES", 1)
    constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.ones(1 << 15, np.float32)))
    add = helper.make_node("Add", ["x", "k"], ["y"])
    function = helper.make_function("local", "f", ["x"], ["y"], [constant, add], [helper.make_opsetid("", 17)])
    call = helper.make_node("f", ["x"], ["y"], domain="local")
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1 << 15]) for name in ("x", "y")]
    graph = helper.make_graph([call], "g", infos[:1], infos[1:])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, functions=[function], opset_imports=imports, ir_version=8)
    assert_streams_alike(model, tmp_path)
