"""Choosing boxes."""

from __future__ import annotations

import numpy as np

from bnfold.runtime.reference.call import Call, Operator
from bnfold.runtime.reference.value import INT64, Array, Tensor, tensor_of


def non_max_suppression(
    call: Call, boxes: Tensor, scores: Tensor, limit: Tensor | None = None, iou: Tensor | None = None, least: Tensor | None = None
) -> Tensor:
    """Per sample and class the best boxes, best first, without those that overlap a better one by more than the threshold."""
    count = int(limit.scalar()) if limit is not None else 0
    overlap = float(iou.scalar()) if iou is not None else 0.0
    floor = float(least.scalar()) if least is not None else -np.inf
    found = []
    for sample, (corners, classes) in enumerate(zip(boxes.array, scores.array, strict=True)):
        areas = _corners(corners, bool(call.integer("center_point_box")))
        for kind, values in enumerate(classes):
            left = [place for place in np.argsort(-values, kind="stable") if values[place] > floor]
            chosen = 0
            while left and chosen < count:
                best, *left = left
                found.append((sample, kind, int(best)))
                chosen += 1
                left = [other for other in left if _overlap(areas[best], areas[other]) <= overlap]
    return tensor_of(np.asarray(found, np.int64).reshape(-1, 3), INT64)


def _corners(boxes: Array, centered: bool) -> Array:
    """Boxes as their lower and upper corners."""
    if centered:
        middle, half = boxes[:, :2], boxes[:, 2:] / 2
        return np.concatenate([middle - half, middle + half], 1)
    one, other = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([np.minimum(one, other), np.maximum(one, other)], 1)


def _overlap(a: Array, b: Array) -> float:
    """Intersection over union."""
    common = np.prod(np.maximum(0, np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common
    return float(common / union) if union > 0 else 0.0


OPERATORS: dict[str, Operator] = {"NonMaxSuppression": non_max_suppression}
