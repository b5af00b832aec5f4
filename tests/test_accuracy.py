"""Accuracy on labelled data: the counts, the gates, the warnings, and that neither jobs nor a restart change anything."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import numpy_helper, parser

import bnfold
from bnfold.errors import EnvironmentUnfit, GateFailed, InputError
from bnfold.runtime.accuracy import Accuracy, accuracy
from bnfold.runtime.accuracy.measure import Ruler
from bnfold.runtime.accuracy.tally import Tally

ROOT = Path(__file__).parent.parent
LENET = ROOT / "models" / "lenet.onnx"
BY_HAND = ROOT / "models" / "lenet_by_hand.onnx"
SAMPLE = ROOT / "models" / "fashion_mnist_sample.npz"
SHARED = ROOT.parent / "shared" / "data" / "fashion_mnist"


def model(body: str = "y = Identity (x)", batch: str = "N", classes: int = 3, **weights: np.ndarray) -> onnx.ModelProto:
    """What is fed to it is what it answers, unless `body` says otherwise."""
    text = f'<ir_version: 8, opset_import: ["": 17]> g (float[{batch},{classes}] x) => (float[{batch},{classes}] y) {{ {body} }}'
    built = parser.parse_model(text)
    built.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return built


def shifted(*by: float) -> onnx.ModelProto:
    return model("y = Add (x, d)", classes=len(by), d=np.float32(by))


# -- counts ---------------------------------------------------------------------------------------------------------------

#                 reference answers 0 0 1 2 1 0, the candidate, class 1 up by 1,  0 1 1 1 1 1
LOGITS = np.float32([[5, 1, 0], [2, 1.5, 0], [0, 2, 1], [0, 0, 0.5], [0, 1, 0], [2, 1.25, 0]])
RIGHT = [0, 0, 1, 0, 2, 1]


def test_every_cell_of_the_table() -> None:
    found = accuracy(model(), shifted(0, 1, 0), data=[(LOGITS, RIGHT)])
    pairs = found.pairs
    assert pairs is not None
    assert found.candidate is not None
    assert (found.reference.top1, found.candidate.top1) == (3, 3)
    assert (pairs.both_right, pairs.lost, pairs.gained, pairs.both_wrong) == (2, 1, 1, 2)
    assert (pairs.flips, pairs.wrong_to_wrong) == (3, 1)
    assert pairs.agreement == 0.5
    assert pairs.drop == 0
    assert pairs.mcnemar == 1
    answers = [(flip.sample, flip.label, flip.reference, flip.candidate, flip.margin) for flip in found.tally.flips]
    assert answers == [(1, 0, 0, 1, 0.5), (3, 0, 2, 1, 0.5), (5, 1, 0, 1, 0.75)]
    assert found.reference.top5 is None  # of three classes


@pytest.mark.parametrize(("margin", "ties"), [(0.0, 0), (0.4, 0), (0.5, 2), (0.8, 3)])
def test_ties_do_not_count_against_the_gate(margin: float, ties: int) -> None:
    found = accuracy(model(), shifted(0, 1, 0), data=[(LOGITS, RIGHT)], margin=margin, max_flips=2)
    assert found.pairs is not None
    assert (found.pairs.ties, found.pairs.flips) == (ties, 3)
    assert found.ok == (ties >= 1)


def test_nan_is_a_wrong_answer_and_is_told() -> None:
    logits = LOGITS.copy()
    logits[2, 0] = np.nan
    found = accuracy(model(), shifted(0, 0, 0), data=[(logits, RIGHT)])
    assert (found.reference.top1, found.reference.non_finite) == (2, 1)
    assert found.pairs is not None
    assert found.pairs.flips == 0  # NaN in both
    assert "BNF032" in {note.code for note in found.notes}


def test_nan_throughout_proves_nothing() -> None:
    with pytest.raises(InputError, match="answers NaN on every sample"):
        accuracy(model(), model(), data=[(np.full_like(LOGITS, np.nan), RIGHT)], max_flips=0)


VALUES = st.integers(-3, 3).map(lambda each: each / 2)  # few values, so that there are ties


@settings(max_examples=60)
@given(st.integers(1, 12), st.integers(2, 9), st.data())
def test_counts_are_those_of_the_plain_definition(samples: int, classes: int, data: st.DataObject) -> None:
    ours, theirs = (data.draw(hnp.arrays(np.float32, (samples, classes), elements=VALUES)) for _ in range(2))
    labels = data.draw(hnp.arrays(np.int64, samples, elements=st.integers(-1, classes)))
    split = data.draw(st.integers(0, samples))
    ruler = Ruler("y", None, "", 0.0)
    tally = Tally()
    for part in (slice(0, split), slice(split, samples)):
        if part.stop > part.start:
            tally += ruler.tally({"y": ours[part]}, {"y": theirs[part]}, labels[part], part.start)
    answers = [max(range(classes), key=lambda k, row=row: (row[k], -k)) for row in ours.tolist()]
    others = [max(range(classes), key=lambda k, row=row: (row[k], -k)) for row in theirs.tolist()]
    best = [sorted(range(classes), key=lambda k, row=row: (-row[k], k))[:5] for row in ours.tolist()]
    triples = list(zip(answers, others, labels.tolist(), strict=True))
    assert tally.reference.top1 == sum(a == y for a, _, y in triples)
    assert tally.reference.top5 == sum(y in five for five, y in zip(best, labels.tolist(), strict=True))
    assert tally.lost == sum(a == y != b for a, b, y in triples)
    assert tally.gained == sum(a != y == b for a, b, y in triples)
    assert tally.wrong_to_wrong == sum(y not in (a, b) and a != b for a, b, y in triples)
    assert [flip.sample for flip in tally.flips] == [row for row, (a, b, _) in enumerate(triples) if a != b]
    assert Tally.from_dict(json.loads(json.dumps(tally.to_dict()))) == tally


def test_a_fixed_batch_is_filled_up_and_changes_nothing() -> None:
    data = [(np.tile(LOGITS, (3, 1)), RIGHT * 3)]
    open_, fixed = (accuracy(model(batch=batch), data=data) for batch in ("N", "4"))
    assert fixed.settings.batch == 4
    assert fixed.tally == open_.tally
    with pytest.raises(InputError, match="exactly 4 samples"):
        accuracy(model(batch="4"), data=data, batch=5)


def test_a_candidate_of_a_fixed_batch_sets_it_for_both() -> None:
    found = accuracy(model(), model(batch="4"), data=[(LOGITS, RIGHT)])
    assert found.settings.batch == 4
    assert found.pairs is not None
    assert found.pairs.both_right == 3


def test_a_model_that_takes_one_at_a_time() -> None:
    single = model("y = Reshape (x, s)", s=np.int64([1, 3]))
    with pytest.raises(InputError, match="--batch 1"):
        accuracy(single, data=[(LOGITS, RIGHT)])
    assert accuracy(single, data=[(LOGITS, RIGHT)], batch=1).reference.top1 == 3


def test_a_loader_without_an_end_needs_a_limit(tmp_path: Path) -> None:
    (tmp_path / "l.py").write_text(
        "import itertools, numpy as np\ndef f():\n    return ((np.float32([n % 3, 1, 0]), n % 2) for n in itertools.count())\n"
    )
    arguments = {"data": f"{tmp_path}/l.py:f", "limit": 70, "resume": tmp_path / "s.json"}
    whole, again = (comparable(accuracy(model(), **arguments)) for _ in range(2))
    assert whole == again
    assert whole["samples"] == 70


def test_the_limit_takes_the_first() -> None:
    assert accuracy(model(), data=[(LOGITS, RIGHT)], limit=3).reference.top1 == 3


@pytest.mark.parametrize("labels", [np.array(RIGHT)[:, None], np.array(RIGHT, np.uint8), list(map(np.int32, RIGHT))])
def test_labels_come_in_many_forms(labels: Any) -> None:
    assert accuracy(model(), data=[(LOGITS, labels)]).reference.top1 == 3


def test_types_that_hold_the_values_are_converted() -> None:
    half = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float16[N,3] x, int64[N] i) => (float16[N,3] y) { y = Identity (x) }'
    )
    data = [({"x": LOGITS, "i": np.arange(6, dtype=np.int32)}, RIGHT)]
    assert accuracy(half, data=data).reference.top1 == 3


# -- the LeNets on the sample ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("folded") / "lenet.folded.onnx"
    bnfold.optimize(LENET, path).raise_for_status()
    return path


def test_the_sample_before_and_after_folding(folded: Path) -> None:
    found = accuracy(LENET, folded, data=SAMPLE, max_flips=0, max_drop=0.04)
    assert found.ok
    assert found.candidate is not None
    assert (found.reference.accuracy, found.candidate.accuracy) == (0.87, 0.87)
    assert found.reference.top5 == 100
    assert found.pairs is not None
    assert found.pairs.flips == 0
    assert found.pairs.agreement_interval == (pytest.approx(1 - 0.0370, abs=1e-4), 1.0)
    assert found.notes == ()
    found.raise_for_status()


METRIC = """\
import os
import numpy as np
def probability(outputs, labels):
    z = outputs["logits"].astype(np.float64)
    p = np.exp(z - z.max(1, keepdims=True))
    return (p / p.sum(1, keepdims=True))[np.arange(len(labels)), labels]
