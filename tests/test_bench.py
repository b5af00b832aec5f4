"""Benchmarks: what may be claimed, on simulated timings only, and what is measured, without looking at how long it took."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx.parser
import onnxruntime as ort
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

import bnfold
from bnfold.cli import bench as command_line
from bnfold.cli.main import cli
from bnfold.errors import InputError
from bnfold.report.bench_text import bench_text, milliseconds
from bnfold.runtime import bench as measuring
from bnfold.runtime.bench import OWN_FUSIONS, SETTINGS, bench
from bnfold.runtime.bench_feed import batched, extent, runner
from bnfold.runtime.bench_measure import PAUSE_S, Runner, Samples, time_block
from bnfold.runtime.bench_profile import operator_times
from bnfold.runtime.bench_result import Benchmark
from bnfold.runtime.bench_statistics import FEWEST_BLOCKS, Difference, Interval, compare, median_interval
from bnfold.runtime.feeds import Feed
from bnfold.runtime.source import ValueSpec, read_source

LENET = Path(__file__).resolve().parent.parent / "models" / "lenet.onnx"

LATENCIES = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=40)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result


# -- intervals ------------------------------------------------------------------------------------------------------------


@given(LATENCIES)
def test_an_interval_holds_the_median_and_lies_among_the_values(values: list[float]) -> None:
    found = median_interval(values)
    assert min(values) <= found.low <= found.median <= found.high <= max(values)
    assert found.median == pytest.approx(statistics.median(values))
    assert 0 <= found.confidence <= 1


@given(LATENCIES, st.floats(1e-3, 1e3))
def test_an_interval_follows_the_unit(values: list[float], factor: float) -> None:
    one, other = median_interval(values), median_interval([factor * value for value in values])
    assert [other.low, other.median, other.high] == pytest.approx([factor * one.low, factor * one.median, factor * one.high])
    assert other.confidence == one.confidence


@pytest.mark.parametrize(
    ("n", "position", "confidence"),
    [(1, 0, 0), (5, 0, 0.9375), (6, 0, 0.96875), (8, 0, 0.9921875), (9, 1, 0.9609375), (15, 3, 0.96484375), (20, 5, 0.95861053)],
)
def test_the_positions_are_those_of_the_tables(n: int, position: int, confidence: float) -> None:
    found = median_interval([float(value) for value in range(n)])
    assert (found.low, found.high) == (position, n - 1 - position)
    assert found.confidence == pytest.approx(confidence)


@pytest.mark.parametrize("n", [6, 12, 30])
def test_the_interval_covers_as_often_as_it_says(n: int) -> None:
    rng = np.random.default_rng(n)
    samples = rng.lognormal(0.0, 1.0, (4000, n))  # skewed, as latencies are; the true median is 1
    intervals = [median_interval(list(row)) for row in samples]
    covered = np.mean([each.low <= 1 <= each.high for each in intervals])
    assert covered == pytest.approx(intervals[0].confidence, abs=0.015)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]], ids=str)
def test_what_is_no_measurement_is_refused(values: list[float]) -> None:
    with pytest.raises(InputError):
        median_interval(values)


def test_six_blocks_are_the_fewest_that_reach_the_confidence() -> None:
    assert median_interval([1.0] * FEWEST_BLOCKS).confidence >= 0.95 > median_interval([1.0] * (FEWEST_BLOCKS - 1)).confidence


# -- claims on simulated machines -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """How the latencies of fresh sessions scatter around the true one."""

    name: str
    draw: Callable[[np.random.Generator, int], np.ndarray]


MACHINES = [
    Machine("quiet", lambda rng, n: rng.normal(1, 0.002, n)),
    Machine("ordinary", lambda rng, n: rng.lognormal(0, 0.02, n)),
    Machine("skewed", lambda rng, n: 1 + rng.exponential(0.03, n)),
    Machine("heavy tails", lambda rng, n: np.clip(1 + 0.01 * rng.standard_t(2, n), 0.2, 5)),
    Machine("two kinds of luck", lambda rng, n: np.where(rng.random(n) < 0.5, 1.0, 1.08) * rng.normal(1, 0.003, n)),
    Machine("somebody else works here", lambda rng, n: np.where(rng.random(n) < 0.1, 2.0, 1.0) * rng.normal(1, 0.01, n)),
]


def claims(machine: Machine, factor: float, blocks: int = FEWEST_BLOCKS, trials: int = 1500) -> list[str]:
    rng = np.random.default_rng([blocks, len(machine.name)])
    found = []
    for _ in range(trials):
        drift = np.linspace(1, 1.3, blocks)  # a processor that warms up slows all three down
        a, c, b = (machine.draw(rng, blocks) * drift for _ in range(3))
        found.append(compare(list(a), list(c), list(factor * b)).claim)
    return found


@pytest.mark.parametrize("blocks", [FEWEST_BLOCKS, 12])
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_the_same_model_twice_is_hardly_ever_called_different(machine: Machine, blocks: int) -> None:
    found = claims(machine, 1.0, blocks)
    assert np.mean([claim != "none" for claim in found]) < 0.05


@pytest.mark.parametrize("machine", MACHINES[:2], ids=lambda machine: machine.name)
@pytest.mark.parametrize(("factor", "claim"), [(0.9, "faster"), (1.1, "slower")])
def test_a_tenth_is_found_on_a_machine_that_lets_it_be_found(machine: Machine, factor: float, claim: str) -> None:
    found = claims(machine, factor, trials=500)
    assert found.count(claim) / len(found) > 0.95


def test_a_tenth_is_not_claimed_where_two_sessions_differ_by_more() -> None:
    control = [1.0, 1.0, 1.3, 1.0, 1.0, 1.0]
    found = compare([1.0] * 6, control, [0.9] * 6)
    assert found.claim == "none"
    assert found.noise == pytest.approx(0.3)
    assert found.sentence == "no difference above the noise of 30.0 %"


def test_blocks_that_disagree_claim_nothing() -> None:
    found = compare([1.0] * 6, [1.0] * 6, [0.8, 0.8, 0.8, 0.8, 0.8, 1.01])
    assert found.claim == "none"
    assert "the blocks agree on (-20.0 to +1.0 %" in found.sentence


def test_five_blocks_claim_nothing_however_large_the_difference() -> None:
    assert compare([1.0] * 5, [1.0] * 5, [0.1] * 5).claim == "none"
    assert compare([1.0] * 6, [1.0] * 6, [0.1] * 6).claim == "faster"


@given(st.lists(st.tuples(*[st.floats(1e-3, 1e3)] * 3), min_size=1, max_size=20), st.sampled_from([1e-3, 7.0]))
def test_the_claim_does_not_depend_on_the_unit(blocks: list[tuple[float, float, float]], unit: float) -> None:
    a, c, b = (list(each) for each in zip(*blocks, strict=True))
    assert compare(a, c, b).claim == compare(*[[unit * value for value in each] for each in (a, c, b)]).claim


@given(st.lists(st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)), min_size=1, max_size=20))
def test_the_control_itself_is_never_claimed_to_differ(blocks: list[tuple[float, float]]) -> None:
    a, c = (list(each) for each in zip(*blocks, strict=True))
    assert compare(a, c, c).claim == "none"


def test_what_is_claimed_is_said_in_words() -> None:
    found = Difference(Interval(-0.123, -0.13, -0.11, 0.97), 0.012, "faster")
    assert found.sentence == "12.3 % faster (11.0 to 13.0 %), above the noise of 1.2 %"
    assert json.dumps(found.to_dict())


@pytest.mark.parametrize("latencies", [([1.0], [1.0], []), ([1.0], [0.0], [1.0]), ([1.0], [1.0], [math.nan])], ids=str)
def test_latencies_that_are_none_are_refused(latencies: tuple[list[float], ...]) -> None:
    with pytest.raises(InputError):
        compare(*latencies)


# -- taking turns, on a clock that only the sessions move -------------------------------------------------------------------


class Clock:
    """Seconds that pass only while a session runs or nobody does."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ran: list[str] = []

    def __call__(self) -> float:
        return self.now

    def session(self, name: str, seconds: Callable[[], float]) -> Runner:
        def run() -> None:
            self.ran.append(name)
            self.now += seconds()

        return run

    def pause(self) -> None:
        self.ran.append("pause")
        self.now += PAUSE_S


