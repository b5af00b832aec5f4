"""Nothing but the fold changes: a model that carries every field that ONNX has, before and after."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice

import ml_dtypes
import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from onnx import TensorProto, helper, numpy_helper

import bnfold

RNG = np.random.default_rng(11)
CHANNELS = 4
PARAMETERS = {
    "W": RNG.normal(0, 0.3, (CHANNELS, 3, 3, 3)),
    "b": RNG.normal(0, 0.5, CHANNELS),
    "gamma": RNG.uniform(0.5, 1.5, CHANNELS),
    "beta": RNG.normal(0, 0.5, CHANNELS),
    "mean": RNG.normal(0, 0.5, CHANNELS),
    "var": RNG.uniform(0.3, 2, CHANNELS),
}
STATISTICS = ("gamma", "beta", "mean", "var")
EPSILON = 1e-3
HAS_DEVICES = "configuration" in onnx.ModelProto.DESCRIPTOR.fields_by_name  # since onnx 1.18


# -- the differ -----------------------------------------------------------------------------------------------------------


def changes(before: Message, after: Message, path: str = "") -> set[str]:
    """The paths of all fields that differ: "-path" is gone, "+path" is new, "path" has another value.

    Entries of repeated messages are matched by what names them, so that one that is gone does not shift the others.
    """
    found = {f"{path}<unknown fields>"} if unknown_fields(before) != unknown_fields(after) else set()
    for field in before.DESCRIPTOR.fields:
        place = f"{path}.{field.name}".lstrip(".")
        old, new = getattr(before, field.name), getattr(after, field.name)
        if is_repeated(field) and field.message_type is not None:
            found |= repeated_changes(old, new, place)
        elif is_repeated(field):
            found |= {place} if not same_values(old, new) else set()
        elif before.HasField(field.name) != after.HasField(field.name):
            found.add(f"{'-' if before.HasField(field.name) else '+'}{place}")
        elif field.message_type is not None:
            found |= changes(old, new, place) if before.HasField(field.name) else set()
        elif not same_values([old], [new]):
            found.add(place)
    return found


def repeated_changes(before: Iterable[Message], after: Iterable[Message], path: str) -> set[str]:
    old, new = by_name(before), by_name(after)
    found = {f"-{path}[{name}]" for name in old.keys() - new.keys()} | {f"+{path}[{name}]" for name in new.keys() - old.keys()}
    both = [name for name in old if name in new]
    if both != [name for name in new if name in old]:
        found.add(f"{path} (order)")
    for name in both:
        found |= changes(old[name], new[name], f"{path}[{name}]")
    return found


def by_name(entries: Iterable[Message]) -> dict[str, Message]:
    named: dict[str, Message] = {}
    for place, entry in enumerate(entries):
        name = name_of(entry)
        named[name if name and name not in named else f"{name}#{place}"] = entry
    return named


def is_repeated(field: FieldDescriptor) -> bool:
    # protobuf 6.31 brought the property, and later took away what there was before.
    return bool(field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED)


def name_of(entry: Message) -> str:
    if isinstance(entry, onnx.SparseTensorProto):
        return entry.values.name
    fields = [field.name for field in entry.DESCRIPTOR.fields]
    key = next((each for each in ("name", "key", "tensor_name", "domain", "configuration_id") if each in fields), None)
    return str(getattr(entry, key)) if key else ""


def same_values(old: Iterable[object], new: Iterable[object]) -> bool:
    return [repr(value) for value in old] == [repr(value) for value in new]  # -0.0 and NaN count too


def unknown_fields(message: Message) -> list[tuple[int, int, bytes]]:
    return [(entry.field_number, entry.wire_type, entry.data) for entry in UnknownFieldSet(message)]


def messages(message: Message, path: str = "") -> Iterator[tuple[str, Message]]:
    """Every message in `message`, itself first."""
    yield path, message
    for field, value in message.ListFields():
        for place, each in enumerate(value if is_repeated(field) else [value]):
            if isinstance(each, Message):
                yield from messages(each, f"{path}.{field.name}[{place}]")


# -- the model that carries everything ------------------------------------------------------------------------------------


def unknown(message: Message, number: int = 1900, value: bytes = b"from a later version") -> None:
    """Gives `message` a field that no schema has yet."""
    key, length = number << 3 | 2, len(value)
    message.MergeFromString(bytes([key & 0x7F | 0x80, key >> 7]) + bytes([length]) + value)


def described(message: Message, text: str) -> None:
    """Sets what every level may say about itself, and an unknown field."""
    if "doc_string" in message.DESCRIPTOR.fields_by_name:
        message.doc_string = f"about {text}: ünïcode\n\tand lines"
    if "metadata_props" in message.DESCRIPTOR.fields_by_name:
        message.metadata_props.add(key=f"{text}.key", value="value\0with a zero")
        unknown(message.metadata_props.add(key="", value=""))
    unknown(message)


def value_info(
    name: str, elem_type: int = TensorProto.FLOAT, shape: Iterable[int | str | None] | None = ()
) -> onnx.ValueInfoProto:
    value = helper.make_tensor_value_info(name, elem_type, None if shape is None else list(shape))
    described(value, name)
    value.type.denotation = "TENSOR"
    for dim in value.type.tensor_type.shape.dim:
        dim.denotation = "DATA_SPATIAL"
    unknown(value.type.tensor_type)
    return value


def typed_inputs() -> list[onnx.ValueInfoProto]:
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", None, 3])
    types = {
        "optional": helper.make_optional_type_proto(tensor),
        "sequence": helper.make_sequence_type_proto(tensor),
        "map": helper.make_map_type_proto(TensorProto.STRING, helper.make_sequence_type_proto(tensor)),
        "nested": helper.make_optional_type_proto(helper.make_sequence_type_proto(tensor)),
        "sparse": helper.make_sparse_tensor_type_proto(TensorProto.DOUBLE, [3, "K"]),
        "opaque": onnx.TypeProto(opaque_type=onnx.TypeProto.Opaque(domain="later", name="Thing")),
        "untyped": onnx.TypeProto(),
    }
    return [helper.make_value_info(f"{kind}_in", kind_type) for kind, kind_type in types.items()]


def tensor(name: str, array: np.ndarray) -> onnx.TensorProto:
    made = numpy_helper.from_array(np.asarray(array), name)
    described(made, name)
    return made


def parameter(name: str) -> onnx.TensorProto:
    return tensor(name, PARAMETERS[name].astype(np.float32))


def tensors_of_every_type() -> list[onnx.TensorProto]:
    """One initializer for each element type, and one for each field that may hold values."""
    names = {"STRING", "UNDEFINED"}
    made = []
    for kind, elem_type in TensorProto.DataType.items():
        if kind in names:
            continue
        value = TensorProto(name=f"of_{kind}", data_type=elem_type, dims=[3], raw_data=bytes(range(1, 1 + 3 * 16)))
        described(value, kind)
        made.append(value)
    made += [
        TensorProto(name="in_float_data", data_type=TensorProto.FLOAT, dims=[3], float_data=[-0.0, math.nan, math.inf]),
        TensorProto(name="in_int32_data", data_type=TensorProto.INT4, dims=[3], int32_data=[7, 1]),
        TensorProto(name="in_int64_data", data_type=TensorProto.INT64, dims=[1], int64_data=[-(2**63)]),
        TensorProto(name="in_double_data", data_type=TensorProto.DOUBLE, dims=[1], double_data=[5e-324]),
        TensorProto(name="in_uint64_data", data_type=TensorProto.UINT64, dims=[1], uint64_data=[2**64 - 1]),
        TensorProto(name="in_string_data", data_type=TensorProto.STRING, dims=[2], string_data=[b"\xff\x00\xfe", b""]),
        TensorProto(name="in_segments", data_type=TensorProto.FLOAT, dims=[2], segment=TensorProto.Segment(begin=0, end=1)),
        TensorProto(name="scalar", data_type=TensorProto.FLOAT, float_data=[1.0]),
        TensorProto(name="without_elements", data_type=TensorProto.BFLOAT16, dims=[0, 3], raw_data=b""),
    ]
    return made


def sparse(name: str) -> onnx.SparseTensorProto:
    values = tensor(name, np.array([1.5, -2.5], np.float32))
    made = helper.make_sparse_tensor(values, tensor(f"{name}_indices", np.array([1, 4])), [6])
    unknown(made)
    return made


def small_graph(name: str) -> onnx.GraphProto:
    """A graph for places where any graph will do."""
    node = helper.make_node("Identity", [f"{name}_c"], [f"{name}_y"], name=f"{name}_identity")
    described(node, name)
    graph = helper.make_graph(
        [node], name, [], [value_info(f"{name}_y", shape=[2])], [tensor(f"{name}_c", np.ones(2, np.float32))]
    )
    graph.sparse_initializer.append(sparse(f"{name}_sparse"))
    graph.value_info.append(value_info(f"{name}_nowhere"))
    described(graph, name)
    return graph


def attributes_of_every_kind() -> list[onnx.AttributeProto]:
    kinds = onnx.AttributeProto
    float_type = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
    values = {
        "f": kinds(type=kinds.FLOAT, f=-0.0),
        "i": kinds(type=kinds.INT, i=-(2**63)),
        "s": kinds(type=kinds.STRING, s=b"\xff\xfe\x00 is no text"),
        "s_empty": kinds(type=kinds.STRING, s=b""),
        "t": kinds(type=kinds.TENSOR, t=tensor("", np.float32([1, 2]))),
        "g": kinds(type=kinds.GRAPH, g=small_graph("attribute_graph")),
        "sparse": kinds(type=kinds.SPARSE_TENSOR, sparse_tensor=sparse("attribute_sparse")),
        "tp": kinds(type=kinds.TYPE_PROTO, tp=helper.make_sequence_type_proto(float_type)),
        "fs": kinds(type=kinds.FLOATS, floats=[1.0, math.nan]),
        "is": kinds(type=kinds.INTS, ints=[2**63 - 1, 0]),
        "ss": kinds(type=kinds.STRINGS, strings=[b"\x80", b"", b"text"]),
        "ts": kinds(type=kinds.TENSORS, tensors=[tensor("a", np.int8([1])), tensor("a", np.int8([2]))]),
        "gs": kinds(type=kinds.GRAPHS, graphs=[small_graph("graphs_0"), small_graph("graphs_1")]),
        "sparses": kinds(type=kinds.SPARSE_TENSORS, sparse_tensors=[sparse("sparses_0")]),
        "tps": kinds(type=kinds.TYPE_PROTOS, type_protos=[float_type, onnx.TypeProto()]),
    }
    plural = (kinds.FLOATS, kinds.INTS, kinds.STRINGS, kinds.TENSORS, kinds.GRAPHS, kinds.SPARSE_TENSORS, kinds.TYPE_PROTOS)
    values |= {f"empty_{kind}": kinds(type=kind) for kind in plural}
    for name, attribute in values.items():
        attribute.name = name
        described(attribute, name)
    return list(values.values())


def local_function(nodes: Iterable[onnx.NodeProto] = (), infos: Iterable[onnx.ValueInfoProto] = ()) -> onnx.FunctionProto:
    """`y = f(x)` with attributes, defaults and an overload."""
    inner = helper.make_node("LeakyRelu", ["x" if not nodes else "normal"], ["leaky"], name="f_leaky")
    reference = inner.attribute.add(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
    described(reference, "reference")
    last = helper.make_node("Identity", ["leaky"], ["y"], name="f_last")
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("custom", 3)]
    function = helper.make_function("local", "f", ["x"], ["y"], [*nodes, inner, last], imports, ["needed"])
    function.attribute_proto.extend([helper.make_attribute("slope", 0.25)])
    function.overload = "second"
    function.value_info.extend([value_info("leaky", shape=None), *infos])
    described(function, "function")
    return function


def training_info(named: str) -> onnx.TrainingInfoProto:
    """A training step that updates the tensor `named`."""
    step = helper.make_node("Mul", [named, "rate"], [f"{named}_next"], name="step")
    algorithm = helper.make_graph([step], "algorithm", [], [value_info(f"{named}_next")], [tensor("rate", np.float32([0.9]))])
    described(algorithm, "algorithm")
    info = onnx.TrainingInfoProto(algorithm=algorithm, initialization=small_graph("initialization"))
    info.initialization_binding.add(key="trained", value="initialization_y")
    info.update_binding.add(key=named, value=f"{named}_next")
    unknown(info)
    return info


def on_devices(node: onnx.NodeProto, *tensors: str) -> None:
    """Spreads a node over two devices, by the names of the tensors that it reads and writes."""
    if not HAS_DEVICES:
        return
    entry = node.device_configurations.add(configuration_id="pair", pipeline_stage=1)
    for name in tensors:
        shard = entry.sharding_spec.add(tensor_name=name, device=[0, -1])
        shard.index_to_device_group_map.add(key=-1, value=[0, 1])
        dimension = shard.sharded_dim.add(axis=0)
        dimension.simple_sharding.add(dim_value=4, num_shards=2)
        dimension.simple_sharding.add(dim_param="N", num_shards=2)
    unknown(entry)


def convolution(bias: bool = False, output: str = "c") -> onnx.NodeProto:
    node = helper.make_node("Conv", ["x", "W", "b"][: 3 if bias else 2], [output], name="conv", pads=[1, 1, 1, 1])
    described(node, "conv")
    unknown(node.attribute[0])
    return node


def normalization(training: bool = False, source: str = "c", output: str = "normal") -> onnx.NodeProto:
    node = helper.make_node("BatchNormalization", [source, *STATISTICS], [output], name="bn", epsilon=EPSILON)
    if training:
        node.attribute.append(helper.make_attribute("training_mode", 1))
    described(node, "bn")
    return node


def everything(nodes: Iterable[onnx.NodeProto] = (), initializers: Iterable[onnx.TensorProto] = ()) -> onnx.ModelProto:
    """A model with every field of ONNX in it; `nodes` make `normal` from `x`."""
    nodes = list(nodes)
    infos = [value_info(name, shape=["N", CHANNELS, 8, 8]) for node in nodes for name in node.output]
    first = [] if nodes else [helper.make_node("Identity", ["x"], ["normal"], name="first")]
    custom = helper.make_node(
        "Everything", ["normal", "", "over"], ["e0", "", "e2"], name="custom", domain="custom", overload="b"
    )
    custom.attribute.extend(attributes_of_every_kind())
    call = helper.make_node("f", ["normal"], ["called"], name="call", domain="local", overload="second", needed=2)
    branch = helper.make_node("If", ["condition"], ["chosen"], name="if")
    branch.attribute.append(helper.make_attribute("then_branch", small_graph("then")))
    branch.attribute.append(helper.make_attribute("else_branch", small_graph("else")))
    last = helper.make_node("Relu", ["called"], ["y"], name="relu")
    on_devices(last, "called", "y")
    for node in (custom, call, branch, last):
        described(node, node.name)
    graph = helper.make_graph(
        [*first, *nodes, custom, call, branch, last],
        "main",
        [value_info("x", shape=["N", 3, 8, 8]), value_info("condition", TensorProto.BOOL), *typed_inputs(), value_info("over")],
        [value_info("y", shape=None), value_info("e2", shape=None), value_info("chosen", shape=[2])],
        [*tensors_of_every_type(), *initializers, tensor("over", np.float32(3)), tensor("unused", np.float32([1, 2]))],
    )
    graph.initializer.extend(tensor(name, np.float32(0.5)) for name in ("trained", "act_scale", "act_zero"))
    graph.sparse_initializer.append(sparse("sparse_weight"))
    graph.value_info.extend([*infos, value_info("called", shape=None), value_info("nowhere")])
    annotate(graph, "normal", "act_scale", "act_zero")
    described(graph, "graph")
    model = helper.make_model(graph, producer_name="a tool", producer_version="1.0", ir_version=13, functions=[local_function()])
    del model.opset_import[:]
    for domain, version in {"": 21, "ai.onnx.ml": 4, "custom": 3, "local": 1}.items():
        unknown(model.opset_import.add(domain=domain, version=version))
    model.domain, model.model_version = "org.example", -7
    model.training_info.append(training_info("trained"))
    if HAS_DEVICES:
        model.configuration.add(name="pair", num_devices=2, device=["cpu:0", "cpu:1"])
    described(model, "model")
    return model


def annotate(graph: onnx.GraphProto, name: str, scale: str, zero_point: str) -> None:
    note = graph.quantization_annotation.add(tensor_name=name)
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=scale)
    note.quant_parameter_tensor_names.add(key="ZERO_POINT_TENSOR", value=zero_point)
    unknown(note)


def with_fold(bias: bool = False) -> onnx.ModelProto:
    """The same with a Conv and its normalization in the main graph."""
    names = ["W", *(["b"] if bias else []), *STATISTICS]
    return everything([convolution(bias), normalization()], [parameter(name) for name in names])


# -- what a fold has to come to -------------------------------------------------------------------------------------------


def folded_values(bias: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """W and b of the folded Conv in float64, from the parameters as they are stored."""
    stored = {name: array.astype(np.float32).astype(np.float64) for name, array in PARAMETERS.items()}
    scale = stored["gamma"] / np.sqrt(stored["var"] + np.float64(np.float32(EPSILON)))
    before = stored["b"] if bias else 0.0
    return stored["W"] * scale.reshape(-1, 1, 1, 1), (before - stored["mean"]) * scale + stored["beta"]


def assert_folded(weight: onnx.TensorProto, bias: onnx.TensorProto, had_bias: bool = False) -> None:
    for stored, expected in zip((weight, bias), folded_values(had_bias), strict=True):
        array = numpy_helper.to_array(stored)
        assert array.dtype == np.float32
        np.testing.assert_array_max_ulp(array, expected.astype(np.float32), maxulp=1)


def node_named(graph: onnx.GraphProto | onnx.FunctionProto, name: str) -> onnx.NodeProto:
    return next(node for node in graph.node if node.name == name)


def initializer(graph: onnx.GraphProto, name: str) -> onnx.TensorProto:
    return next(each for each in graph.initializer if each.name == name)


def fold(model: onnx.ModelProto, **options: object) -> onnx.ModelProto:
    """Folds, and checks that the one normalization went and that every name still means something."""
    dangling = unresolved_names(model)
    result = bnfold.fold(model, **options)
    assert [verdict.kind for verdict in result.plan.verdicts] == ["fold"]
    assert unresolved_names(result.model) == dangling
    return result.model


def unresolved_names(model: onnx.ModelProto) -> list[str]:
    """Names that are said somewhere and mean nothing: read, annotated, bound to training or spread over devices."""
    main = {tensor.name for tensor in model.graph.initializer} | {value.name for value in model.graph.input}
    main |= {each.values.name for each in model.graph.sparse_initializer} | {
        out for node in model.graph.node for out in node.output
    }
    found = [
        f"training binds {entry.key}" for info in model.training_info for entry in info.update_binding if entry.key not in main
    ]
    graphs = [each for _, each in messages(model.graph) if isinstance(each, onnx.GraphProto)]
    known = main | {name for graph in graphs for name in defined_in(graph)}
    for graph in graphs:
        for note in graph.quantization_annotation:
            names = [note.tensor_name, *(entry.value for entry in note.quant_parameter_tensor_names)]
            found += [f"{note.tensor_name} is annotated with {name}" for name in names if name not in known]
        found += [f"{value.name} has a value_info" for value in graph.value_info if value.name not in known]
    for graph in [*graphs, *model.functions]:
        here = known if isinstance(graph, onnx.GraphProto) else defined_in(graph)
        for node in graph.node:
            found += [f"{node.name} reads {name}" for name in node.input if name and name not in here]
            entries = node.device_configurations if HAS_DEVICES else ()
            shards = [shard for entry in entries for shard in entry.sharding_spec]
            own = {*node.input, *node.output}
            found += [f"{node.name} spreads {shard.tensor_name}" for shard in shards if shard.tensor_name not in own]
    return found


def defined_in(graph: onnx.GraphProto | onnx.FunctionProto) -> set[str]:
    names = {name for node in graph.node for name in node.output}
    if isinstance(graph, onnx.FunctionProto):
        return names | set(graph.input)
    names |= {each.name for each in graph.initializer} | {each.values.name for each in graph.sparse_initializer}
    return names | {value.name for value in graph.input}


# -- the tests: first, that the tools above see everything ----------------------------------------------------------------


def test_the_model_carries_every_field_of_onnx():
    reachable: set[str] = set()
    pending = [onnx.ModelProto.DESCRIPTOR]
    while pending:
        descriptor = pending.pop()
        fields = {f"{descriptor.full_name}.{field.name}": field.message_type for field in descriptor.fields}
        pending += [kind for name, kind in fields.items() if kind is not None and name not in reachable]
        reachable |= fields.keys()
    carried = {
        f"{message.DESCRIPTOR.full_name}.{field.name}"
        for _, message in messages(with_fold())
        for field, _ in message.ListFields()
    }
    elsewhere = {"onnx.TensorProto.external_data", "onnx.TensorProto.data_location"}  # test_files.py
    assert reachable - carried == elsewhere


def test_the_differ_notices_a_change_in_every_field():
    original, seen = with_fold(), set()
    for number, (path, message) in enumerate(messages(original)):
        for field, _ in message.ListFields():
            if field.full_name in seen:
                continue
            seen.add(field.full_name)
            changed = onnx.ModelProto()
            changed.CopyFrom(original)
            _, twin = next(islice(messages(changed), number, None))
            twin.ClearField(field.name)
            assert changes(original, changed), f"{path}.{field.name}"
    assert len(seen) > 100


def test_the_differ_notices_lost_unknown_fields():
    original, changed = everything(), everything()
    next(each for _, each in messages(changed) if isinstance(each, onnx.AttributeProto)).DiscardUnknownFields()
    assert all("unknown" in path for path in changes(original, changed))
    assert changes(original, changed)
    assert changes(original, everything()) == set()


# -- nothing to fold: nothing changes -------------------------------------------------------------------------------------

NOTHING_TO_FOLD = {
    "no normalization": lambda: everything(),
    "one in training mode": lambda: everything(
        [convolution(), normalization(training=True)], [parameter(name) for name in ("W", *STATISTICS)]
    ),
    "one that is kept": with_fold,
}


@pytest.fixture(params=NOTHING_TO_FOLD)
def untouchable(request):
    return NOTHING_TO_FOLD[request.param]()


def test_a_file_with_nothing_to_fold_comes_out_byte_for_byte(untouchable, tmp_path):
    content = untouchable.SerializeToString()
    (tmp_path / "in.onnx").write_bytes(content)
    report = bnfold.optimize(tmp_path / "in.onnx", tmp_path / "out.onnx", keep=["bn"])
    assert report.ok
    assert report.written
    assert report.identical
    assert (tmp_path / "out.onnx").read_bytes() == content
    assert (tmp_path / "in.onnx").read_bytes() == content
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.onnx", "out.onnx"]


def test_a_file_with_nothing_to_fold_comes_out_byte_for_byte_in_place(untouchable, tmp_path):
    content = untouchable.SerializeToString()
    (tmp_path / "in.onnx").write_bytes(content)
    assert bnfold.optimize(tmp_path / "in.onnx", tmp_path / "in.onnx", keep=["bn"]).identical
    assert (tmp_path / "in.onnx").read_bytes() == content


def test_a_file_that_another_writer_laid_out_comes_out_byte_for_byte(tmp_path):
    # Fields in another order, a varint longer than needed, a scalar said twice: all legal, and none survives a rewrite.
    model = everything()
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    size = len(graph)
    length = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14 & 0x7F | 0x80, size >> 21 | 0x80, 0])
    content = b"\x3a" + length + graph + b"\x08\x01" + model.SerializeToString() + b"\x08\x8d\x80\x00"
    (tmp_path / "in.onnx").write_bytes(content)
    assert onnx.ModelProto.FromString(content).SerializeToString() != content
    assert bnfold.optimize(tmp_path / "in.onnx", tmp_path / "out.onnx").identical
    assert (tmp_path / "out.onnx").read_bytes() == content


def test_fold_returns_an_equal_model_when_there_is_nothing_to_fold(untouchable, tmp_path):
    content = untouchable.SerializeToString()
    (tmp_path / "in.onnx").write_bytes(content)
    for given in (untouchable, tmp_path / "in.onnx"):
        result = bnfold.fold(given, keep=["bn"])
        assert not result.plan.folds
        assert changes(untouchable, result.model) == set()
        assert result.model.SerializeToString() == content
    assert untouchable.SerializeToString() == content


def test_freezing_takes_the_overridable_initializers_out_of_the_inputs_and_nothing_else(tmp_path):
    model = everything()
    (tmp_path / "in.onnx").write_bytes(model.SerializeToString())
    assert changes(model, bnfold.fold(model, freeze_initializers=True).model) == {"-graph.input[over]"}
    bnfold.optimize(tmp_path / "in.onnx", tmp_path / "out.onnx", freeze_initializers=True, verify=False, metadata=False)
    assert changes(model, onnx.load(tmp_path / "out.onnx")) == {"-graph.input[over]"}


# -- one fold: what it names changes, and nothing else --------------------------------------------------------------------

GONE = {"-graph.node[bn]", "-graph.value_info[c]", *(f"-graph.initializer[{name}]" for name in STATISTICS)}


def test_a_fold_in_the_main_graph_changes_what_it_names():
    model = with_fold()
    content = model.SerializeToString()
    folded = fold(model)
    conv = node_named(folded.graph, "conv")
    assert list(conv.input[:2]) == ["x", "W"]
    assert list(conv.output) == ["normal"]
    new = conv.input[2]
    assert new not in {each.name for each in model.graph.initializer}
    changed = {"graph.node[conv].input", "graph.node[conv].output", "graph.initializer[W].raw_data", f"+graph.initializer[{new}]"}
    assert changes(model, folded) == GONE | changed
    assert_folded(initializer(folded.graph, "W"), initializer(folded.graph, new))
    assert model.SerializeToString() == content


def test_a_fold_into_a_conv_with_a_bias_keeps_both_names():
    model = with_fold(bias=True)
    folded = fold(model)
    assert list(node_named(folded.graph, "conv").input) == ["x", "W", "b"]
    changed = {"graph.node[conv].output", "graph.initializer[W].raw_data", "graph.initializer[b].raw_data"}
    assert changes(model, folded) == GONE | changed
    assert_folded(initializer(folded.graph, "W"), initializer(folded.graph, "b"), had_bias=True)


def test_a_fold_before_ir_4_keeps_every_initializer_among_the_inputs():
    model = with_fold()
    model.ir_version = 3
    known = {value.name for value in model.graph.input}
    model.graph.input.extend(
        value_info(each.name, each.data_type, each.dims) for each in model.graph.initializer if each.name not in known
    )
    folded = fold(model)
    new = node_named(folded.graph, "conv").input[2]
    changed = {"graph.node[conv].input", "graph.node[conv].output", "graph.initializer[W].raw_data"}
    gone = {f"-graph.input[{name}]" for name in STATISTICS}
    assert changes(model, folded) == GONE | changed | gone | {f"+graph.initializer[{new}]", f"+graph.input[{new}]"}
    assert {each.name for each in folded.graph.initializer} <= {value.name for value in folded.graph.input}


def test_a_saved_fold_changes_what_the_fold_in_memory_changes(tmp_path):
    model = with_fold()
    (tmp_path / "in.onnx").write_bytes(model.SerializeToString())
    report = bnfold.optimize(tmp_path / "in.onnx", tmp_path / "out.onnx", verify=False, metadata=False)
    assert report.written
    saved = (tmp_path / "out.onnx").read_bytes()
    assert onnx.ModelProto.FromString(saved) == fold(model)
    assert changes(onnx.ModelProto.FromString(saved), fold(model)) == set()
    assert (tmp_path / "in.onnx").read_bytes() == model.SerializeToString()


@pytest.mark.parametrize("field", ["float_data", "raw_data"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_the_weight_stays_in_its_place_whichever_field_held_its_values(field, dtype):
    model = with_fold(bias=True)
    for name in ("W", "b", *STATISTICS):
        proto, array = initializer(model.graph, name), PARAMETERS[name].astype(dtype)
        proto.data_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        if field == "raw_data":
            proto.raw_data = array.tobytes()
            continue
        proto.ClearField("raw_data")
        typed = {np.float32: proto.float_data, np.float64: proto.double_data}.get(dtype, proto.int32_data)
        typed.extend((array.view(np.uint16) if array.itemsize == 2 else array).ravel().tolist())
    folded = fold(model)
    for name in ("W", "b"):
        values = {f"graph.initializer[{name}].{each}" for each in ("float_data", "double_data", "int32_data", "raw_data")}
        found = {path.lstrip("+-") for path in changes(model, folded) if f"[{name}]" in path}
        assert found
        assert found <= values
        assert initializer(folded.graph, name).data_type == initializer(model.graph, name).data_type
        assert numpy_helper.to_array(initializer(folded.graph, name)).size == PARAMETERS[name].size


def test_a_fold_leaves_parameters_that_others_read():
    model = with_fold()
    model.graph.node.append(helper.make_node("Concat", ["gamma", "mean"], ["e9"], name="reader", axis=0))
    model.graph.output.append(value_info("e9"))
    model.graph.output.append(value_info("var", shape=[CHANNELS]))
    folded = fold(model)
    kept = {f"-graph.initializer[{name}]" for name in ("gamma", "mean", "var")}
    assert not changes(model, folded) & kept
    assert "-graph.initializer[beta]" in changes(model, folded)


def test_a_weight_that_another_node_reads_is_copied():
    model = with_fold()
    model.graph.node.append(helper.make_node("Relu", ["W"], ["e9"], name="reader"))
    model.graph.output.append(value_info("e9"))
    folded = fold(model)
    _, weight, bias = node_named(folded.graph, "conv").input
    assert weight != "W"
    assert not any("[W]" in path for path in changes(model, folded))
    assert_folded(initializer(folded.graph, weight), initializer(folded.graph, bias))
    assert node_named(folded.graph, "reader").input[0] == "W"


LINEAR = {
    "ConvTranspose": [helper.make_node("ConvTranspose", ["x", "W"], ["c"], name="linear")],
    "Gemm": [helper.make_node("Gemm", ["x", "W", "b"], ["c"], name="linear", alpha=0.5, beta=2.0)],
    "MatMul": [helper.make_node("MatMul", ["x", "W"], ["c"], name="linear")],
    "MatMul and Add": [
        helper.make_node("MatMul", ["x", "W"], ["product"], name="linear"),
        helper.make_node("Add", ["product", "b"], ["c"], name="add"),
    ],
    "Identity between": [
        helper.make_node("Gemm", ["x", "W"], ["product"], name="linear"),
        helper.make_node("Identity", ["product"], ["c"], name="add"),
    ],
}


@pytest.mark.parametrize("nodes", LINEAR.values(), ids=LINEAR)
def test_no_linear_operator_lets_a_fold_change_more_than_itself_and_the_normalization(nodes):
    model = everything([*nodes, normalization()], [parameter(name) for name in ("b", *STATISTICS)])
    shape = (3, CHANNELS, 1, 1) if nodes[0].op_type == "ConvTranspose" else (3, CHANNELS)
    if len(shape) == 2:
        del model.graph.input[0].type.tensor_type.shape.dim[2:]
    model.graph.initializer.append(tensor("W", np.ones(shape, np.float32)))
    folded = fold(model)
    own = [f"graph.node[{name}]" for name in ("linear", "add", "bn")]
    own += [f"graph.initializer[{name}]" for name in ("W", "b", *STATISTICS)]
    own += [f"graph.value_info[{name}]" for name in ("c", "product")]
    others = {path for path in changes(model, folded) if not path.lstrip("-").startswith(tuple(own))}
    made = {name for node in folded.graph.node for name in (*node.input, *node.output)} - {
        name for node in model.graph.node for name in (*node.input, *node.output)
    }
    new_nodes = {node.name for node in folded.graph.node if node.name not in {each.name for each in model.graph.node}}
    assert others <= {f"+graph.initializer[{name}]" for name in made} | {f"+graph.node[{name}]" for name in new_nodes}
    assert len(new_nodes) <= 1
    assert not any("doc_string" in path or "metadata" in path or "unknown" in path for path in changes(model, folded))


# -- a fold in a body and in a function -----------------------------------------------------------------------------------


def test_a_fold_in_a_body_changes_what_it_names():
    model = everything(initializers=[parameter("W"), parameter("gamma")])
    body = node_named(model.graph, "if").attribute[0].g
    relu = helper.make_node("Relu", ["body_n"], ["body_y"], name="body_relu")
    body.node.extend([convolution(output="body_c"), normalization(source="body_c", output="body_n"), relu])
    body.value_info.extend([value_info("body_c", shape=None), value_info("body_n", shape=None)])
    body.initializer.extend(parameter(name) for name in ("beta", "mean", "var"))
    body.output.append(value_info("body_y", shape=None))
    folded = fold(model)
    place = "graph.node[if].attribute[then_branch].g"
    after = node_named(folded.graph, "if").attribute[0].g
    conv = node_named(after, "conv")
    assert list(conv.output) == ["body_n"]
    new = conv.input[2]
    assert changes(model, folded) == {
        f"-{place}.node[bn]",
        f"{place}.node[conv].input",
        f"{place}.node[conv].output",
        f"-{place}.value_info[body_c]",
        *(f"-{place}.initializer[{name}]" for name in ("beta", "mean", "var")),
        f"+{place}.initializer[{new}]",
        "graph.initializer[W].raw_data",
        "-graph.initializer[gamma]",
    }
    assert_folded(initializer(folded.graph, "W"), initializer(after, new))


def test_a_fold_in_a_function_changes_what_it_names():
    constants = []
    for name in ("W", *STATISTICS):
        constants.append(helper.make_node("Constant", [], [name], name=f"constant_{name}", value=parameter(name)))
        described(constants[-1], name)
    nodes = [*constants, convolution(), normalization()]
    model = everything()
    del model.functions[:]
    model.functions.append(local_function(nodes, [value_info("c", shape=None), value_info("normal", shape=None)]))
    folded = fold(model)
    (function,) = folded.functions
    conv = node_named(function, "conv")
    assert list(conv.output) == ["normal"]
    new = next(node for node in function.node if conv.input[2] in node.output)
    assert new.op_type == "Constant"
    assert changes(model, folded) == {
        "-functions[f].node[bn]",
        "functions[f].node[conv].input",
        "functions[f].node[conv].output",
        "-functions[f].value_info[c]",
        *(f"-functions[f].node[constant_{name}]" for name in STATISTICS),
        f"+functions[f].node[{new.name}]",
        "functions[f].node[constant_W].attribute[value].t.raw_data",
    }
    assert_folded(node_named(function, "constant_W").attribute[0].t, new.attribute[0].t)


# -- tensors that something else speaks of --------------------------------------------------------------------------------


def test_an_annotated_weight_does_not_change_its_values():
    model = with_fold()
    annotate(model.graph, "W", "act_scale", "act_zero")
    folded = fold(model)
    weight = node_named(folded.graph, "conv").input[1]
    assert weight != "W"
    assert_folded(initializer(folded.graph, weight), initializer(folded.graph, node_named(folded.graph, "conv").input[2]))
    left = [each for each in folded.graph.initializer if each.name == "W"]
    notes = [note for note in folded.graph.quantization_annotation if note.tensor_name == "W"]
    assert len(left) == len(notes)  # the weight may go, as nobody reads it any more, but then its annotation goes too
    assert all(changes(each, initializer(model.graph, "W")) == set() for each in left)


def test_an_annotation_of_the_tensor_that_vanishes_goes_with_it_and_others_stay():
    model = with_fold()
    annotate(model.graph, "c", "act_scale", "act_zero")
    changed = changes(model, fold(model))
    assert {path for path in changed if "annotation" in path} == {"-graph.quantization_annotation[c]"}


@pytest.mark.parametrize("name", ["gamma", "W"])
def test_a_tensor_that_holds_quantization_parameters_stays(name):
    model = with_fold()
    model.graph.quantization_annotation[0].quant_parameter_tensor_names[0].value = name
    assert not any(f"graph.initializer[{name}]" in path for path in changes(model, fold(model)))


@pytest.mark.parametrize("name", ["W", "gamma"])
def test_a_tensor_that_training_updates_does_not_change(name):
    model = with_fold()
    model.training_info.append(training_info(name))
    folded = fold(model)
    assert not any(f"graph.initializer[{name}]" in path for path in changes(model, folded))
    assert not any("training_info" in path for path in changes(model, folded))
    _, weight, bias = node_named(folded.graph, "conv").input
    assert_folded(initializer(folded.graph, weight), initializer(folded.graph, bias))


@pytest.mark.parametrize("name", ["W", "gamma"])
def test_a_tensor_that_a_body_in_the_training_step_reads_does_not_change(name):
    model = with_fold()
    body = helper.make_graph([helper.make_node("Neg", [name], ["negated"], name="negate")], "body", [], [value_info("negated")])
    step = helper.make_node("If", ["condition"], ["stepped"], name="train", then_branch=body, else_branch=body)
    algorithm = helper.make_graph([step], "algorithm", [], [value_info("stepped")])
    model.training_info.append(onnx.TrainingInfoProto(algorithm=algorithm))
    assert not any(f"graph.initializer[{name}]" in path for path in changes(model, fold(model)))


def test_a_normalization_whose_input_training_reads_stays():
    model = with_fold()
    model.training_info.append(training_info("c"))
    result = bnfold.fold(model)
    assert [refusal.code for refusal in result.plan.refusals] == ["BNF004"]
    assert changes(model, result.model) == set()


@pytest.mark.skipif(not HAS_DEVICES, reason="this onnx is older than 1.18, which brought device configurations")
def test_the_devices_of_a_node_follow_its_tensors():
    model = with_fold()
    on_devices(node_named(model.graph, "conv"), "x", "W", "c")
    conv = node_named(fold(model).graph, "conv")
    spread = [shard.tensor_name for shard in conv.device_configurations[0].sharding_spec]
    assert spread == ["x", conv.input[1], "normal"]


def test_names_of_inputs_outputs_and_of_the_normalization_s_output_stay():
    model = with_fold()
    for value in (value_info("normal", shape=None), value_info("W", shape=None)):
        model.graph.output.append(value)
    folded = fold(model)
    assert changes(model, folded) & {"graph.output", "graph.input"} == set()
    assert not any(path.lstrip("+-").startswith(("graph.output", "graph.input")) for path in changes(model, folded))
    assert initializer(folded.graph, "W").raw_data == initializer(model.graph, "W").raw_data


@pytest.mark.parametrize("taken", ["graph", "body", "function"])
def test_new_names_are_new_everywhere(taken):
    model = with_fold()
    name = node_named(fold(model).graph, "conv").input[2]
    owner = {
        "graph": model.graph,
        "body": node_named(model.graph, "if").attribute[0].g,
        "function": model.functions[0],
    }[taken]
    owner.node.append(helper.make_node("Constant", [], [name], name="taken", value_float=1.0))
    folded = fold(model)
    other = node_named(folded.graph, "conv").input[2]
    assert other != name
    assert initializer(folded.graph, other).name == other
