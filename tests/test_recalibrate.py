"""`bnfold recalibrate`: the paper's Algorithm 2 against numpy and PyTorch, and files in which nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold import pipeline
from bnfold.cli.main import cli
from bnfold.errors import GateFailed, InputError

ROOT = Path(__file__).resolve().parents[1]
FASHION = ROOT.parent / "shared" / "data" / "fashion_mnist"
EPSILON = float(np.float32(1e-3))  # as the attribute stores it
TYPES = {
    "float32": (TensorProto.FLOAT, 2e-6),
    "float64": (TensorProto.DOUBLE, 1e-12),
    "float16": (TensorProto.FLOAT16, 2e-3),
}


def norm_node(x, y, name, opset, training, outputs=None):
    """A BatchNormalization as its opset writes the two modes."""
    inputs = [x, *(f"{name}.{part}" for part in ("weight", "bias", "mean", "var"))]
    made = [y, *(outputs or ())]
    if opset >= 14:
        extra = [f"{name}.new_mean", f"{name}.new_var"] if training and outputs is None else []
        return helper.make_node("BatchNormalization", inputs, made + extra, name, training_mode=int(training), epsilon=EPSILON)
    if opset >= 7:
        extra = [f"{name}.o{place}" for place in range(4)] if training and outputs is None else []
        return helper.make_node("BatchNormalization", inputs, made + extra, name, epsilon=EPSILON)
    return helper.make_node("BatchNormalization", inputs, made, name, epsilon=EPSILON, is_test=int(not training))


def network(opset=17, training=False, elem_type=TensorProto.FLOAT, seed=0, batch="N", rank=4, ir_version=None):
    """Two layers [N, 3, …] → [N, 4, …], each MatMul-like (1 × 1 Conv, or Gemm for rank 2), normalization and Relu."""
    rng = np.random.default_rng(seed)
    dtype = helper.tensor_dtype_to_np_dtype(elem_type)
    nodes, tensors = [], []
    source = "x"
    for layer, inputs in (("one", 3), ("two", 4)):
        weight = rng.normal(0, 1, (4, inputs, *(1,) * (rank - 2)))
        if rank == 2:
            more = {"broadcast": 1} if opset < 7 else {}
            nodes.append(helper.make_node("Gemm", [source, f"{layer}.w", f"{layer}.b"], [f"{layer}.c"], transB=1, **more))
        else:
            nodes.append(helper.make_node("Conv", [source, f"{layer}.w", f"{layer}.b"], [f"{layer}.c"]))
        nodes.append(norm_node(f"{layer}.c", f"{layer}.n", layer, opset, training))
        nodes.append(helper.make_node("Relu", [f"{layer}.n"], [f"{layer}.r"], f"{layer}.relu"))
        values = {"w": weight, "b": rng.normal(0, 1, 4), "weight": rng.uniform(0.5, 2, 4), "bias": rng.normal(0, 1, 4)}
        values |= {"mean": rng.normal(0, 1, 4), "var": rng.uniform(0.5, 2, 4)}
        tensors += [numpy_helper.from_array(value.astype(dtype), f"{layer}.{name}") for name, value in values.items()]
        source = f"{layer}.r"
    spatial = [3, 5][: rank - 2]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", elem_type, [batch, 3, *spatial])],
        [helper.make_tensor_value_info("two.r", elem_type, [batch, 4, *spatial])],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version or 8)


def algorithm_2(model, batches, biased=False):
    """The network in float64, in training mode, over the batches: layer → (mean, var)."""
    tensors = {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in model.graph.initializer}
    means, variances = {"one": [], "two": []}, {"one": [], "two": []}
    for x in batches:
        x = np.asarray(x, np.float64)
        for layer in ("one", "two"):
            weight = tensors[f"{layer}.w"].reshape(4, -1)
            per_channel = (1, 4) + (1,) * (x.ndim - 2)
            x = np.einsum("oc,nc...->no...", weight, x) + tensors[f"{layer}.b"].reshape(per_channel)
            axes = (0, *range(2, x.ndim))
            m = x.size // 4
            mean, var = x.mean(axes), x.var(axes)
            means[layer].append(mean)
            variances[layer].append(var * (1 if biased else m / (m - 1)))
            x = (x - mean.reshape(per_channel)) / np.sqrt(var.reshape(per_channel) + EPSILON)
            x = x * tensors[f"{layer}.weight"].reshape(per_channel) + tensors[f"{layer}.bias"].reshape(per_channel)
            x = np.maximum(x, 0)
    return {layer: (np.mean(means[layer], 0), np.mean(variances[layer], 0)) for layer in means}


def stored(path):
    return {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in onnx.load(path).graph.initializer}


def batches_of(count, size, rank=4, dtype=np.float32, seed=1):
    rng = np.random.default_rng(seed)
    return [(rng.normal(0.3, 1.5, (size, 3, *[3, 5][: rank - 2]))).astype(dtype) for _ in range(count)]


@pytest.fixture
def recalibrated(tmp_path):
    """Saves a model, recalibrates it on batches, and gives the report and the path of the result."""

    def make(model, batches, **options):
        path, result = tmp_path / "model.onnx", tmp_path / "result.onnx"
        path.write_bytes(model.SerializeToString())
        return bnfold.recalibrate(path, result, inputs=[{"x": batch} for batch in batches], **options), result

    return make


def assert_statistics(path, expected, tolerance):
    found = stored(path)
    for layer, (mean, var) in expected.items():
        np.testing.assert_allclose(found[f"{layer}.mean"], mean, rtol=0, atol=tolerance * 10)
        np.testing.assert_allclose(found[f"{layer}.var"], var, rtol=tolerance * 5)


class TestAlgebra:
    @pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
    @pytest.mark.parametrize("opset", [6, 7, 9, 13, 14, 15, 17, 18, 21])
    def test_every_opset_and_mode(self, opset, training, recalibrated):
        model = network(opset, training)
        batches = batches_of(3, 8)
        report, path = recalibrated(model, batches)
        assert report.ok
        assert_statistics(path, algorithm_2(model, batches), 2e-6)
        assert [layer.was_training for layer in report.layers] == [training] * 2
        verdicts = pipeline.plan(path).verdicts
        assert [verdict.kind for verdict in verdicts] == ["fold", "fold"]

    @pytest.mark.parametrize("biased", [False, True])
    @pytest.mark.parametrize("rank", [2, 3, 4])
    def test_ranks_and_the_factor(self, rank, biased, recalibrated):
        model = network(rank=rank)
        batches = batches_of(4, 5, rank)
        report, path = recalibrated(model, batches, biased=biased)
        assert_statistics(path, algorithm_2(model, batches, biased), 2e-6)
        assert report.layers[0].values_per_batch == 5 * [1, 3, 15][rank - 2]
        if rank == 2:  # m = 5: the factor is 1.25
            assert not np.allclose(stored(path)["one.var"], algorithm_2(model, batches, not biased)["one"][1], rtol=0.1)

    @pytest.mark.parametrize("name", TYPES)
    def test_types(self, name, recalibrated):
        elem_type, tolerance = TYPES[name]
        model = network(elem_type=elem_type, rank=2)
        batches = batches_of(3, 16, 2, helper.tensor_dtype_to_np_dtype(elem_type))
        report, path = recalibrated(model, batches)
        assert_statistics(path, algorithm_2(model, batches), tolerance)
        assert {tensor.data_type for tensor in onnx.load(path).graph.initializer} == {elem_type}
        assert report.ok

    def test_large_means_do_not_cancel(self, recalibrated):
        model = network()
        batches = [batch + np.float32(1000) for batch in batches_of(3, 8)]
        _, path = recalibrated(model, batches)
        expected = algorithm_2(model, batches)["one"]
        np.testing.assert_allclose(stored(path)["one.var"], expected[1], rtol=2e-3)  # E[x²] − E[x]² would be off by about 1
        np.testing.assert_allclose(stored(path)["one.mean"], expected[0], rtol=1e-6)

    def test_statistics_for_each_position(self, recalibrated):
        model = network(opset=8)
        for node in model.graph.node:
            if node.op_type == "BatchNormalization":
                node.attribute.append(helper.make_attribute("spatial", 0))
        rng = np.random.default_rng(2)
        for tensor in model.graph.initializer:
            if tensor.name.split(".")[1] in ("weight", "bias", "mean", "var"):
                tensor.CopyFrom(numpy_helper.from_array(rng.uniform(0.5, 1, (4, 3, 5)).astype(np.float32), tensor.name))
        batches = batches_of(3, 8)
        report, path = recalibrated(model, batches)
        weight, bias = (stored(path)[f"one.{part}"] for part in "wb")
        layer = [
            np.einsum("oc,nc...->no...", weight[:, :, 0, 0], x.astype(np.float64)) + bias.reshape(1, 4, 1, 1) for x in batches
        ]
        np.testing.assert_allclose(stored(path)["one.mean"], np.mean([x.mean(0) for x in layer], 0), atol=1e-5)
        np.testing.assert_allclose(stored(path)["one.var"], np.mean([x.var(0, ddof=1) for x in layer], 0), rtol=1e-5)
        assert [each.values_per_batch for each in report.layers] == [8, 8]

    def test_as_pytorch_with_plain_averages(self, recalibrated):
        torch = pytest.importorskip("torch", reason="torch is not installed (pip install 'bnfold[torch]')")
        model = network()
        tensors = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in model.graph.initializer}
        layers = []
        for layer in ("one", "two"):
            conv = torch.nn.Conv2d(tensors[f"{layer}.w"].shape[1], 4, 1)
            norm = torch.nn.BatchNorm2d(4, eps=EPSILON, momentum=None)  # the plain average over batches
            with torch.no_grad():
                for module, names in ((conv, ("w", "b")), (norm, ("weight", "bias"))):
                    module.weight.copy_(tensors[f"{layer}.{names[0]}"])
                    module.bias.copy_(tensors[f"{layer}.{names[1]}"])
            layers += [conv, norm, torch.nn.ReLU()]
        net = torch.nn.Sequential(*layers).double().train()
        batches = batches_of(6, 8)
        with torch.no_grad():
            for batch in batches:
                net(torch.from_numpy(batch).double())
        _, path = recalibrated(model, batches)
        expected = {
            layer: (net[place].running_mean.numpy(), net[place].running_var.numpy()) for layer, place in (("one", 1), ("two", 4))
        }
        assert_statistics(path, expected, 2e-6)

    def test_good_moving_averages_agree_within_sampling_error(self, recalibrated):
        """The network's own moving averages over 200 batches, and population statistics of 100 other batches."""
        model = network()
        moving = {layer: [np.zeros(4), np.ones(4)] for layer in ("one", "two")}
        for batch in batches_of(200, 32, seed=5):
            for layer, found in algorithm_2(model, [batch]).items():
                for place, value in enumerate(found):
                    moving[layer][place] = 0.9 * moving[layer][place] + 0.1 * value
        for tensor in model.graph.initializer:
            layer, part = tensor.name.split(".")
            if part in ("mean", "var"):
                value = moving[layer][part == "var"].astype(np.float32)
                tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
        report, _ = recalibrated(model, batches_of(100, 32, seed=6))
        assert not any(layer.has_moved for layer in report.layers)
        assert all(layer.mean_shift < 0.1 for layer in report.layers)
        stale = network()
        report, _ = recalibrated(stale, batches_of(20, 32, seed=6))
        assert all(layer.has_moved for layer in report.layers)


