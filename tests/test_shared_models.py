"""The real models: every normalization accounted for, the result verified, and a second run with nothing left to do."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

import bnfold

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "models"
NAMES = [str(path.relative_to(FOLDER)) for path in sorted(FOLDER.rglob("*.onnx"))]
FIXTURES = {each["fixture"]: each for each in json.loads((FOLDER / "fixtures.json").read_text())} if NAMES else {}
LINEAR_BEFORE = "A linear->BN, single consumer"

pytestmark = pytest.mark.skipif(not NAMES, reason="the real models are not in shared/data/models beside the repository")


def nodes(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from nodes(body)


def operators(path: Path) -> Counter[str]:
    model = onnx.load(path)
    return Counter(node.op_type for graph in (model.graph, *model.functions) for node in nodes(graph))


def overridable(path: Path) -> set[str]:
    model = onnx.load(path, load_external_data=False)
    return (
        {each.name for each in model.graph.initializer} & {each.name for each in model.graph.input}
        if model.ir_version > 3
        else set()
    )


def batch_normalizations(plan: bnfold.Plan) -> list[bnfold.Fold | bnfold.Refusal]:
    return [verdict for verdict in plan.verdicts if verdict.normalization.op_type == "BatchNormalization"]


@pytest.fixture(scope="module", params=[False, True], ids=["as it is", "frozen"])
def freeze(request):
    return request.param


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def optimized(name, freeze, tmp_path_factory):
    """The report on a model, and where the result is."""
    target = tmp_path_factory.mktemp("optimized") / "out.onnx"
    return bnfold.optimize(FOLDER / name, target, freeze_initializers=freeze), target


def test_every_fixture_is_there():
    assert FIXTURES.keys() <= set(NAMES)
    for name, fixture in FIXTURES.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == fixture["sha256"]


def test_the_result_is_verified(name, optimized):
    report, target = optimized
    assert report.ok, report.verification.failures
    assert report.written
    assert report.identical or report.verification.ok
    assert report.identical == (target.read_bytes() == (FOLDER / name).read_bytes())
    if report.verification is not None:
        assert report.verification.feeds >= 1
        assert {row.level for row in report.verification.outputs} == {"disabled", "default"}
        outputs = [row.worst for row in report.verification.outputs]
        assert sum(each.argmax_changed for each in outputs if len(each.shape) == 2 and each.shape[1] <= 1000) == 0
    assert report.size_after_bytes == target.stat().st_size
    json.dumps(report.to_dict(), allow_nan=False)


def test_every_normalization_has_one_verdict(name, optimized):
    report, target = optimized
    before, after = operators(FOLDER / name), operators(target)
    verdicts = batch_normalizations(report.plan)
    assert len(verdicts) == before["BatchNormalization"]
    assert len({(each.normalization.scope, each.normalization.output) for each in verdicts}) == len(verdicts)
    assert after["BatchNormalization"] == sum(each.kind == "refusal" for each in verdicts)
    assert report.plan.operators_before == dict(before)
    assert report.plan.operators_after == dict(after)
    if name in FIXTURES:
        assert len(verdicts) == FIXTURES[name]["n_bn"]


def test_what_is_known_to_fold_folds(name, freeze, optimized):
    report, _ = optimized
    verdicts = batch_normalizations(report.plan)
    if overridable(FOLDER / name) and not freeze:
        assert {verdict.kind for verdict in verdicts} == {"refusal"}
        assert {refusal.code for refusal in verdicts} == {"BNF006"}
        assert all("freeze" in refusal.remedy for refusal in verdicts)
        return
    known = FIXTURES[name]["categories"] if name in FIXTURES else {}  # the others have no record of what folds
    assert sum(verdict.kind == "fold" for verdict in verdicts) >= known.get(LINEAR_BEFORE, 0)


def test_every_refusal_says_why(optimized):
    report, _ = optimized
    for refusal in report.plan.refusals:
        assert refusal.code.startswith("BNF")
        assert refusal.sentence
        assert "\n" not in refusal.sentence + refusal.remedy


def test_the_result_is_a_valid_model_with_the_same_signature(name, freeze, optimized):
    _, target = optimized
    before, after = onnx.load(FOLDER / name), onnx.load(target)
    valid = True
    try:
        onnx.checker.check_model(before)
    except onnx.checker.ValidationError:
        valid = False  # then the result need not be valid either
    if valid:
        onnx.checker.check_model(after)
    assert after.ir_version == before.ir_version
    assert after.opset_import == before.opset_import
    assert after.graph.output == before.graph.output
    initial = {each.name for each in before.graph.initializer}
    assert [each for each in after.graph.input if each.name not in initial | {t.name for t in after.graph.initializer}] == [
        each for each in before.graph.input if each.name not in initial
    ]
    assert bool(overridable(target)) == bool(overridable(FOLDER / name) and not freeze)


def test_nothing_unused_is_left_behind(name, optimized):
    _, target = optimized

    def unread(path: Path) -> set[str]:
        graph = onnx.load(path).graph
        read = {each for node in nodes(graph) for each in node.input} | {value.name for value in graph.output}
        made = {each.name for each in graph.initializer} | {each for node in nodes(graph) for each in node.output if each}
        return made - read

    assert unread(target) <= unread(FOLDER / name)


def test_a_second_run_changes_nothing(freeze, optimized, tmp_path):
    _, target = optimized
    again = bnfold.optimize(target, tmp_path / "again.onnx", freeze_initializers=freeze)
    assert not again.plan.folds
    assert again.identical
    assert (tmp_path / "again.onnx").read_bytes() == target.read_bytes()


def test_the_same_input_gives_the_same_bytes(name, freeze, optimized, tmp_path):
    _, target = optimized
    bnfold.optimize(FOLDER / name, tmp_path / "again.onnx", freeze_initializers=freeze, verify=False)
    assert (tmp_path / "again.onnx").read_bytes() == target.read_bytes()


def test_fold_in_memory_gives_what_optimize_writes(name, freeze, optimized):
    _, target = optimized
    given = onnx.load(FOLDER / name)
    content = given.SerializeToString()
    written = onnx.load(target)
    kept = [entry for entry in written.metadata_props if not entry.key.startswith("bnfold.")]  # a model in memory has no source
    del written.metadata_props[:]
    written.metadata_props.extend(kept)
    assert bnfold.fold(given, freeze_initializers=freeze).model == written
    assert given.SerializeToString() == content
