"""A BatchNormalization that stays can still take a map that meets it: one operator less.

Backward    y = a·(BN(x) − c) + t     becomes   one BN with scale a·gamma and B a·(beta − c) + t
Forward     y = BN(a·(x − c) + t)     becomes   one BN with scale a·gamma, input_mean c and B gamma·(t − mean)/σ + beta
Algebra     affine maps compose; the variance stays, so that σ = sqrt(var + epsilon) and epsilon stay as they are.
Conditions  it is in inference mode with constant parameters; the map lies on axis 1 and has its channels.
Source      ONNX operator BatchNormalization.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from bnfold.affine import Affine
from bnfold.context import Context
from bnfold.edits import Edit, Map, SetConstant, Step
from bnfold.ops.linear import on_channels
from bnfold.parameters import epsilon_of
from bnfold.sites import batch_normalization_map
from bnfold.verdict import Reason
from bnfold.weights import Computed


def backward(context: Context, node: gs.Node, output: int, map_: Map) -> Step | Reason:
    """Takes a map of the output into scale and B."""
    return _compose(context, node, map_, inner=False)


def forward(context: Context, node: gs.Node, index: int, map_: Map) -> Step | Reason:
    """Takes a map of the input into scale, B and input_mean."""
    return _compose(context, node, map_, inner=True)


def _compose(context: Context, node: gs.Node, map_: Map, inner: bool) -> Step | Reason:
    own = batch_normalization_map(context, node)
    if isinstance(own, Reason):
        return own
    if len(own.axes) != 1:
        return Reason("BNF014", "a BatchNormalization with statistics for every position stays as it is")
    affine = on_channels(node, map_, 1, own.channels)
    if isinstance(affine, Reason):
        return affine
    both = own.affine.after(affine) if inner else affine.after(own.affine)
    return Step(tuple(_parameters(context, node, both)))


def _parameters(context: Context, node: gs.Node, affine: Affine) -> list[Edit]:
    weights = [context.constants.weight(each) for each in node.inputs[1:5]]
    gamma, beta, mean, var = (weight for weight in weights if weight is not None)
    deviation = np.sqrt(var.values() + epsilon_of(context, node))
    new = ((1, affine.scale * deviation, gamma), (2, affine.shift, beta), (3, affine.center, mean))
    return [SetConstant(node, index, Computed(values, like.elem_type)) for index, values, like in new]
