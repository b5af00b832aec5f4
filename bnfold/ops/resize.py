"""Resize and Upsample, DepthToSpace and SpaceToDepth: operators on the spatial axes.

Backward    y = a·(Resize(x) − c) + t     becomes   Resize(a·(x − c) + t), and back again forward
            DepthToSpace                  becomes   the same with the map tiled (DCR) or repeated (CRD) over the block
Algebra     nearest and linear interpolation weigh their neighbours with weights that sum to one. DepthToSpace moves channels:
            output channel k comes from the input channels (i·b + j)·C + k (DCR) or k·b² + i·b + j (CRD).
Conditions  Resize: mode nearest or linear, no extrapolation, the map on an axis that keeps its size. DepthToSpace: backward only,
            SpaceToDepth: forward only, since the other way the channels of a block would have to share their map.
Source      ONNX operators Resize, Upsample, DepthToSpace, SpaceToDepth.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from bnfold.affine import Affine
from bnfold.context import Context
from bnfold.edits import Map, Step
from bnfold.graph import describe, optional_input
from bnfold.verdict import Reason


def resize_backward(context: Context, node: gs.Node, output: int, map_: Map) -> Step | Reason:
    """Sends the map to the input."""
    return _obstacle(context, node, map_) or Step(onward=((0, map_),))


def resize_forward(context: Context, node: gs.Node, index: int, map_: Map) -> Step | Reason:
    """Sends the map to the output."""
    if index != 0:
        return Reason("BNF005", f"it makes the size for {describe(node)}")
    return _obstacle(context, node, map_) or Step(onward=((0, map_),))


def depth_to_space_backward(context: Context, node: gs.Node, output: int, map_: Map) -> Step | Reason:
    """Gives every channel of a block the map of the channel that it becomes."""
    if map_.axes not in ((), (1,)):
        return Reason("BNF012", f"{describe(node)} rearranges the axes that it maps")
    block = int(context.view.attribute(node, "blocksize", 1)) ** 2
    repeats = context.view.attribute(node, "mode", b"DCR") == b"CRD"
    return Step(onward=((0, _over_block(map_, block, repeats)),))


def space_to_depth_forward(context: Context, node: gs.Node, index: int, map_: Map) -> Step | Reason:
    """Gives every channel that a block becomes the map of the channel that it came from."""
    if map_.axes not in ((), (1,)):
        return Reason("BNF012", f"{describe(node)} rearranges the axes that it maps")
    return Step(onward=((0, _over_block(map_, int(context.view.attribute(node, "blocksize", 1)) ** 2, repeats=False)),))


def _over_block(map_: Map, block: int, repeats: bool) -> Map:
    if not map_.axes:
        return map_
    spread = np.repeat if repeats else np.tile
    return Map(Affine.of(*(spread(array, block) for array in map_.affine.arrays)), map_.axes)


def _obstacle(context: Context, node: gs.Node, map_: Map) -> Reason | None:
    mode = context.view.attribute(node, "mode", b"nearest")
    if mode not in (b"nearest", b"linear", b"bilinear", b"trilinear"):
        return Reason("BNF005", f"{describe(node)} interpolates with mode {mode.decode()}")
    if context.view.attribute(node, "coordinate_transformation_mode", b"") == b"tf_crop_and_resize":
        return Reason("BNF010", f"{describe(node)} extrapolates with a constant, which its shift would have to reach")
    if all(_keeps(context, node, axis) for axis in map_.axes):
        return None
    return Reason("BNF018", f"that {describe(node)} keeps the axis that it maps is not known", "Give the graph's inputs a shape.")


def _keeps(context: Context, node: gs.Node, axis: int) -> bool:
    """Whether `axis` is resized by a factor of one. Equal extents do not say so where a scale was given: 3·1.1 is 3, too."""
    axes, rank = context.view.attribute(node, "axes"), context.shapes.rank(node.inputs[0])
    if axes is not None:
        return rank is not None and axis not in {each % rank for each in axes}
    legacy = context.view.op_type(node) == "Upsample" or context.view.opset(node) < 11
    given = optional_input(node, 1 if legacy else 2)
    scales = context.view.attribute(node, "scales")
    if given is not None:
        weight = context.constants.weight(given)
        if weight is None:
            return False
        scales = weight.values().tolist()
    if scales:
        return axis < len(scales) and scales[axis] == 1
    before, after = context.shapes.extents(node.inputs[0]), context.shapes.extents(node.outputs[0])
    return before is not None and after is not None and isinstance(before[axis], int) and before[axis] == after[axis]
