"""Random graphs: folded and original compute the same, and everything else that holds for every fold. See `random_graphs.py`."""

from collections import Counter

import onnx
import pytest

from tests.random_graphs import Broken, Sample, check, minimized, sample

COUNT, BATCH, FIRST = 600, 20, 0


@pytest.mark.parametrize("start", range(FIRST, FIRST + COUNT, BATCH))
def test_folding(start: int) -> None:
    for seed in range(start, start + BATCH):
        case = sample(seed)
        try:
            check(case.model, case.feeds, runtime=seed % 4 == 0)
        except Broken as error:
            small = case if "onnxruntime" in error.what else minimized(case, error.what)
            pytest.fail(f"seed {seed}: {error}\n{onnx.printer.to_text(small.model)}")


def test_graphs_are_reproducible() -> None:
    assert sample(3).model.SerializeToString() == sample(3).model.SerializeToString()


def test_graphs_hold_what_they_should() -> None:
    """Neither the operators nor the outcomes are one-sided: otherwise the rest of this file proves little."""
    cases = [sample(seed) for seed in range(200)]
    operators = Counter(node.op_type for case in cases for node in case.model.graph.node)
    assert len(operators) > 35
    assert (
        min(operators[name] for name in ("BatchNormalization", "Conv", "ConvTranspose", "Gemm", "MatMul", "Concat", "Add")) > 40
    )
    outcomes = sum((_outcome(case) for case in cases[::4]), Counter())
    assert outcomes["fold"] > sum(outcomes.values()) / 6
    assert {"BNF004", "BNF005", "BNF012"} <= set(outcomes)


def test_a_wrong_fold_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every composed shift a hundredth too large, some of the graphs break."""
    from bnfold.affine import Affine

    right = Affine.batch_normalization

    def wrong(*arguments: object) -> Affine:
        affine = right(*arguments)
        return Affine.of(affine.scale, affine.center, affine.shift * 1.01)

    monkeypatch.setattr(Affine, "batch_normalization", wrong)
    with pytest.raises(Broken, match="the values agree"):
        _check_all(range(40))


def _check_all(seeds: range) -> None:
    for case in map(sample, seeds):
        check(case.model, case.feeds)


def _outcome(case: Sample) -> Counter:
    import bnfold

    return Counter(getattr(verdict, "code", "fold") for verdict in bnfold.plan(case.model).verdicts)