class TestBatches:
    def test_npz_is_cut_into_batches_and_a_smaller_last_one_is_left_out(self, tmp_path):
        model, whole = network(), np.concatenate(batches_of(3, 8))
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        np.savez(tmp_path / "in.npz", x=whole[:21])
        report = bnfold.recalibrate(tmp_path / "m.onnx", tmp_path / "r.onnx", inputs=tmp_path / "in.npz", batch=8)
        assert (report.batches, report.batch, report.samples) == (2, 8, 16)
        assert_statistics(tmp_path / "r.onnx", algorithm_2(model, [whole[:8], whole[8:16]]), 2e-6)

    def test_fewer_samples_than_a_batch_are_one_batch(self, tmp_path):
        (tmp_path / "m.onnx").write_bytes(network().SerializeToString())
        np.savez(tmp_path / "in.npz", x=batches_of(1, 5)[0])
        report = bnfold.recalibrate(tmp_path / "m.onnx", tmp_path / "r.onnx", inputs=tmp_path / "in.npz")
        assert report.batches == 1

    def test_limit(self, tmp_path):
        (tmp_path / "m.onnx").write_bytes(network().SerializeToString())
        np.savez(tmp_path / "in.npz", x=np.concatenate(batches_of(4, 8)))
        report = bnfold.recalibrate(tmp_path / "m.onnx", tmp_path / "r.onnx", inputs=tmp_path / "in.npz", batch=8, batches=3)
        assert report.batches == 3

    def test_the_model_may_fix_the_batch(self, tmp_path):
        (tmp_path / "m.onnx").write_bytes(network(batch=4).SerializeToString())
        np.savez(tmp_path / "in.npz", x=np.concatenate(batches_of(4, 8)))
        report = bnfold.recalibrate(tmp_path / "m.onnx", tmp_path / "r.onnx", inputs=tmp_path / "in.npz")
        assert (report.batch, report.batches) == (4, 8)
        with pytest.raises(InputError, match="takes batches of 4"):
            bnfold.recalibrate(tmp_path / "m.onnx", tmp_path / "r.onnx", inputs=tmp_path / "in.npz", batch=8)

    def test_one_value_has_no_variance(self, recalibrated):
        with pytest.raises(InputError, match="1 value for each channel"):
            recalibrated(network(rank=2), batches_of(3, 1, 2))
        report, _ = recalibrated(network(), batches_of(3, 1))  # 15 positions
        assert report.ok

    @pytest.mark.parametrize(
        ("value", "words"),
        [(np.nan, "NaN or infinite"), (1e38, "NaN or infinite")],
    )
    def test_data_that_break_the_network(self, value, words, recalibrated):
        with pytest.raises(InputError, match=words):
            recalibrated(network(), [np.full((4, 3, 3, 5), value, np.float32)])

    def test_no_batches(self, recalibrated):
        with pytest.raises(InputError, match="holds no samples"):
            recalibrated(network(), [])

    @pytest.mark.parametrize("options", [{}, {"data": "a", "inputs": []}], ids=["none", "both"])
    def test_one_source_of_data(self, options, tmp_path):
        (tmp_path / "m.onnx").write_bytes(network().SerializeToString())
        with pytest.raises(InputError, match="either --data"):
            bnfold.recalibrate(tmp_path / "m.onnx", tmp_path / "r.onnx", **options)

    def test_sorted_data_are_noticed(self, tmp_path):
        (tmp_path / "m.onnx").write_bytes(network().SerializeToString())
        x, labels = np.concatenate(batches_of(10, 8)), np.repeat(np.arange(10), 8)
        np.savez(tmp_path / "sorted.npz", x=x, label=labels)
        np.savez(tmp_path / "mixed.npz", x=x, label=np.random.default_rng(0).permutation(labels))
        codes = {}
        for name in ("sorted", "mixed"):
            report = bnfold.recalibrate(tmp_path / "m.onnx", tmp_path / "r.onnx", data=str(tmp_path / f"{name}.npz"), batch=8)
            codes[name] = [note.code for note in report.notes]
        assert codes == {"sorted": ["BNF026"], "mixed": []}