def test_turns_rotate_and_give_each_its_own_latency() -> None:
    clock = Clock()
    sessions = [clock.session("a", lambda: 0.004), clock.session("b", lambda: 0.002)]
    found = time_block(sessions, 1.0, clock, clock.pause)
    assert [each.median_s for each in found] == pytest.approx([0.004, 0.002])
    assert found[1].runs > found[0].runs > 10
    timed = clock.ran[6:]  # three warm-up runs each
    turns = [name for before, name in pairwise(timed) if before == "pause"]
    assert turns[:6] == ["a", "b", "b", "a", "a", "b"]
    assert set(turns) == {"a", "b"}


def test_the_order_of_sessions_turns_from_block_to_block(monkeypatch) -> None:
    opened, timed = [], []

    def timings(runners):
        timed.append("".join(runners))
        return [Samples({"a": 2.0, "b": 1.0}[name], 1) for name in runners]

    monkeypatch.setattr(measuring, "_timing", lambda samples, *_: samples)
    row = measuring._measure(
        "default", ["a", "b"], lambda source, _: (opened.append(source), None), lambda source, _: source, timings, 4
    )
    assert "".join(opened) == "".join(timed) == "aabababaaaab"
    assert [each.median_s for each in row.original] == [2.0] * 4
    assert [each.median_s for each in row.candidate] == [1.0] * 4
    assert row.noise == 0


