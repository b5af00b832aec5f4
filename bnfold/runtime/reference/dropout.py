"""Dropout in inference, where it does nothing."""

from __future__ import annotations

import numpy as np

from bnfold.runtime.reference.call import Call, Operator
from bnfold.runtime.reference.value import BOOL, Tensor


def dropout(call: Call, X: Tensor, ratio: Tensor | None = None, training_mode: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """X, and a mask that drops nothing; the mask has X's type below opset 10."""
    training = not call.integer("is_test") if call.opset < 7 else training_mode is not None and bool(training_mode.scalar())
    if training and (ratio is None or ratio.scalar() != 0):
        raise call.refuse("training mode, which is random")
    mask = np.ones(X.shape, bool)
    return X, X.like(mask.astype(np.float64)) if call.opset < 10 else Tensor(mask, BOOL)


OPERATORS: dict[str, Operator] = {"Dropout": dropout}