def without(model, names):
    """The model with these initializers emptied."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in copy.graph.initializer:
        if tensor.name in names:
            tensor.Clear()
    return copy


class TestFile:
    STATISTICS = ("one.mean", "one.var", "two.mean", "two.var")

    def test_nothing_else_changes(self, recalibrated, tmp_path):
        model = network()
        model.graph.doc_string, model.producer_name = "kept", "kept too"
        model.metadata_props.add(key="k", value="v")
        _, path = recalibrated(model, batches_of(2, 8))
        assert without(onnx.load(path), self.STATISTICS) == without(model, self.STATISTICS)
        assert (tmp_path / "model.onnx").read_bytes() == model.SerializeToString()
        assert {each.name for each in tmp_path.iterdir()} == {"model.onnx", "result.onnx"}

    @pytest.mark.parametrize("opset", [13, 17])
    def test_of_training_mode_only_the_mode_goes(self, opset, recalibrated):
        _, path = recalibrated(network(opset, training=True), batches_of(2, 8))
        assert without(onnx.load(path), self.STATISTICS) == without(network(opset), self.STATISTICS)
        onnx.checker.check_model(onnx.load(path), full_check=True)

    def test_again_it_is_the_same(self, recalibrated, tmp_path):
        _, path = recalibrated(network(), batches_of(2, 8))
        first = path.read_bytes()
        bnfold.recalibrate(path, tmp_path / "again.onnx", inputs=[{"x": batch} for batch in batches_of(2, 8)])
        assert (tmp_path / "again.onnx").read_bytes() == first

    def test_shared_statistics_are_given_up(self, recalibrated):
        model = network()
        for place in (3, 4):
            model.graph.node[4].input[place] = model.graph.node[1].input[place]
        for place in reversed(range(len(model.graph.initializer))):
            if model.graph.initializer[place].name in ("two.mean", "two.var"):
                del model.graph.initializer[place]
        batches = batches_of(3, 8)
        _, path = recalibrated(model, batches)
        result = onnx.load(path)
        names = [list(node.input)[3:] for node in result.graph.node if node.op_type == "BatchNormalization"]
        assert names == [["one.running_mean", "one.running_var"], ["two.running_mean", "two.running_var"]]
        found, expected = stored(path), algorithm_2(model, batches)
        for layer in ("one", "two"):
            np.testing.assert_allclose(found[f"{layer}.running_var"], expected[layer][1], rtol=1e-5)
        assert not {"one.mean", "one.var"} & found.keys()  # nothing reads them any more

    def test_a_statistic_that_something_else_reads_stays(self, recalibrated):
        model = network()
        model.graph.node.append(helper.make_node("Identity", ["one.mean"], ["copy"]))
        model.graph.output.append(helper.make_tensor_value_info("copy", TensorProto.FLOAT, [4]))
        _, path = recalibrated(model, batches_of(2, 8))
        before = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        np.testing.assert_array_equal(stored(path)["one.mean"], before["one.mean"])
        assert "one.running_mean" in stored(path)

    def test_constant_nodes_are_replaced(self, recalibrated):
        model = network()
        values = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name in self.STATISTICS}
        constants = [helper.make_node("Constant", [], [name], value=tensor) for name, tensor in values.items()]
        kept = [tensor for tensor in model.graph.initializer if tensor.name not in values]
        nodes = [*constants, *model.graph.node]
        del model.graph.initializer[:], model.graph.node[:]
        model.graph.initializer.extend(kept)
        model.graph.node.extend(nodes)
        batches = batches_of(2, 8)
        _, path = recalibrated(model, batches)
        assert not [node for node in onnx.load(path).graph.node if node.op_type == "Constant"]
        np.testing.assert_allclose(stored(path)["two.running_var"], algorithm_2(network(), batches)["two"][1], rtol=1e-5)

    @pytest.mark.parametrize("ir_version", [3, 4])
    def test_initializers_that_are_inputs(self, ir_version, recalibrated):
        model = network(opset=9, ir_version=ir_version)
        for tensor in model.graph.initializer:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
        batches = batches_of(2, 8)
        _, path = recalibrated(model, batches)
        assert onnx.load(path).graph.input == model.graph.input
        assert_statistics(path, algorithm_2(model, batches), 2e-6)

    def test_external_data(self, tmp_path):
        model, batches = network(), batches_of(2, 8)
        expected = algorithm_2(model, batches)
        onnx.save_model(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
        before = (tmp_path / "m.data").read_bytes()
        report = bnfold.recalibrate(tmp_path / "m.onnx", tmp_path / "r.onnx", inputs=[{"x": batch} for batch in batches])
        assert report.data_files == ("r.onnx.data",)
        assert_statistics(tmp_path / "r.onnx", expected, 2e-6)
        assert (tmp_path / "m.data").read_bytes() == before

    def test_dropout_is_put_out(self, recalibrated):
        model = network()
        drop = helper.make_node("Dropout", ["one.r", "ratio", "training"], ["one.d"], "drop")
        model.graph.node.insert(3, drop)
        model.graph.node[4].input[0] = "one.d"
        model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "ratio"))
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "training"))
        batches = batches_of(3, 8)
        report, path = recalibrated(model, batches)
        assert [note.code for note in report.notes] == ["BNF002"]
        assert_statistics(path, algorithm_2(network(), batches), 2e-6)
        (node,) = (node for node in onnx.load(path).graph.node if node.op_type == "Dropout")
        assert list(node.input) == ["one.r", "ratio"]

    def test_the_source_cannot_be_the_destination(self, tmp_path):
        (tmp_path / "m.onnx").write_bytes(network().SerializeToString())
        with pytest.raises(InputError, match="input itself"):
            bnfold.recalibrate(tmp_path / "m.onnx", tmp_path / "m.onnx", inputs=[])


def in_a_branch(model):
    """The model with its second normalization in both branches of an If, one of them in training mode."""
    graph = model.graph
    branches = []
    for word in ("then", "else"):
        node = onnx.NodeProto()
        node.CopyFrom(graph.node[4])
        node.output[0] = f"{word}.n"
        node.name = f"{word}.norm"
        output = helper.make_tensor_value_info(f"{word}.n", TensorProto.FLOAT, None)
        branches.append(helper.make_graph([node], word, [], [output]))
    choice = helper.make_node("If", ["flag"], ["two.n"], "if", then_branch=branches[0], else_branch=branches[1])
    graph.node[4].CopyFrom(choice)
    graph.initializer.append(numpy_helper.from_array(np.array(True), "flag"))
    return model


def fed(model):
    """The model with a running mean that the caller feeds."""
    graph = model.graph
    for place in reversed(range(len(graph.initializer))):
        if graph.initializer[place].name == "two.mean":
            del graph.initializer[place]
    graph.node.insert(0, helper.make_node("ReduceMean", ["x"], ["m"], axes=[0, 1, 2, 3], keepdims=0))
    graph.node.insert(1, helper.make_node("Expand", ["m", "four"], ["two.mean"]))
    graph.initializer.append(numpy_helper.from_array(np.array([4]), "four"))
    return model


def read(model):
    """A model in training mode whose new running mean is an output."""
    node = model.graph.node[4]
    del node.output[1:]
    node.output.extend(["seen", "new_var"])
    next(each for each in node.attribute if each.name == "training_mode").i = 1
    model.graph.output.append(helper.make_tensor_value_info("seen", TensorProto.FLOAT, [4]))
    return model


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "words", "names"),
        [
            (in_a_branch, "stands in if/", {"then.norm", "else.norm"}),
            (fed, "running_mean cannot be replaced", {"two"}),
            (read, "training output `seen` is read", {"two"}),
        ],
    )
    def test_a_normalization_that_cannot_be_measured(self, change, words, names, recalibrated):
        report, path = recalibrated(change(network()), batches_of(2, 8))
        assert report.ok
        assert {refusal.normalization.name for refusal in report.refusals} == names
        assert {refusal.code for refusal in report.refusals} == {"BNF025"}
        assert words in report.refusals[0].sentence
        assert report.refusals[0].remedy
        assert [layer.name for layer in report.layers] == ["one"]
        np.testing.assert_allclose(stored(path)["one.var"], algorithm_2(network(), batches_of(2, 8))["one"][1], rtol=1e-5)

    def test_none_can_be_measured(self, recalibrated, tmp_path):
        model = in_a_branch(network())
        model.graph.node[1].CopyFrom(helper.make_node("Identity", ["one.c"], ["one.n"]))
        report, path = recalibrated(model, batches_of(2, 8))
        assert not report.ok
        assert not path.exists()
        with pytest.raises(GateFailed, match="None of its normalizations"):
            report.raise_for_status()

    def test_there_is_none(self, recalibrated):
        model = network()
        for place in (1, 4):
            source, target = model.graph.node[place].input[0], model.graph.node[place].output[0]
            model.graph.node[place].CopyFrom(helper.make_node("Identity", [source], [target]))
        with pytest.raises(InputError, match="no BatchNormalization"):
            recalibrated(model, batches_of(2, 8))

    def test_statistics_that_overflow_float16(self, recalibrated):
        model = network(elem_type=TensorProto.FLOAT16, rank=2)
        for tensor in model.graph.initializer:
            if tensor.name == "two.w":
                tensor.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(tensor) * 3000).astype(np.float16), "two.w"))
        report, _ = recalibrated(model, batches_of(2, 16, 2, np.float16))
        assert [(refusal.code, refusal.normalization.name) for refusal in report.refusals] == [("BNF008", "two")]


class TestCommand:
    @pytest.fixture
    def files(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("model.onnx").write_bytes(network(training=True).SerializeToString())
        np.savez("in.npz", x=np.concatenate(batches_of(4, 8)))

    @staticmethod
    def run(*arguments):
        result = CliRunner().invoke(cli, ["recalibrate", *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def test_screen(self, files):
        result = self.run("model.onnx", "--inputs", "in.npz", "--batch", "8")
        assert result.exit_code == 0, result.output
        assert "measured 2 of 2 normalizations · 4 batches of 8 of in.npz · unbiased variance" in result.stdout
        assert "2 were in training mode" in result.stdout
        assert "|Δmean|/σ" in result.stdout
        assert "wrote    model.recalibrated.onnx" in result.stdout
        assert Path("model.recalibrated.onnx").exists()

    def test_one_batch_says_nothing_about_sampling(self, files):
        result = self.run("model.onnx", "--inputs", "in.npz", "--batch", "8", "--batches", "1")
        assert result.exit_code == 0, result.output
        assert "1 batch of in.npz" in result.stdout
        assert "one batch does not show what sampling explains" in result.stdout
        assert "0.000\n" not in result.stdout

    def test_json(self, files):
        document = json.loads(self.run("model.onnx", "--inputs", "in.npz", "-o", "r.onnx", "--json", "--biased").stdout)
        assert document["ok"]
        assert document["biased"]
        assert document["batches"] == 1
        assert document["layers"][0]["was_training"]
        assert set(document["layers"][0]) >= {"mean_shift", "variance_ratio", "batch_spread", "values_per_batch"}

    def test_quiet(self, files):
        assert self.run("model.onnx", "--inputs", "in.npz", "-q").stdout == ""

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("model.onnx",), "either --data or --inputs"),
            (("model.onnx", "--inputs", "in.npz", "--data", "in.npz"), "either --data or --inputs"),
            (("missing.onnx", "--inputs", "in.npz"), "does not exist"),
            (("model.onnx", "--data", "missing"), "missing does not exist"),
            (("model.onnx", "--inputs", "in.npz", "-o", "model.onnx"), "input itself"),
        ],
    )
    def test_errors(self, arguments, words, files):
        before = set(Path().iterdir())
        result = self.run(*arguments)
        assert result.exit_code == 2
        assert words in result.stderr
        assert set(Path().iterdir()) == before

    def test_the_module_does_not_hide_the_function(self):
        from bnfold.exporter import export as _export  # noqa: F401
        from bnfold.population import recalibrate as _recalibrate  # noqa: F401

        assert callable(bnfold.recalibrate)
        assert callable(bnfold.export)


@pytest.mark.skipif(not FASHION.is_dir(), reason="Fashion-MNIST is not in shared/data beside the repository")
def test_wiped_statistics_are_restored(tmp_path):
    """LeNet with mean 0 and variance 1 everywhere, from one class for nearly everything back to what it was."""
    model = onnx.load(ROOT / "models" / "lenet.onnx")
    for tensor in model.graph.initializer:
        if tensor.name.endswith(("running_mean", "running_var")):
            value = np.full(tuple(tensor.dims), float(tensor.name.endswith("var")), np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    onnx.save(model, tmp_path / "wiped.onnx")
    report = bnfold.recalibrate(
        tmp_path / "wiped.onnx", tmp_path / "fresh.onnx", data=f"{FASHION}:idx-train", preprocess="mnist", batch=256, batches=20
    )
    assert [layer.before for layer in report.layers] == ["untrained"] * 4
    bnfold.optimize(tmp_path / "fresh.onnx", tmp_path / "folded.onnx").raise_for_status()
    found = [right(path) for path in (tmp_path / "wiped.onnx", tmp_path / "fresh.onnx", tmp_path / "folded.onnx")]
    assert found[0] < 500
    assert found[1] > 1680
    assert found[1] == found[2]


@pytest.mark.skipif(not FASHION.is_dir(), reason="Fashion-MNIST is not in shared/data beside the repository")
def test_good_moving_averages_agree(tmp_path):
    """The perceptron was trained at a small learning rate: its averages are what the training images give."""
    flat = tmp_path / "flat.py"
    flat.write_text("def flat(image):\n    return (image.astype('float32') / 255).ravel()\n")
    model = ROOT / "models" / "mlp.onnx"
    data = f"{FASHION}:idx-train"
    report = bnfold.recalibrate(model, tmp_path / "m.onnx", data=data, preprocess=f"{flat}:flat", batch=60, batches=200)
    assert [layer.has_moved for layer in report.layers] == [False] * 3
    assert all(layer.before == "stored" for layer in report.layers)


def right(path):
    """Right answers on the first 2,000 test images."""
    import onnxruntime

    from bnfold.data import open_data

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    batches = open_data(f"{FASHION}:idx-test", "mnist").batches(500, stop=2000)
    return sum(int((session.run(None, {"image": batch.inputs[""]})[0].argmax(1) == batch.labels).sum()) for batch in batches)
