"""For the tests of those who deploy models with bnfold."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bnfold.verdict import Plan

if TYPE_CHECKING:
    from bnfold.pipeline import ModelLike


def assert_folds_equivalently(
    model: ModelLike,
    feeds: str | os.PathLike[str] | Sequence[Mapping[str, Any]] | None = None,
    *,
    all_fold: bool = False,
    freeze_initializers: bool = False,
    **options: Any,
) -> Plan:
    """Asserts that bnfold folds `model` into one that computes the same.

    Args:
        model: a path, an `onnx.ModelProto` or an onnx-graphsurgeon `Graph`; it stays as it is.
        feeds: inputs to compare on, as `inputs` of `bnfold.verify`; made up from the model's signature when None.
        all_fold: also assert that no normalization stays.
        freeze_initializers: as for `bnfold.fold`.
        options: more arguments of `bnfold.verify`, such as `input_shapes` or `seed`.

    Returns:
        The plan, for further assertions.

    Raises:
        AssertionError: the folded model differs, with what was measured; or something stays and `all_fold` is set, with
            the reasons.
        InputError: the model cannot be read or run.
        EnvironmentUnfit: the installed onnxruntime cannot run the model.
    """
    import onnx

    from bnfold.pipeline import exported, fold
    from bnfold.report.text import verify_text
    from bnfold.runtime.verify import verify

    original = model if isinstance(model, str | os.PathLike | onnx.ModelProto) else exported(model)
    folded = fold(original, freeze_initializers=freeze_initializers)
    stays = [f"  {one.normalization.name}: {one.code} {one.sentence}" for one in folded.plan.refusals]
    if all_fold and stays:
        raise AssertionError("\n".join([f"{len(stays)} of {len(folded.plan.verdicts)} normalizations stay:", *stays]))
    name = str(model) if isinstance(model, str | os.PathLike) else "model"
    verification = verify(original, folded.model, inputs=feeds, **options)
    if not verification.ok:
        raise AssertionError(verify_text(name, f"{name}, folded", verification))
    return folded.plan
