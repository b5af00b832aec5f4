"""Models that fold without a view: the same result, the same words, and nothing that a view would have decided otherwise."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.plain import fold_plain
from tests.cases import CASES
from tests.cases_algebra import CASES as ALGEBRA
from tests.random_graphs import sample

ROOT = Path(__file__).resolve().parents[1]
ROWS = {case.name: case for case in (*CASES, *ALGEBRA)}


@dataclass
class Net:
    """Convs with a BatchNormalization each, to be changed in one thing."""

    model: onnx.ModelProto
    tensors: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tensors = {tensor.name: tensor for tensor in self.model.graph.initializer}

    @property
    def nodes(self) -> Any:
        return self.model.graph.node

    def store(self, name: str, values: Any, dtype: Any = None) -> None:
        values = np.asarray(values)
        self.tensors[name].CopyFrom(numpy_helper.from_array(values.astype(dtype or values.dtype), name))

    def values(self, name: str) -> np.ndarray:
        return numpy_helper.to_array(self.tensors[name])


def net(seed: int = 0, layers: int = 3, opset: int = 17, ir: int = 8, dtype: Any = np.float32) -> Net:
    """`layers` of Conv, BatchNormalization and Relu; every other Conv has a bias."""
    random, nodes, tensors, source = np.random.default_rng(seed), [], [], "x"
    channels = [3, *random.integers(2, 6, layers).tolist()]
    for place in range(layers):
        given, made = channels[place : place + 2]
        new = {"W": random.normal(size=(made, given, 1, 1)), "gamma": random.normal(size=made), "beta": random.normal(size=made)}
        new |= {"mean": random.normal(size=made), "var": random.uniform(0.5, 2, made)}
        new |= {"b": random.normal(size=made)} if place % 2 else {}
        tensors += [numpy_helper.from_array(values.astype(dtype), f"{name}{place}") for name, values in new.items()]
        bias = [f"b{place}"] if place % 2 else []
        nodes.append(helper.make_node("Conv", [source, f"W{place}", *bias], [f"c{place}"], f"conv{place}"))
        statistics = [f"{name}{place}" for name in ("gamma", "beta", "mean", "var")]
        nodes.append(helper.make_node("BatchNormalization", [f"c{place}", *statistics], [f"n{place}"], f"bn{place}"))
        nodes.append(helper.make_node("Relu", [f"n{place}"], [f"r{place}"]))
        source = f"r{place}"
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    given = helper.make_tensor_value_info("x", elem_type, [1, 3, 4, 4])
    result = helper.make_tensor_value_info(source, elem_type, None)
    graph = helper.make_graph(nodes, "net", [given], [result], tensors)
    return Net(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir))


def viewing() -> Any:
    """While nothing counts as plain."""
    return mock.patch("bnfold.decision.fold_plain", return_value=None)


def both(model: onnx.ModelProto, **options: Any) -> tuple[Any, Any]:
    """The model folded with and without a view, or what is said against it."""
    results = []
    for how in (nullcontext(), viewing()):
        with how:
            try:
                found = bnfold.fold(model, **options)
                results.append((found.model.SerializeToString(deterministic=True), found.plan))
            except bnfold.InputError as error:
                results.append((b"", str(error)))
    return results[0], results[1]


@pytest.mark.parametrize("name", ROWS)
def test_every_row_of_the_tables_comes_out_alike(name):
    case = ROWS[name]
    plain, viewed = both(case.model(), **case.options)
    assert plain == viewed


def test_many_rows_are_plain():
    """Otherwise the test above would say nothing."""
    assert sum(fold_plain(case.model()) is not None for case in ROWS.values()) > 20


@pytest.mark.parametrize("start", range(0, 400, 50))
def test_random_graphs_come_out_alike(start):
    for seed in range(910_000 + start, 910_050 + start):
        plain, viewed = both(sample(seed).model)
        assert plain == viewed, seed


# -- plain ----------------------------------------------------------------------------------------------------------------


def _share_statistics(made: Net) -> None:
    for place in (3, 4):  # of one extent, whatever the seed
        made.store(f"{('gamma', 'beta', 'mean', 'var')[place - 1]}0", made.values("gamma0") + 2)
    made.nodes[1].input[3] = made.nodes[1].input[4]


def _unsort(made: Net) -> None:
    nodes = list(reversed(made.nodes))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del made.nodes[:]
    made.nodes.extend(copies)


PLAIN: dict[str, Callable[[Net], Any]] = {
    "as it is": lambda made: None,
    "without names": lambda made: [node.ClearField("name") for node in made.nodes],
    "an empty bias": lambda made: made.nodes[0].input.append(""),
    "a bias of zeros": lambda made: [made.store(f"{name}0", 0 * made.values(f"{name}0")) for name in ("beta", "mean")],
    "one statistic for two": _share_statistics,
    "a statistic that something else reads": lambda made: made.nodes.append(helper.make_node("Abs", ["var1"], ["extra"])),
    "a statistic that is an output": lambda made: made.model.graph.output.append(
        helper.make_tensor_value_info("gamma1", TensorProto.FLOAT, None)
    ),
    "a result that is an output": lambda made: made.model.graph.output.append(
        helper.make_tensor_value_info("n1", TensorProto.FLOAT, None)
    ),
    "a name that the new bias would have": lambda made: made.nodes.append(helper.make_node("Abs", ["x"], ["conv0.bias"])),
    "what is said of intermediate tensors": lambda made: made.model.graph.value_info.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("c0", "n0", "r0", "c1")
    ),
    "an unused initializer": lambda made: made.model.graph.initializer.append(
        numpy_helper.from_array(np.ones(2, np.float32), "unused")
    ),
    "the domain by its long name": lambda made: setattr(made.nodes[1], "domain", "ai.onnx"),
    "an epsilon": lambda made: made.nodes[1].attribute.append(helper.make_attribute("epsilon", 0.25)),
    "a zero weight": lambda made: made.store("W1", 0 * made.values("W1")),
    "a subnormal weight": lambda made: made.store("W1", 0 * made.values("W1") + np.float32(1e-42)),
    "NaN among the weights": lambda made: made.store("W1", np.nan * made.values("W1")),
    "training_mode 0": lambda made: made.nodes[1].attribute.append(helper.make_attribute("training_mode", 0)),
}


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("change", PLAIN)
def test_what_is_plain_comes_out_alike(change, flush, tmp_path):
    made = net()
    PLAIN[change](made)
    assert fold_plain(made.model) is not None
    plain, viewed = both(made.model)
    assert plain == viewed
    assert len(plain[1].folds) == 3
    source, files = tmp_path / "in.onnx", []
    onnx.save(made.model, source)
    for name, how in {"plain": nullcontext(), "viewed": viewing()}.items():
        with how:
            bnfold.optimize(source, tmp_path / f"{name}.onnx", verify=False, flush_subnormals=flush)
        files.append((tmp_path / f"{name}.onnx").read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("dtype", [np.float16, np.float64], ids=str)
@pytest.mark.parametrize("opset", [9, 14, 22])
def test_types_and_opsets_come_out_alike(opset, dtype):
    for seed in range(5):
        made = net(seed, layers=4, opset=opset, dtype=dtype)
        plain, viewed = both(made.model)
        assert plain == viewed
        assert fold_plain(made.model) is not None


def test_many_run_by_run(monkeypatch):
    """Weights are laid end to end only up to a size, and only those of one type."""
    monkeypatch.setattr("bnfold.plain._TOGETHER", 10)
    made = net(3, layers=9)
    assert fold_plain(made.model) is not None
    plain, viewed = both(made.model)
    assert plain == viewed


# -- not plain ------------------------------------------------------------------------------------------------------------


def _body() -> onnx.GraphProto:
    node = helper.make_node("Identity", ["r0"], ["inner"])
    return helper.make_graph([node], "body", [], [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)])


def _shape_of_a_constant_extent(made: Net) -> None:
    channels = made.tensors["W2"].dims[0]
    made.nodes.append(helper.make_node("Shape", ["x"], ["s"], start=1, end=2))
    made.nodes.append(helper.make_node("Cast", ["s"], ["f"], to=TensorProto.FLOAT))
    made.nodes.append(helper.make_node("Mul", ["r2", "f"], ["m"]))
    made.nodes.append(helper.make_node("Conv", ["m", "W9"], ["y"]))
    made.model.graph.initializer.append(numpy_helper.from_array(np.ones((2, channels, 1, 1), np.float32), "W9"))
    made.model.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))


NOT_PLAIN: dict[str, Callable[[Net], Any]] = {
    "nodes in reverse": _unsort,
    "a circle": lambda made: made.nodes[0].input.__setitem__(0, "r0"),
    "a factor of a fixed extent": _shape_of_a_constant_extent,
    "a large weight": lambda made: made.store("W0", np.ones((made.tensors["W0"].dims[0], 3, 128, 512), np.float32)),
    "two epsilons": lambda made: made.nodes[1].attribute.extend([helper.make_attribute("epsilon", e) for e in (0.25, 0.5)]),
    "training of another type": lambda made: made.nodes[1].attribute.append(helper.make_attribute("training_mode", 1.0)),
    "an operator's name that is not UTF-8": lambda made: made.model.CopyFrom(
        onnx.ModelProto.FromString(made.model.SerializeToString().replace(b"Relu", b"Re\xffl", 1))
    ),
    "extents that are far too large": lambda made: made.tensors["W0"].dims.__setitem__(1, 10**12),
    "extents that overflow": lambda made: made.tensors["W0"].dims.__setitem__(1, 1 << 62),
    "a negative extent": lambda made: made.tensors["W0"].dims.__setitem__(1, -1),
    "two negative extents": lambda made: made.tensors["W0"].dims.extend([-1, -1]),
    "an output without a name": lambda made: made.model.graph.output.append(helper.make_tensor_value_info("", 1, None)),
    "a Conv whose result has no name": lambda made: (
        made.nodes[0].output.__setitem__(0, ""),
        made.nodes[1].input.__setitem__(0, ""),
    ),
    "an initializer without a name": lambda made: made.model.graph.initializer.append(
        numpy_helper.from_array(np.ones(1, np.float32), "")
    ),
    "a shared weight": lambda made: made.nodes.append(helper.make_node("Abs", ["W0"], ["extra"])),
    "a shared bias": lambda made: made.nodes.append(helper.make_node("Abs", ["b1"], ["extra"])),
    "a weight that is an output": lambda made: made.model.graph.output.append(
        helper.make_tensor_value_info("W0", TensorProto.FLOAT, None)
    ),
    "a Conv that something else reads": lambda made: made.nodes.append(helper.make_node("Abs", ["c0"], ["extra"])),
    "a Conv that is an output": lambda made: made.model.graph.output.append(
        helper.make_tensor_value_info("c0", TensorProto.FLOAT, None)
    ),
    "no Conv": lambda made: setattr(made.nodes[0], "op_type", "ConvTranspose"),
    "a Conv of another domain": lambda made: setattr(made.nodes[0], "domain", "elsewhere"),
    "a normalization of another domain": lambda made: setattr(made.nodes[1], "domain", "elsewhere"),
    "two normalizations": lambda made: made.nodes[2].CopyFrom(
        helper.make_node("BatchNormalization", ["n0", *made.nodes[1].input[1:]], ["r0"])
    ),
    "a map in primitives": lambda made: made.nodes[2].CopyFrom(helper.make_node("Mul", ["n0", "gamma1"], ["r0"])),
    "a Neg": lambda made: made.nodes[2].CopyFrom(helper.make_node("Neg", ["n0"], ["r0"])),
    "a Dropout": lambda made: made.nodes[2].CopyFrom(helper.make_node("Dropout", ["n0"], ["r0"])),
    "a CastLike": lambda made: made.nodes[2].CopyFrom(helper.make_node("CastLike", ["n0", "x"], ["r0"])),
    "training": lambda made: made.nodes[1].attribute.append(helper.make_attribute("training_mode", 1)),
    "side outputs": lambda made: made.nodes[1].output.extend(["m", "v"]),
    "an epsilon of another type": lambda made: made.nodes[1].attribute.append(helper.make_attribute("epsilon", 1)),
    "an unknown attribute": lambda made: made.nodes[1].attribute.append(helper.make_attribute("spatial", 1)),
    "a body": lambda made: made.nodes.append(helper.make_node("If", ["x"], ["extra"], then_branch=_body(), else_branch=_body())),
    "a function": lambda made: made.model.functions.append(
        helper.make_function("local", "f", ["a"], ["b"], [helper.make_node("Abs", ["a"], ["b"])], made.model.opset_import)
    ),
    "an old opset": lambda made: setattr(made.model.opset_import[0], "version", 8),
    "an old IR": lambda made: setattr(made.model, "ir_version", 3),
    "an overridable weight": lambda made: made.model.graph.input.append(
        helper.make_tensor_value_info("W0", TensorProto.FLOAT, made.tensors["W0"].dims)
    ),
    "an overridable statistic": lambda made: made.model.graph.input.append(
        helper.make_tensor_value_info("var0", TensorProto.FLOAT, made.tensors["var0"].dims)
    ),
    "a weight that is fed": lambda made: made.nodes[0].input.__setitem__(1, "x"),
    "a statistic that is fed": lambda made: made.nodes[1].input.__setitem__(4, "x"),
    "quantization notes": lambda made: made.model.graph.quantization_annotation.add(tensor_name="c0"),
    "training information": lambda made: made.model.training_info.add(),
    "a statistic of another type": lambda made: made.store("mean0", made.values("mean0"), np.float64),
    "a bias of another type": lambda made: made.store("b1", made.values("b1"), np.float64),
    "too many channels": lambda made: [
        made.store(f"{name}0", np.ones(9, np.float32)) for name in ("gamma", "beta", "mean", "var")
    ],
    "statistics of another shape": lambda made: made.store("mean0", made.values("mean0")[None]),
    "a bias of another shape": lambda made: made.store("b1", made.values("b1")[:1]),
    "an empty weight": lambda made: made.store("W0", made.values("W0")[:, :0]),
    "no spatial axes": lambda made: made.store("W0", made.values("W0")[..., 0, 0]),
    "values that are no raw data": lambda made: made.tensors["W0"].CopyFrom(
        helper.make_tensor("W0", TensorProto.FLOAT, made.tensors["W0"].dims, made.values("W0").ravel())
    ),
    "too few values": lambda made: setattr(made.tensors["W0"], "raw_data", made.tensors["W0"].raw_data[:-4]),
    "a negative variance": lambda made: made.store("var0", -made.values("var0")),
    "NaN among the means": lambda made: made.store("mean0", np.nan * made.values("mean0")),
    "NaN among the biases": lambda made: made.store("b1", np.nan * made.values("b1")),
    "statistics that look untrained": lambda made: (
        made.store("mean0", 0 * made.values("mean0")),
        made.store("var0", 0 * made.values("var0") + 1),
    ),
    "a weight that overflows": lambda made: (
        made.store("W0", 0 * made.values("W0") + np.float32(3e38)),
        made.store("gamma0", 100 + made.values("gamma0")),
    ),
    "a bias that overflows": lambda made: (
        made.store("b1", 0 * made.values("b1") + np.float32(3e38)),
        made.store("gamma1", 100 + made.values("gamma1")),
    ),
    "a weight that becomes subnormal": lambda made: (
        made.store("W0", 0 * made.values("W0") + np.float32(2e-38)),
        made.store("gamma0", 1e-3 + 0 * made.values("gamma0"), np.float32),
    ),
    "no normalization": lambda made: (
        [setattr(made.nodes[place], "op_type", "Abs") for place in (1, 4, 7)]
        + [made.nodes[place].input.__delitem__(slice(1, None)) for place in (1, 4, 7)]
    ),
    "a name that nothing defines": lambda made: made.nodes[2].input.__setitem__(0, "nowhere"),
    "a name that is defined twice": lambda made: made.nodes[2].output.__setitem__(0, "n0"),
}


@pytest.mark.parametrize("change", NOT_PLAIN)
def test_what_is_not_plain_is_left_to_the_view(change):
    made = net(1)
    assert fold_plain(made.model) is not None
    NOT_PLAIN[change](made)
    with np.errstate(invalid="ignore"):
        assert fold_plain(made.model) is None
    plain, viewed = both(made.model)
    assert plain == viewed


@pytest.mark.parametrize(
    "options",
    [{"keep": ["bn1"]}, {"only": ["bn1"]}, {"no_batchnorm": True}, {"force": True}, {"freeze_initializers": True}],
    ids=str,
)
def test_options_come_out_alike(options):
    plain, viewed = both(net().model, **options)
    assert plain == viewed


def test_a_plan_leaves_the_model_as_it_is():
    made = net()
    before = made.model.SerializeToString()
    assert len(bnfold.plan(made.model).folds) == 3
    assert made.model.SerializeToString() == before


def test_a_plain_model_loads_no_view(tmp_path: Path):
    onnx.save(net().model, tmp_path / "in.onnx")
    code = (
        f"import sys, bnfold; bnfold.optimize({str(tmp_path / 'in.onnx')!r}, {str(tmp_path / 'out.onnx')!r}, verify=False)\n"
        "print({'onnx_graphsurgeon', 'bnfold.graph', 'bnfold.ops'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