def test_the_first_run_of_a_turn_is_not_counted() -> None:
    clock = Clock()

    def seconds() -> float:
        return 0.02 if clock.ran[-2] == "pause" else 0.001

    clock.ran.append("start")
    runners = [clock.session(name, seconds) for name in "ab"]
    samples = time_block(runners, 1.0, clock, clock.pause)
    assert [each.median_s for each in samples] == pytest.approx([0.001, 0.001])
    turns = clock.ran.count("pause")
    assert sum(each.runs for each in samples) == len(clock.ran) - 1 - 6 - 2 * turns  # start, warm-up, pauses and first runs


def test_a_slow_model_runs_once_a_turn() -> None:
    clock = Clock()
    found = time_block([clock.session("a", lambda: 2.0), clock.session("b", lambda: 3.0)], 1.0, clock, clock.pause)
    assert [each.runs for each in found] == [1, 1]
    assert [each.median_s for each in found] == [2.0, 3.0]
    assert clock.ran == ["a", "b", "pause", "a", "pause", "b"]  # one warm-up each


def test_whatever_slows_the_machine_down_meets_both() -> None:
    clock = Clock()
    seconds = lambda: 0.001 * (1 + 0.2 * clock.now)  # noqa: E731
    a, b = time_block([clock.session("a", seconds), clock.session("b", seconds)], 4.0, clock, clock.pause)
    assert b.median_s / a.median_s == pytest.approx(1, abs=0.05)


# -- profiles, batches ------------------------------------------------------------------------------------------------------


def event(name: str, op_type: str, dur: int, provider: str = "CPUExecutionProvider", cat: str = "Node") -> dict[str, object]:
    return {"cat": cat, "name": name, "dur": dur, "args": {"op_name": op_type, "provider": provider}}


def test_a_profile_is_summed_by_operator_and_divided_by_the_runs() -> None:
    events = [
        event("model_run", "", 900, cat="Session"),
        *[event("c_kernel_time", "Conv", dur) for dur in (10, 30)],
        *[event("c_fence_before", "Conv", 5)] * 2,
        *[event("r_kernel_time", "Relu", 50), event("r_kernel_time", "Relu", 50)],
        *[event("g_kernel_time", "Relu", 1, "CUDAExecutionProvider")] * 2,
    ]
    found = operator_times(events, 2)
    assert [(each.op_type, each.provider[:4], each.count) for each in found] == [
        ("Relu", "CPUE", 1),
        ("Conv", "CPUE", 1),
        ("Relu", "CUDA", 1),
    ]
    assert [each.seconds for each in found] == pytest.approx([50e-6, 20e-6, 1e-6])


def test_a_batch_repeats_what_is_there() -> None:
    specs = [ValueSpec("x", "tensor(float)", ("N", 2)), ValueSpec("k", "tensor(int64)", (3,))]
    feed = Feed("f", {"x": np.float32([[1, 2], [3, 4]]), "k": np.arange(3)})
    for batch, rows in ((1, [[1, 2]]), (3, [[1, 2], [3, 4], [1, 2]])):
        values = batched(specs, feed, batch).values
        assert np.array_equal(values["x"], rows)
        assert np.array_equal(values["k"], np.arange(3))
        assert extent(values) == batch
    with pytest.raises(InputError, match="fixes the first extent"):
        batched(specs[1:], feed, 2)