def right(outputs, labels):
    return outputs["logits"].argmax(1) == labels
def one(outputs, labels):
    return 1.0
def words(outputs, labels):
    return ["yes"] * len(labels)
def infinite(outputs, labels):
    return np.full(len(labels), np.inf)
def fails(outputs, labels):
    return outputs["probabilities"]
def dies(outputs, labels):
    os._exit(7)
"""


@pytest.fixture
def metric(tmp_path: Path) -> Callable[[str], str]:
    (tmp_path / "metric.py").write_text(METRIC)
    return lambda name: f"{tmp_path}/metric.py:{name}"


def comparable(found: Accuracy) -> dict[str, Any]:
    return {name: value for name, value in found.to_dict().items() if name != "elapsed_s"}


def test_any_number_of_jobs_gives_the_same_result_bit_for_bit(metric: Callable[[str], str]) -> None:
    results = [
        comparable(accuracy(LENET, BY_HAND, data=SAMPLE, batch=8, jobs=jobs, metric=metric("probability"), max_drop=0.05))
        for jobs in (1, 2)
    ]
    assert results[0] == results[1]
    assert results[0]["metric_drop"] != 0


def test_processes_read_files_themselves(tmp_path: Path) -> None:
    with np.load(SAMPLE) as sample:
        for number, image in enumerate(sample["image"]):
            np.save(tmp_path / f"{number}.npy", image)
        rows = [f"{number}.npy,{label}" for number, label in enumerate(sample["label"])]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows]))
    one, two, arrays = (
        accuracy(LENET, BY_HAND, data=data, jobs=jobs)
        for data, jobs in ((tmp_path / "list.csv", 1), (tmp_path / "list.csv", 2), (SAMPLE, 1))
    )
    assert comparable(one) == comparable(two)
    assert one.tally == arrays.tally


def test_a_process_that_dies_is_told(metric: Callable[[str], str]) -> None:
    with pytest.raises(EnvironmentUnfit, match="a worker process died"):
        accuracy(LENET, data=SAMPLE, metric=metric("dies"), jobs=2)


class Stopped(Exception):
    """Stands for whatever ends a run in the middle."""


def stop_after(samples: int) -> Callable[[int, int | None], None]:
    def progress(done: int, total: int | None) -> None:
        if done >= samples:
            raise Stopped

    return progress


@pytest.mark.parametrize("form", ["npz", "csv", "loader"])
def test_a_run_is_resumed(form: str, tmp_path: Path, metric: Callable[[str], str]) -> None:
    data = sample_as(form, tmp_path)
    state = tmp_path / "state.json"
    arguments = {"data": data, "metric": metric("probability"), "batch": 8}
    whole = accuracy(LENET, BY_HAND, **arguments)
    with pytest.raises(Stopped):
        accuracy(LENET, BY_HAND, **arguments, resume=state, progress=stop_after(64))
    assert json.loads(state.read_text())["done"] == 64
    told: list[tuple[int, int | None]] = []
    resumed = accuracy(LENET, BY_HAND, **arguments, resume=state, progress=lambda *each: told.append(each))
    assert comparable(resumed) == comparable(whole)
    assert told == [(100, None if form == "loader" else 100)]
    finished = accuracy(LENET, BY_HAND, **arguments, resume=state, progress=stop_after(0))
    assert comparable(finished) == comparable(whole)
    assert [path.name for path in tmp_path.glob(".*")] == []


def sample_as(form: str, folder: Path) -> str:
    if form == "npz":
        (folder / "d.npz").write_bytes(SAMPLE.read_bytes())
        return f"{folder}/d.npz"
    with np.load(SAMPLE) as sample:
        images, labels = sample["image"], sample["label"]
    if form == "loader":
        (folder / "load.py").write_text(
            f"import numpy as np\ndef f():\n    with np.load({str(SAMPLE)!r}) as s:\n        yield s['image'], s['label']\n"
        )
        return f"{folder}/load.py:f"
    for number, image in enumerate(images):
        np.save(folder / f"{number}.npy", image)
    (folder / "list.csv").write_text("\n".join(["path,label", *(f"{n}.npy,{label}" for n, label in enumerate(labels))]))
    return f"{folder}/list.csv"


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "batch": ({"batch": 16}, "batch is 16, and was 8"),
    "limit": ({"limit": 90}, "limit is 90"),
    "margin": ({"margin": 0.5}, "margin is 0.5"),
    "metric": ({"metric": "top1"}, "metric is top1"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=list(CHANGES))
def test_a_state_of_other_settings_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path, metric: Callable[[str], str]
) -> None:
    arguments = {"data": SAMPLE, "metric": metric("right"), "batch": 8, "resume": tmp_path / "s.json"}
    accuracy(LENET, **arguments)
    with pytest.raises(InputError, match=message):
        accuracy(LENET, **{**arguments, **change})


@pytest.mark.parametrize("what", ["data", "reference", "metric"])
def test_a_state_of_other_files_is_refused(what: str, tmp_path: Path, metric: Callable[[str], str]) -> None:
    data, state, reference = sample_as("npz", tmp_path), tmp_path / "s.json", tmp_path / "m.onnx"
    reference.write_bytes(LENET.read_bytes())
    accuracy(reference, data=data, metric=metric("right"), resume=state)
    if what == "data":
        with np.load(SAMPLE) as sample:
            np.savez(data, image=sample["image"], label=sample["label"] * 0)
    elif what == "reference":
        reference.write_bytes(BY_HAND.read_bytes())
    else:
        (tmp_path / "metric.py").write_text(METRIC + "\n")
    with pytest.raises(InputError, match=rf"belongs to another run: the .*{what}.* is"):
        accuracy(reference, data=data, metric=metric("right"), resume=state)


@pytest.mark.parametrize("content", ["", "[]", '{"version": 1}', '{"version": 1, "key": {}, "done": 3, "tally": {}}', "\x00"])
def test_a_file_that_is_no_state_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(InputError, match="no state file"):
        accuracy(LENET, data=SAMPLE, resume=tmp_path / "s.json")


def test_external_data_belongs_to_the_hash(tmp_path: Path) -> None:
    proto = onnx.load(LENET)
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    before = accuracy(tmp_path / "m.onnx", data=SAMPLE).reference
    weights = bytearray((tmp_path / "w.bin").read_bytes())
    weights[3] ^= 1
    (tmp_path / "w.bin").write_bytes(weights)
    assert accuracy(tmp_path / "m.onnx", data=SAMPLE).reference.sha256 != before.sha256
    assert before.top1 == 87


# -- gates and warnings ---------------------------------------------------------------------------------------------------


def answers(lost: int, gained: int, same: int, classes: int = 10) -> list[tuple[np.ndarray, list[int]]]:
    """For `shifted(0, 1, 0, …)`: so many samples lost, gained, and right in both."""
    row = np.zeros(classes, np.float32)
    row[:2] = 1.5, 1
    clear = row + np.float32([9] + [0] * (classes - 1))
    inputs = [row] * (lost + gained) + [clear] * same
    return [(np.stack(inputs), [0] * lost + [1] * gained + [0] * same)]


UP = shifted(0, 1, *[0] * 8)
GATES: list[tuple[tuple[int, int, int], dict[str, Any], bool, str]] = [
    ((0, 0, 5000), {"max_drop": 0.001}, True, "drops by less than 0.077 pp, and 0.10 pp is allowed"),
    ((0, 0, 100), {"max_drop": 0.001}, False, "Too few samples.*bounds the drop at 3.70 pp.*takes 3,838 samples"),
    ((5, 5, 4990), {"max_drop": 0.001}, False, "Not shown"),
    ((50, 0, 4950), {"max_drop": 0.001}, False, "Accuracy drops by 1.00 pp, and 0.10 pp is allowed"),
    ((0, 60, 4940), {"max_drop": 0.001}, True, "Accuracy rises by 1.20 pp"),
    ((1, 0, 99), {"max_flips": 0}, False, "1 of 100 answers changed; 0 may"),
    ((1, 1, 98), {"max_flips": 2}, True, "2 of 100 answers changed; 2 may"),
    ((0, 0, 10), {"max_drop": 0.0}, False, "Not shown"),
]


@pytest.mark.parametrize(("counts", "gate", "ok", "message"), GATES)
def test_gates(counts: tuple[int, int, int], gate: dict[str, Any], ok: bool, message: str) -> None:
    found = accuracy(model(classes=10), UP, data=answers(*counts), batch=500, **gate)
    assert found.ok == ok
    assert found.gates[0].ok == ok
    assert re.search(message, found.gates[0].sentence)
    if ok:
        found.raise_for_status()
    else:
        with pytest.raises(GateFailed, match=message):
            found.raise_for_status()


@pytest.mark.parametrize(
    ("name", "max_drop", "ok"),
    [("right", 0.04, True), ("right", 0.03, False), ("probability", 0.001, True), ("probability", 1e-12, False)],
)
def test_a_metric_of_the_users(name: str, max_drop: float, ok: bool, folded: Path, metric: Callable[[str], str]) -> None:
    found = accuracy(LENET, folded, data=SAMPLE, metric=metric(name), max_drop=max_drop)
    assert found.ok == ok
    assert found.reference.top1 == 87
    with np.load(SAMPLE) as sample:
        expected = {"right": 0.87, "probability": _mean_probability(sample["image"], sample["label"])}[name]
    assert found.reference.metric == pytest.approx(expected, rel=1e-5)


def _mean_probability(images: np.ndarray, labels: np.ndarray) -> float:
    import onnxruntime as ort

    logits = ort.InferenceSession(LENET, providers=["CPUExecutionProvider"]).run(None, {"image": images})[0].astype(np.float64)
    return float((np.exp(logits[np.arange(100), labels]) / np.exp(logits).sum(1)).mean())


def test_a_metric_without_classes() -> None:
    def closeness(outputs: Any, targets: np.ndarray) -> np.ndarray:
        return -np.abs(outputs["y"] - targets).mean(1)

    data = [(LOGITS, LOGITS)]
    found = accuracy(model(), shifted(0.5, 0.5, 0.5), data=data, metric=closeness, max_drop=0.4)
    assert found.reference.top1 is None
    assert found.pairs is None
    assert found.metric_drop == 0.5
    assert not found.ok
    with pytest.raises(InputError, match="max_flips needs classes"):
        accuracy(model(), model(), data=data, metric=closeness, max_flips=0)


def test_without_a_changed_value_the_bound_is_not_zero() -> None:
    def half(outputs: Any, labels: np.ndarray) -> np.ndarray:
        return np.where(labels == 0, 0.5, 2.5)

    found = accuracy(model(), model(), data=[(LOGITS, RIGHT)], metric=half, max_drop=0.1)
    assert not found.ok  # of six samples, up to 39 % may change, each by up to 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("one", r"returns shape \[\] for 64 samples"),
        ("words", "returns a list and no numbers"),
        ("infinite", "returns NaN or inf"),
        ("fails", "KeyError in line 16 of .*probabilities"),
        ("missing", "defines no `missing`"),
    ],
)
def test_a_metric_that_does_not_work(name: str, message: str, metric: Callable[[str], str]) -> None:
    with pytest.raises(InputError, match=message):
        accuracy(LENET, data=SAMPLE, metric=metric(name))


def test_accuracy_near_chance_is_doubted() -> None:
    rng = np.random.default_rng(0)
    guesses = [(rng.standard_normal((400, 10)).astype(np.float32), rng.integers(0, 10, 400))]
    assert [note.code for note in accuracy(model(classes=10), data=guesses).notes] == ["BNF051"]


@pytest.mark.parametrize(("shift", "codes"), [(0, []), (1, ["BNF052"]), (-1, ["BNF052"])])
def test_labels_that_are_shifted_are_noticed(shift: int, codes: list[str]) -> None:
    labels = np.arange(500) % 8 + 1
    logits = np.eye(10, dtype=np.float32)[labels]
    assert [note.code for note in accuracy(model(classes=10), data=[(logits, labels + shift)]).notes] == codes


# -- what is refused ------------------------------------------------------------------------------------------------------

BYTES = np.zeros((4, 3), np.uint8)
TWO = parser.parse_model(
    '<ir_version: 8, opset_import: ["": 17]> g (float[N,3] a, float[N,3] b) => (float[N,3] y, float[N,3] z)'
    " { y = Add (a, b) z = Sub (a, b) }"
)
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "raw bytes": ({"data": [(BYTES, [0] * 4)]}, "gives uint8 for `x`.*never guessed: --preprocess imagenet.*mnist.*none"),
    "bytes on purpose": ({"data": [(BYTES, [0] * 4)], "preprocess": "none"}, "--preprocess none does not make"),
    "shape": ({"data": [(LOGITS[:, None], RIGHT)]}, "`x` does not fit"),
    "no labels": ({"data": [(LOGITS, None)]}, "holds no labels"),
    "one-hot": ({"data": [(LOGITS, LOGITS)]}, r"the labels are float32 \[6, 3\]"),
    "labels with a point": ({"data": [(LOGITS, np.float32(RIGHT))]}, r"the labels are float32 \[6\]"),
    "no samples": ({"data": []}, "holds no samples"),
    "not classes": ({"reference": model("y = Unsqueeze (x, o)", o=np.int64([0])), "candidate": None}, "needs .N, classes"),
    "several outputs": ({"reference": TWO, "candidate": None}, "2 outputs: y, z.*--output"),
    "unknown output": ({"output": "z"}, "no output `z`. It has y"),
    "other names": ({"reference": TWO, "candidate": None, "output": "y"}, "which is no input of"),
    "other signature": ({"candidate": TWO}, "cannot be used like"),
    "other classes": ({"candidate": model("y = Concat <axis = 1> (x, x)")}, "candidate's output has shape .6, 6."),
    "gate alone": ({"candidate": None, "max_flips": 0}, "compare two models"),
    "drop": ({"max_drop": -0.1}, "max_drop -0.1 is not"),
    "margin": ({"margin": float("nan")}, "margin nan is not"),
    "flips": ({"max_flips": -1}, "max_flips -1"),
    "batch": ({"batch": 0}, "batch 0 is less than 1"),
    "jobs": ({"jobs": 0}, "jobs 0 is less than 1"),
    "limit": ({"limit": 0}, "limit 0 is less than 1"),
    "metric for several": ({"jobs": 2, "metric": len}, "several jobs need the metric as file.py:function"),
    "unknown metric": ({"metric": "top2"}, "'top2' is not of the form"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=list(REFUSED))
def test_what_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"reference": model(), "candidate": model(), "data": [(LOGITS, RIGHT)], **change}
    with pytest.raises(InputError, match=message):
        accuracy(arguments.pop("reference"), arguments.pop("candidate"), **arguments)


def test_two_inputs_go_by_name() -> None:
    data = [({"b": LOGITS, "a": np.zeros_like(LOGITS)}, RIGHT)]
    assert accuracy(TWO, data=data, output="y").reference.top1 == 3
    with pytest.raises(InputError, match="lacks the input `b`"):
        accuracy(TWO, data=[({"a": LOGITS}, RIGHT)], output="y")


# -- optimize -------------------------------------------------------------------------------------------------------------


def test_optimize_asks_the_data_before_it_writes(tmp_path: Path) -> None:
    report = bnfold.optimize(LENET, tmp_path / "o.onnx", data=SAMPLE)
    assert report.written
    assert report.accuracy is not None
    assert [gate.option for gate in report.accuracy.gates] == ["--max-flips"]
    assert report.accuracy.candidate is not None
    assert report.accuracy.candidate.model == str(tmp_path / "o.onnx")
    assert report.to_dict()["accuracy"]["pairs"]["flips"] == 0


def test_optimize_writes_nothing_when_a_gate_fails(tmp_path: Path) -> None:
    report = bnfold.optimize(LENET, tmp_path / "o.onnx", data=SAMPLE, max_drop=0.001)
    assert not report.ok
    assert not report.written
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(GateFailed, match="labelled data, and nothing was written: Too few samples"):
        report.raise_for_status()


@pytest.mark.parametrize(
    "change", [{"max_flips": 0}, {"max_drop": 0.1}, {"preprocess": "none"}, {"margin": 1.0}, {"metric": "m.py:f"}]
)
def test_optimize_wants_data_for_a_gate(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Name some with --data"):
        bnfold.optimize(LENET, tmp_path / "o.onnx", **change)


# -- all of Fashion-MNIST -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("network", "right"), [(LENET, 8664), (BY_HAND, 8631)], ids=["lenet", "lenet by hand"])
def test_fashion_mnist_before_and_after(network: Path, right: int, tmp_path: Path) -> None:
    if not SHARED.is_dir():
        pytest.skip("Fashion-MNIST is not in shared/data/fashion_mnist beside the repository")
    data = f"{SHARED}:idx-test"
    report = bnfold.optimize(network, tmp_path / "o.onnx", data=data, preprocess="mnist", max_flips=0, max_drop=0.001)
    assert report.written
    found = accuracy(network, tmp_path / "o.onnx", data=data, preprocess="mnist", jobs=os.cpu_count() or 1)
    assert found.candidate is not None
    assert found.pairs is not None
    assert (found.reference.top1, found.candidate.top1, found.pairs.flips, found.pairs.samples) == (right, right, 0, 10_000)
    assert report.accuracy is not None
    assert found.tally == report.accuracy.tally
