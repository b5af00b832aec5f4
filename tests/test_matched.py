"""Inputs matched to the statistics that normalizations store."""

from __future__ import annotations

from pathlib import Path

import click.testing
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from bnfold.cli.main import cli
from bnfold.runtime.feeds import generated_feeds
from bnfold.runtime.matched import with_matched
from bnfold.runtime.source import read_source
from bnfold.runtime.statistics import Moments, Watch, distance
from bnfold.runtime.verify import verify

LENET = Path(__file__).resolve().parents[1] / "models" / "lenet.onnx"


def matched(model, seed=0):
    """The matched feeds of the first proposal, and all others."""
    source = read_source(model, "original")
    proposal = next(with_matched(source, generated_feeds(source.inputs, {}, seed), seed))
    return [[feed for feed in proposal if feed.label.startswith("matched") is wanted] for wanted in (True, False)]


def distances(model, feeds):
    watch = Watch(read_source(model, "original"))
    return [distance(watch.moments([watch.run(feed.values)])) for feed in feeds]


def lenet(**changes):
    """The trained LeNet; `batch` fixes its batch."""
    model = onnx.load(LENET)
    if "batch" in changes:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = changes["batch"]
    return model


def single(shape, mean, var, prefix=""):
    """A convolution of 1 × 1 that swaps two channels and takes 3 and 2 times them, before a normalization."""
    model = parser.parse_model(
        f"<ir_version: 8, opset_import: ['' : 17]> g (float[{shape}] x) => (float[A, B, C, D] y) "
        f"{{ {prefix or 'p = Identity (x)'} c = Conv (p, W) y = BatchNormalization (c, one, zero, mean, var) }}".replace("'", '"')
    )
    values = {"W": [[0, 3], [2, 0]], "one": [1, 1], "zero": [0, 0], "mean": mean, "var": var}
    for name, value in values.items():
        array = np.float32(value).reshape(2, 2, 1, 1) if name == "W" else np.float32(value)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


def test_a_trained_network_sees_what_it_was_trained_on():
    ours, others = matched(LENET)
    assert len(ours) == 1
    assert ours[0].wide
    assert ours[0].generated
    assert distances(LENET, ours)[0] < 0.3 < min(distances(LENET, others))


@pytest.mark.parametrize("seed", [0, 1])
def test_mean_and_strength_of_each_channel_are_solved_for(seed):
    (feed,), _ = matched(single("N, 2, 16, 16", mean=[30, -4], var=[900, 0.04]), seed)
    x = feed.values["x"].astype(np.float64)
    np.testing.assert_allclose(x.mean((0, 2, 3)), [-2, 10], rtol=0.1)
    np.testing.assert_allclose(x.std((0, 2, 3)), [0.1, 10], rtol=0.1)


def test_a_network_that_scales_its_input_down_gets_a_large_one():
    prefix = "k = Constant <value = float[1] {0.00392}> () p = Mul (x, k)"
    (feed,), _ = matched(single("N, 2, 16, 16", mean=[1.5, 1], var=[0.36, 0.16], prefix=prefix))
    assert 110 < feed.values["x"].mean() < 145


def test_an_input_behind_something_nonlinear_is_searched_for():
    model = single("N, 2, 16, 16", mean=[1.5, 1], var=[0.36, 0.16], prefix="p = Sigmoid (x)")
    ours, others = matched(model)
    assert distances(model, ours)[0] < min(distances(model, others[:1]))


def test_a_fixed_batch_is_kept():
    model = lenet(batch=3)
    ours, _ = matched(model)
    assert [feed.values["image"].shape for feed in ours] == 3 * [(3, 1, 28, 28)]
    assert len({feed.label for feed in ours}) == 3
    assert max(distances(model, ours)) < 0.5


def test_a_seed_decides_everything():
    one, again, other = (matched(LENET, seed)[0][0].values["image"].tobytes() for seed in (0, 0, 1))
    assert one == again != other


def test_other_inputs_and_the_rest_of_the_model_are_left_alone(network):
    model = network()
    before = model.SerializeToString()
    ours, others = matched(model)
    assert model.SerializeToString() == before
    assert all(feed.values["flag"] is others[0].values["flag"] for feed in ours)
    assert all(feed.values["x"].shape == others[0].values["x"].shape for feed in ours)


@pytest.mark.parametrize(
    "graph",
    [
        "g (float[N, 3] x) => (float[N, 3] y) { y = Relu (x) }",
        "g (int64[N, 3] x) => (int64[N, 3] y) { y = Neg (x) }",
        "g (float x) => (float y) { y = Neg (x) }",
    ],
    ids=["no statistics", "no floats", "no channels"],
)
def test_a_model_with_nothing_to_match_keeps_its_feeds(graph):
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {graph}')
    ours, others = matched(model)
    assert ours == []
    assert others


def test_a_normalization_in_training_mode_is_not_matched():
    model = single("N, 2, 4, 4", mean=[0, 0], var=[1, 1])
    model.graph.node[-1].attribute.append(helper.make_attribute("training_mode", 1))
    assert matched(model)[0] == []


def test_a_model_that_does_not_run_keeps_its_feeds():
    model = single("N, 3, 4, 4", mean=[0, 0], var=[1, 1])  # three channels, and its weight has two
    assert matched(model)[0] == []


def test_divergence_is_zero_where_the_moments_agree_and_grows_both_ways():
    def divergence(mean, var):
        return Moments("x", np.zeros(1), np.ones(1), np.float64([mean]), np.float64([var])).divergence[0]

    assert divergence(0, 1) == 0
    assert divergence(1, 1) == pytest.approx(0.5)
    assert min(divergence(0, 2), divergence(0, 0.5), divergence(-1, 1)) > 0
    assert distance([Moments("x", np.zeros(1), np.ones(1), np.float64([np.inf]), np.ones(1))]) == np.inf


def test_verify_runs_on_matched_inputs_when_asked():
    plain, with_them = (verify(LENET, LENET, match_statistics=asked) for asked in (False, True))
    assert with_them.ok
    assert with_them.feeds == plain.feeds + 1


def test_the_command_line_takes_the_option(tmp_path):
    target = tmp_path / "folded.onnx"
    result = click.testing.CliRunner().invoke(cli, ["optimize", str(LENET), "-o", str(target), "--match-statistics"])
    assert result.exit_code == 0, result.output
    result = click.testing.CliRunner().invoke(cli, ["verify", str(LENET), str(target), "--match-statistics"])
    assert result.exit_code == 0, result.output