@pytest.mark.parametrize("device", [None, ("cpu", 0)], ids=["arrays", "IOBinding"])
def test_a_run_gives_the_models_outputs(device: tuple[str, int] | None) -> None:
    source, image = read_source(LENET, "original"), np.ones((2, 1, 28, 28), np.float32)
    session = ort.InferenceSession(str(LENET), providers=["CPUExecutionProvider"])
    seen: list[object] = []
    wrapper = Watched(session, seen)
    runner(wrapper, source, {"image": image, "no input of this model": image}, device)()
    assert np.array_equal(np.asarray(seen[0]), session.run(None, {"image": image})[0])


class Watched:
    """A session that keeps what its runs gave."""

    def __init__(self, session: ort.InferenceSession, seen: list[object]) -> None:
        self.session, self.seen = session, seen

    def __getattr__(self, name: str) -> object:
        return getattr(self.session, name)

    def run(self, names: list[str], feed: dict[str, np.ndarray]) -> None:
        self.seen += self.session.run(names, feed)

    def run_with_iobinding(self, binding: ort.IOBinding) -> None:
        self.session.run_with_iobinding(binding)
        self.seen += binding.copy_outputs_to_cpu()


@pytest.mark.parametrize(("seconds", "text"), [(1.5, "1500"), (0.0123456, "12.35"), (2.5e-5, "0.02500"), (1e-7, "0.0001000")])
def test_milliseconds_have_four_digits(seconds: float, text: str) -> None:
    assert milliseconds(seconds) == text


# -- the real thing, without a look at the clock --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    folded = tmp_path_factory.mktemp("folded") / "lenet.folded.onnx"
    bnfold.optimize(LENET, folded, verify=False)
    return bench(LENET, folded, duration=0.06, blocks=2, threads=1, batch=3)


def counts(timing: object) -> dict[str, int]:
    return {each.op_type: each.count for each in timing.operators}  # type: ignore[attr-defined]


def test_every_setting_is_measured(lenet: Benchmark) -> None:
    assert [row.setting for row in lenet.rows] == list(SETTINGS) == list(command_line._SETTINGS)
    assert lenet.shapes == {"image": (3, 1, 28, 28)}
    assert (lenet.batch, lenet.threads, lenet.blocks, lenet.on_device) == (3, 1, 2, False)
    for row in lenet.rows:
        assert row.candidate is not None
        for timing in (row.original, row.candidate):
            assert timing.runs >= 2
            assert 0 < timing.latency.low <= timing.latency.median <= timing.latency.high
            assert lenet.throughput(timing) == pytest.approx(3 / timing.latency.median)
            assert timing.creation.median > 0
        assert row.difference is not None
        assert row.difference.claim == "none"  # two blocks can claim nothing


def test_the_settings_do_what_they_say(lenet: Benchmark) -> None:
    default, unfolded, disabled = (row.original for row in lenet.rows)
    assert counts(disabled)["BatchNormalization"] == lenet.original.operators["BatchNormalization"] == 4
    assert counts(default)["BatchNormalization"] == 2  # onnxruntime folds those behind Conv by itself
    assert unfolded.nodes > default.nodes
    assert all(row.candidate is not None and "BatchNormalization" not in counts(row.candidate) for row in lenet.rows)
    assert lenet.candidate is not None
    assert "BatchNormalization" not in lenet.candidate.operators
    assert lenet.original.size_bytes == LENET.stat().st_size > lenet.candidate.size_bytes


@pytest.mark.parametrize(
    ("fusion", "text", "gone"),
    [
        ("ConvBNFusion", "c = Conv (x, W) y = BatchNormalization (c, v, v, v, v)", "BatchNormalization"),
        ("ConvMulFusion", "c = Conv (x, W) y = Mul (c, M)", "Mul"),
        ("ConvAddFusion", "c = Conv (x, W) y = Add (c, M)", "Add"),
        (
            "MatMul_BatchNormalization_Fusion",
            "c = MatMul (x2, W2) y = BatchNormalization (c, v, v, v, v)",
            "BatchNormalization",
        ),
    ],
)
def test_onnxruntime_still_has_the_fusions_that_are_switched_off(fusion: str, text: str, gone: str, tmp_path: Path) -> None:
    x = "float[N,4,8,8] x" if "x," in text.replace("x2,", "") else "float[N,4] x2"
    y = "float[N,4,8,8] y" if "x," in text.replace("x2,", "") else "float[N,4] y"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\nagraph ({x}) => ({y}) {{\n{text}\n}}')
    rng = np.random.default_rng(0)
    shapes = {"W": (4, 4, 1, 1), "W2": (4, 4), "v": (4,), "M": (4, 1, 1)}
    used = {name for node in model.graph.node for name in node.input}
    for name in shapes.keys() & used:
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.uniform(1, 2, shapes[name]).astype(np.float32), name))
    assert fusion in OWN_FUSIONS
    found = bench(model, duration=0.01, blocks=1, settings=("default", "no folding"), threads=1)
    default, unfolded = (row.original for row in found.rows)
    assert gone not in counts(default)
    assert unfolded.nodes > default.nodes or gone in counts(unfolded)


def test_one_model_alone(tmp_path: Path) -> None:
    found = bench(LENET, duration=0.02, blocks=1, settings=("default",))
    assert found.candidate is None
    assert found.batch == 1
    assert found.rows[0].candidate is None
    assert found.rows[0].difference is None
    assert "noise" in bench_text(found)


def test_the_screen_says_what_was_run(lenet: Benchmark) -> None:
    text = bench_text(lenet, profile=True)
    for part in (
        "batch 3",
        "1 thread",
        "2 blocks",
        "BatchNormalization 4",
        "samples/s",
        "disabled",
        "Conv",
        "CPUExecutionProvider",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) <= 100
    quiet = bench_text(lenet, quiet=True)
    assert quiet.count("\n") == len(lenet.rows) - 1
    assert "samples/s" not in quiet


def test_the_command_writes_what_it_prints(tmp_path: Path) -> None:
    reports = [tmp_path / "b.json", tmp_path / "b.md"]
    options = [word for path in reports for word in ("--report", path)]
    small = ["--duration", "0.02", "--repeats", "1", "--threads", "1", "--optimizations", "disabled"]
    result = run("bench", LENET, LENET, *small, *options, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document == json.loads(reports[0].read_text())
    assert document["ok"]
    assert [row["setting"] for row in document["rows"]] == ["disabled"]
    assert document["rows"][0]["original"]["provider"]["provider"] == "CPUExecutionProvider"
    markdown = reports[1].read_text()
    assert "| disabled | candidate |" in markdown
    assert "## Operators: disabled, original" in markdown


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([LENET, "--report", "b.pdf"], 2, "no suffix that names a format"),
        ([LENET, "--duration", "0"], 2, "0"),
        ([LENET, "--optimizations", "most"], 2, "most"),
        (["nowhere.onnx"], 2, "nowhere.onnx"),
    ],
    ids=lambda value: " ".join(map(str, value[1:])) if isinstance(value, list) else "",
)
def test_wrong_usage(arguments: list[object], code: int, says: str) -> None:
    result = run("bench", *arguments)
    assert result.exit_code == code
    assert says in result.stderr


def test_models_with_other_inputs_are_refused() -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]>\nagraph (float[N] {}) => (float[N] y) {{ y = Relu ({}) }}'
    a, b = (onnx.parser.parse_model(text.format(name, name)) for name in ("a", "b"))
    with pytest.raises(InputError, match=r"wants the input `b`, which the original .* does not have"):
        bench(a, b, duration=0.01, blocks=1)


@pytest.mark.parametrize(("kind", "words"), [("float[N, 2]", "has rank 1"), ("double[N]", "has dtype float32")])
def test_a_candidate_that_wants_another_type_or_rank_is_refused(kind: str, words: str) -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]>\nagraph ({} x) => ({} y) {{ y = Relu (x) }}'
    a, b = (onnx.parser.parse_model(text.format(each, each)) for each in ("float[N]", kind))
    with pytest.raises(InputError, match=words):
        bench(a, b, duration=0.01, blocks=1)
