"""Every stable code that bnfold reports, with its page: `bnfold explain CODE` prints one, docs/codes.md holds them all.

A new code takes the next free number, and no number is ever used twice. docs/codes.md is written by

    python -m bnfold.codes > docs/codes.md
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["refusal", "warning", "error", "info"]

LEVELS: dict[Level, str] = {
    "refusal": "the normalization stays; the model is as correct as it was",
    "warning": "something in the model or in its file is probably not what you meant",
    "error": "the model is not fit for deployment as it is, or what you asked for cannot be proved; `bnfold check` fails",
    "info": "worth knowing, nothing to do",
}


@dataclass(frozen=True)
class Code:
    """One row of the table and its page.

    Attributes:
        code: the stable code, `BNFnnn`.
        title: what was found, in a few words.
        level: how much it matters; `LEVELS` says what each level means.
        meaning: what it means, and why bnfold says it.
        before: a model that gets the code, as ONNX text: a graph, or the nodes of one. W, b, scale, B, mean, var and
            names starting with `q` are constants.
        after: what would fold, or what bnfold makes of `before`, as ONNX text.
        remedy: what to do about it.
        ignore: when it can safely be ignored.
    """

    code: str
    title: str
    level: Level
    meaning: str
    before: str
    after: str
    remedy: str
    ignore: str


_ROWS = (
    Code(
        code="BNF001",
        title="normalization in training mode",
        level="error",
        meaning=(
            "The node normalizes with the mean and variance of the batch that it is given instead of the stored ones. "
            "Its output for one sample depends on the other samples, so it is not a fixed affine map and cannot be "
            "folded. Nearly always the model was exported without `model.eval()`. In ONNX it looks like "
            "`training_mode = 1` (opset 14 and later), extra outputs (opset 7 to 13), or a missing `is_test = 1` "
            "(before opset 7)."
        ),
        before="""\
c = Conv (x, W)
y, new_mean, new_var = BatchNormalization <training_mode = 1> (c, scale, B, mean, var)""",
        after="""\
c = Conv (x, W)
y = BatchNormalization (c, scale, B, mean, var)""",
        remedy=(
            "Call `model.eval()` before the export and leave the `training` argument of `torch.onnx.export` alone. "
            "Export again; do not edit the attribute by hand, because other layers (Dropout, BNF002) were exported in "
            "training mode too, and the stored statistics may be stale."
        ),
        ignore="Only when the model is meant to be trained further. For inference its results depend on the batch.",
    ),
    Code(
        code="BNF002",
        title="Dropout in training mode",
        level="error",
        meaning=(
            "A Dropout still zeroes values at random: the tell-tale of an export without `model.eval()`. It is easy to "
            "miss: onnxruntime removes such a Dropout at its default optimization level and keeps it at others, so one "
            "file gives two answers."
        ),
        before="""\
training = Constant <value = bool {1}> ()
y = Dropout (x, ratio, training)""",
        after="""\
y = Dropout (x)""",
        remedy="Call `model.eval()` before the export, and export again.",
        ignore="When the randomness is wanted, as in Monte Carlo dropout. Then no two runs can be compared (BNF033).",
    ),
    Code(
        code="BNF003",
        title="foldable normalization left in the model",
        level="error",
        meaning="This normalization can be folded and has not been. Every run of the model pays for it.",
        before="""\
c = Conv (x, W)
y = BatchNormalization (c, scale, B, mean, var)""",
        after="""\
y = Conv (x, W_folded, b_folded)""",
        remedy="Run `bnfold optimize MODEL`.",
        ignore="When the file is there to be fine-tuned or quantized by a tool that wants to see the normalization.",
    ),
    Code(
        code="BNF004",
        title="the value has other readers",
        level="refusal",
        meaning=(
            "Between the normalization and the operator that could take it lies a value that something else reads too: "
            "another node, a graph output, or the body of an If, Loop or Scan. Folding would change what those see."
        ),
        before="""\
agraph (float[N,4,8,8] x) => (float[N,4,8,8] y, float[N,4,8,8] c) {
  c = Conv (x, W)
  y = BatchNormalization (c, scale, B, mean, var)
}""",
        after="""\
agraph (float[N,4,8,8] x) => (float[N,4,8,8] y) {
  c = Conv (x, W)
  y = BatchNormalization (c, scale, B, mean, var)
}""",
        remedy=(
            "If the other reader is a graph output that was added for debugging, or a node whose result nobody uses, "
            "remove it and fold again. If it belongs to the architecture, as in DenseNet and pre-activation ResNets, "
            "nothing can be done in the file."
        ),
        ignore="Always safe. The cost is one elementwise pass, which the runtime may fuse with the operator after it.",
    ),
    Code(
        code="BNF005",
        title="a nonlinear or unknown operator stands between",
        level="refusal",
        meaning=(
            "On the way from the normalization to the nearest linear operator stands an operator that an affine map "
            "cannot pass: a nonlinear one such as Relu or Sigmoid, or one that bnfold does not know. Carrying the map "
            "across it would change the result."
        ),
        before="""\
c = Conv (x, W)
r = Relu (c)
y = BatchNormalization (r, scale, B, mean, var)""",
        after="""\
c = Conv (x, W)
n = BatchNormalization (c, scale, B, mean, var)
y = Relu (n)""",
        remedy=(
            "In the file, nothing. A new architecture can put the normalization directly after the linear operator, "
            "which is another function and needs training. If the operator named in the message is one through which "
            "a per-channel affine map passes exactly, please report it."
        ),
        ignore="Always safe.",
    ),
    Code(
        code="BNF006",
        title="parameters or weights are not constant",
        level="refusal",
        meaning=(
            "A parameter of the normalization, or the weight that would take it, is not fixed in the file: it is a "
            "graph input, it is computed from data, or it is an initializer that is also listed as a graph input, "
            "which a caller may override from IR version 4 on (old exporters list all of them). Folding would ignore "
            "that."
        ),
        before="""\
agraph (float[N,4,8,8] x, float[4] scale = {1, 2, 3, 4}) => (float[N,4,8,8] y) {
  c = Conv (x, W)
  y = BatchNormalization (c, scale, B, mean, var)
}""",
        after="""\
agraph (float[N,4,8,8] x) => (float[N,4,8,8] y) <float[4] scale = {1, 2, 3, 4}> {
  c = Conv (x, W)
  y = BatchNormalization (c, scale, B, mean, var)
}""",
        remedy=(
            "If nobody overrides the initializers, which is the usual case, fold with "
            "`bnfold optimize MODEL --freeze-initializers`: it removes them from the inputs. To fix the export itself, "
            "drop `keep_initializers_as_inputs=True`. Parameters that really are computed from data cannot be folded."
        ),
        ignore="When callers do override these inputs, for example to swap weights without a new file.",
    ),
    Code(
        code="BNF007",
        title="variance + epsilon ≤ 0, or NaN or inf in the parameters",
        level="error",
        meaning=(
            "The normalization divides by zero, takes the root of a negative number, or has a parameter that is NaN or "
            "inf. At least one channel is NaN or inf for every input already in this model; folding would spread that "
            "into weights."
        ),
        before="""\
agraph (float[N,4,8,8] x) => (float[N,4,8,8] y) <float[4] var = {1, 1, -0.5, 1}> {
  c = Conv (x, W)
  y = BatchNormalization (c, scale, B, mean, var)
}""",
        after="""\
agraph (float[N,4,8,8] x) => (float[N,4,8,8] y) <float[4] var = {1, 1, 0.5, 1}> {
  c = Conv (x, W)
  y = BatchNormalization (c, scale, B, mean, var)
}""",
        remedy=(
            "The message names the channel. Look at it in the checkpoint: a diverged training run, a conversion that "
            "mixed up the order of the parameters, or a damaged file. Export again from a healthy checkpoint."
        ),
        ignore="Only when the channel's output is not used.",
    ),
    Code(
        code="BNF008",
        title="the folded value overflows its type",
        level="refusal",
        meaning=(
            "`scale / sqrt(var + epsilon)` times the weight, or the new bias, is too large for the type in which the "
            "weight is stored (65,504 for float16). The two operators together stay in range; one alone would hold inf."
        ),
        before="""\
agraph (float16[N,4,8,8] x) => (float16[N,4,8,8] y) <
  float16[4] scale = {1, 1, 60000, 1}, float16[4] var = {1, 1, 0, 1}
> {
  c = Conv (x, W)
  y = BatchNormalization (c, scale, B, mean, var)
}""",
        after="""\
agraph (float[N,4,8,8] x) => (float[N,4,8,8] y) <
  float[4] scale = {1, 1, 60000, 1}, float[4] var = {1, 1, 0, 1}
> {
  c = Conv (x, W)
  y = BatchNormalization (c, scale, B, mean, var)
}""",
        remedy=(
            "Look at the channel in the message: a variance near zero usually means a dead channel; prune it. "
            "Otherwise keep the model in float32 or bfloat16. Folding first and converting to float16 afterwards does "
            "not help, because the same value overflows there."
        ),
        ignore="Always safe.",
    ),
    Code(
        code="BNF009",
        title="the fold makes subnormal weights",
        level="warning",
        meaning=(
            "Some weights become so small (below 1.2e-38 in float32, 6.1e-5 in float16) that they are stored as "
            "subnormal numbers. The result is the same, but many CPUs compute with subnormals many times slower. They "
            "come from channels whose scale training has driven to nearly zero."
        ),
        before="""\
agraph (float[N,4,8,8] x) => (float[N,4,8,8] y) <float[4] scale = {1, 1e-38, 1, 1}> {
  c = Conv (x, W)
  y = BatchNormalization (c, scale, B, mean, var)
}""",
        after="""\
y = Conv (x, W_folded, b_folded)  # channel 1 of W_folded is subnormal""",
        remedy=(
            "Measure. If the folded model is slower on a CPU, set onnxruntime's session option "
            '`session.set_denormal_as_zero` to "1", prune the channel, or leave this normalization alone with '
            "`--keep NAME`."
        ),
        ignore="On GPUs, for float16 on hardware with native support, and when it is only a handful of weights.",
    ),
    Code(
        code="BNF010",
        title="zero padding meets a shift",
        level="refusal",
        meaning=(
            "The normalization stands before a padded Conv and has a non-zero shift. The Conv pads with zeros after "
            "the normalization, so the shift is missing in the border. Moved into the Conv's bias it would be added "
            "there too, and the border of the output would change."
        ),
        before="""\
n = BatchNormalization (x, scale, B, mean, var)
y = Conv <pads = [1, 1, 1, 1]> (n, W)""",
        after="""\
n = BatchNormalization (x, scale, B, mean, var)
y = Conv (n, W)""",
        remedy=(
            "In the file, nothing exact. A new architecture can normalize after the Conv. For a normalization that "
            "only scales the input of the network, do it in the preprocessing."
        ),
        ignore="Always safe.",
    ),
    Code(
        code="BNF011",
        title="a non-positive scale cannot cross this operator",
        level="refusal",
        meaning=(
            "MaxPool, Relu and their kin let a scale pass only when it is positive: `max(s·a, s·b) = s·max(a, b)` "
            "needs `s > 0`. At least one channel of this normalization has a scale that is zero or negative."
        ),
        before="""\
agraph (float[N,4,8,8] x) => (float[N,4,4,4] y) <float[4] scale = {1, 2, -3, 4}> {
  c = Conv (x, W)
  m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)
  y = BatchNormalization (m, scale, B, mean, var)
}""",
        after="""\
agraph (float[N,4,8,8] x) => (float[N,4,4,4] y) <float[4] scale = {1, 2, 3, 4}> {
  c = Conv (x, W)
  m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)
  y = BatchNormalization (m, scale, B, mean, var)
}""",
        remedy="In the file, nothing. A new architecture can normalize before the pooling or the activation.",
        ignore="Always safe.",
    ),
    Code(
        code="BNF012",
        title="the channel axes do not match",
        level="refusal",
        meaning=(
            "The normalization acts along another axis than the one along which the linear operator has its output "
            "channels, or something between them (a Reshape, a Transpose, a broadcast) mixes channels with other axes. "
            "A weight has no place for a map along that axis."
        ),
        before="""\
agraph (float[N,4,4] x) => (float[N,4,4] y) {
  m = MatMul (x, W)
  y = BatchNormalization (m, scale, B, mean, var)
}""",
        after="""\
agraph (float[N,4] x) => (float[N,4] y) {
  m = MatMul (x, W)
  y = BatchNormalization (m, scale, B, mean, var)
}""",
        remedy=(
            "Check that the axis is the one you meant: ONNX normalizes axis 1, while a MatMul's output channels are on "
            "the last axis. A converter from a channels-last framework may have lost a Transpose. If the axis is "
            "right, nothing can be done in the file."
        ),
        ignore="Safe when the axis is the one you meant.",
    ),
    Code(
        code="BNF013",
        title="quantization of the activation stands between",
        level="refusal",
        meaning=(
            "A QuantizeLinear or DequantizeLinear pair rounds and clips the activation between the linear operator "
            "and the normalization. Its range was calibrated for the values there; folding across it would change "
            "what is rounded and what is clipped."
        ),
        before="""\
c = Conv (x, W)
d = QuantizeLinear (c, q_scale, q_zero)
e = DequantizeLinear (d, q_scale, q_zero)
y = BatchNormalization (e, scale, B, mean, var)""",
        after="""\
c = Conv (x, W)
n = BatchNormalization (c, scale, B, mean, var)
d = QuantizeLinear (n, q_scale, q_zero)
y = DequantizeLinear (d, q_scale, q_zero)""",
        remedy=(
            "Fold the float model first, then quantize and calibrate the folded one. In quantization-aware training, "
            "use the modules of your framework that simulate a folded normalization."
        ),
        ignore="Safe for the result; the quantized model is slower than it need be.",
    ),
    Code(
        code="BNF014",
        title="statistics per activation, not per channel",
        level="refusal",
        meaning=(
            "Before opset 9, `spatial = 0` gave every position of the feature map its own statistics. A Conv's weight "
            "is the same at every position, so it has no place for them."
        ),
        before="""\
<ir_version: 4, opset_import: ["" : 7]>
agraph (float[N,4,8,8] x) => (float[N,4,8,8] y) {
  c = Conv (x, W)
  y = BatchNormalization <spatial = 0> (c, scale, B, mean, var)
}""",
        after="""\
<ir_version: 4, opset_import: ["" : 7]>
agraph (float[N,4,8,8] x) => (float[N,4,8,8] y) {
  c = Conv (x, W)
  y = BatchNormalization (c, scale, B, mean, var)
}""",
        remedy="Export with opset 9 or later, where statistics are per channel, if the layer was trained that way.",
        ignore="Always safe.",
    ),
    Code(
        code="BNF015",
        title="parallel linear branches could be one operator",
        level="info",
        meaning=(
            "Several linear operators read the same value and their results are added: a training-time block as in "
            "RepVGG, MobileOne or YOLOv6/7. Once the normalizations are folded, the branches can be merged into one "
            "operator that computes the same."
        ),
        before="""\
a = Conv <pads = [1, 1, 1, 1]> (x, W_3x3, b_3x3)
c = Conv (x, W_1x1, b_1x1)
y = Add (a, c)""",
        after="""\
y = Conv <pads = [1, 1, 1, 1]> (x, W_merged, b_merged)""",
        remedy=(
            "Convert the model with its own tool before the export: `switch_to_deploy()` in RepVGG, "
            "`reparameterize_model()` in MobileOne."
        ),
        ignore="Always safe. The model is larger and slower than it need be.",
    ),
    Code(
        code="BNF016",
        title="a shared weight was copied",
        level="info",
        meaning=(
            "Several operators use one weight, and the fold changes it for some of them only. Those got a copy; the "
            "others still read the original. The message gives the growth in bytes."
        ),
        before="""\
a = Conv (x, W)
c = Conv (z, W)
y = BatchNormalization (a, scale, B, mean, var)""",
        after="""\
y = Conv (x, W_folded, b_folded)
c = Conv (z, W)""",
        remedy="Nothing. If the size matters more than the time, leave the normalization alone with `--keep NAME`.",
        ignore="Always safe.",
    ),
    Code(
        code="BNF017",
        title="running statistics look untrained",
        level="warning",
        meaning=(
            "The stored mean is 0 and the variance 1 in every channel, as after initialization, or the variance is 0 "
            "everywhere, as when nothing was ever recorded. The fold is correct, but the model may not be the one that "
            "was trained."
        ),
        before="""\
agraph (float[N,4,8,8] x) => (float[N,4,8,8] y) <
  float[4] mean = {0, 0, 0, 0}, float[4] var = {1, 1, 1, 1}
> {
  c = Conv (x, W)
  y = BatchNormalization (c, scale, B, mean, var)
}""",
        after="""\
agraph (float[N,4,8,8] x) => (float[N,4,8,8] y) <
  float[4] mean = {0.2, -1.3, 0.7, 0}, float[4] var = {0.9, 2.1, 1.4, 3}
> {
  c = Conv (x, W)
  y = BatchNormalization (c, scale, B, mean, var)
}""",
        remedy=(
            "Check that the checkpoint was loaded before the export and that its names matched: "
            "`load_state_dict(state, strict=True)` raises when they did not. If statistics were never recorded, run "
            "training data through the model in training mode, then export."
        ),
        ignore="For a model with random weights, and when another tool has folded and left neutral normalizations.",
    ),
    Code(
        code="BNF018",
        title="unknown rank or shape",
        level="refusal",
        meaning=(
            "The fold needs to know how many axes a tensor has, or how long one of them is, and neither the file nor "
            "shape inference says so. Guessing could put the map on the wrong axis."
        ),
        before="""\
agraph (float[] x) => (float[] y) {
  m = MatMul (x, W)
  y = BatchNormalization (m, scale, B, mean, var)
}""",
        after="""\
agraph (float[N,4] x) => (float[N,4] y) {
  m = MatMul (x, W)
  y = BatchNormalization (m, scale, B, mean, var)
}""",
        remedy=(
            "Declare the shapes of the graph inputs, with names for the dimensions that vary, and run "
            "`onnx.shape_inference.infer_shapes` on the model. An operator of a custom domain between them needs its "
            "output shape written in `value_info`."
        ),
        ignore="Always safe.",
    ),
    Code(
        code="BNF019",
        title="a type that cannot hold the folded value",
        level="refusal",
        meaning=(
            "A parameter of the normalization, or the weight that would take it, is stored in a type other than "
            "float64, float32, float16 and bfloat16, or in types that do not fit together. No type for the folded "
            "weight keeps the model valid and its accuracy."
        ),
        before="""\
agraph (float[N,4,8,8] x) => (float[N,4,8,8] y) <float8e4m3fn[4,4,1,1] W = {}> {
  c = Conv (x, W)
  y = BatchNormalization (c, scale, B, mean, var)
}""",
        after="""\
agraph (float[N,4,8,8] x) => (float[N,4,8,8] y) {
  c = Conv (x, W)
  y = BatchNormalization (c, scale, B, mean, var)
}""",
        remedy="Fold the model while it is all float32, and convert it to the smaller type afterwards.",
        ignore="Always safe.",
    ),
    Code(
        code="BNF020",
        title="folding would cost more than it saves",
        level="refusal",
        meaning=(
            "The fold is possible, but it would make the model slower or larger than the normalization does. The usual "
            "case is a normalization before a MatMul that makes more channels than it reads: the shift would need an "
            "Add behind the MatMul, on a larger tensor than the normalization handles."
        ),
        before="""\
agraph (float[N,4] x) => (float[N,8] y) {
  n = BatchNormalization (x, scale, B, mean, var)
  y = MatMul (n, W_4x8)
}""",
        after="""\
agraph (float[N,4] x) => (float[N,8] y) {
  n = BatchNormalization (x, scale, B, mean, var)
  m = MatMul (n, W_4x8)
  y = Add (m, b_8)
}""",
        remedy=(
            "Give the linear layer a bias when you export it: the shift joins a constant that is added anyway, and "
            "nothing new is needed. Otherwise nothing."
        ),
        ignore="Always safe.",
    ),
    Code(
        code="BNF021",
        title="kept on request",
        level="refusal",
        meaning="A `--keep` pattern names this normalization, or `--only` patterns were given and none names it.",
        before="""\
c = Conv (x, W)
y = BatchNormalization (c, scale, B, mean, var)  # named by --keep""",
        after="""\
y = Conv (x, W_folded, b_folded)  # without --keep""",
        remedy="Drop the option, or narrow its pattern, to have it folded.",
        ignore="Always safe: it is what you asked for.",
    ),
    Code(
        code="BNF022",
        title="written as primitives on request",
        level="info",
        meaning=(
            "With `--no-batchnorm` a BatchNormalization that cannot be folded away is written as Mul and Add, or as an Add "
            "alone where its scale could leave. The result is equal, and often slower where the operator exists."
        ),
        before="""\
agraph (float[N,4,8,8] x) => (float[N,4,8,8] y) {
  r = Sigmoid (x)
  y = BatchNormalization (r, scale, B, mean, var)
}""",
        after="""\
agraph (float[N,4,8,8] x) => (float[N,4,8,8] y) {
  r = Sigmoid (x)
  m = Mul (r, scale_4x1x1)
  y = Add (m, shift_4x1x1)
}""",
        remedy="Drop the option if the target has a BatchNormalization operator.",
        ignore="Always safe: it is what you asked for.",
    ),
    Code(
        code="BNF023",
        title="a pattern names nothing",
        level="warning",
        meaning="A `--keep` or `--only` pattern matches no normalization of the model, neither by node name nor by output name.",
        before="""\
c = Conv (x, W)
y = BatchNormalization (c, scale, B, mean, var)  # --keep 'bn*'""",
        after="""\
c = Conv (x, W)
y = BatchNormalization (c, scale, B, mean, var)  # --keep y""",
        remedy="Check its spelling: `bnfold inspect MODEL -v` lists the names.",
        ignore="When the same pattern is used for several models.",
    ),
    Code(
        code="BNF024",
        title="normalization without usable running statistics",
        level="error",
        meaning=(
            "A PyTorch module holds a batch normalization that keeps no running mean and variance "
            "(`track_running_stats=False`). In eval mode, too, it normalizes with the statistics of each batch, so there is no "
            "inference form of it, and the export stops."
        ),
        before="""\
y, new_mean, new_var = BatchNormalization <training_mode = 1> (x, scale, B, mean, var)""",
        after="""\
y = BatchNormalization (x, scale, B, mean, var)  # mean and var measured on training data""",
        remedy=(
            "Export with `--placeholder-statistics`, which gives the normalization mean 0 and variance 1, and measure its "
            "statistics on training data with `bnfold recalibrate`. Then it folds like any other."
        ),
        ignore="Never: without statistics the result for one sample depends on the samples beside it.",
    ),
    Code(
        code="BNF025",
        title="statistics of this normalization cannot be measured",
        level="warning",
        meaning=(
            "`bnfold recalibrate` measures a normalization by giving the model's main graph further outputs. It leaves one alone "
            "that stands in the body of an If, Loop or Scan or in a local function, where nothing can be read from outside, or "
            "whose statistics are computed or fed by the caller. It stays as it was."
        ),
        before="""\
agraph (float[N,4] x, float[4] running) => (float[N,4] y) {
  y = BatchNormalization (x, scale, B, running, var)
}""",
        after="""\
agraph (float[N,4] x) => (float[N,4] y) {
  y = BatchNormalization (x, scale, B, mean, var)
}""",
        remedy=(
            "Export the model without the loop or the branch around it, or inline its functions (`onnx.inliner`), and measure "
            "then."
        ),
        ignore="When its statistics are good as they are.",
    ),
    Code(
        code="BNF026",
        title="training batches are not mixed",
        level="warning",
        meaning=(
            "The labels say that each batch holds only a few of the classes, as when a folder is read class by class. The "
            "variance inside such a batch lacks what the classes differ by, so averages over such batches are not the "
            "statistics of the data, and not those that the network was trained with."
        ),
        before="""\
y = BatchNormalization (x, scale, B, mean, var)  # mean and var averaged over batches of one class""",
        after="""\
y = BatchNormalization (x, scale, B, mean, var)  # mean and var averaged over mixed batches""",
        remedy="Shuffle the data: list the files in random order (format `csv` or `jsonl`), or save a shuffled .npz.",
        ignore="When the network was trained on such batches, too.",
    ),
    Code(
        code="BNF030",
        title="IR version or opset too new for the installed runtime",
        level="error",
        meaning=(
            "The file declares a newer IR version or operator set than the installed onnxruntime loads, so the model "
            "cannot be run and nothing about it can be verified. bnfold never raises either: the original has the same "
            "numbers. Recent onnx versions write the newest numbers they know by default."
        ),
        before="""\
<ir_version: 14, opset_import: ["" : 28]>
agraph (float[N,4,8,8] x) => (float[N,4,8,8] y) {
  y = Relu (x)
}""",
        after="""\
<ir_version: 10, opset_import: ["" : 21]>
agraph (float[N,4,8,8] x) => (float[N,4,8,8] y) {
  y = Relu (x)
}""",
        remedy=(
            "Upgrade onnxruntime, or export again with an older opset (`opset_version=` in `torch.onnx.export`). "
            "`bnfold optimize MODEL --no-verify` folds without running the model."
        ),
        ignore="Only when the model is for another machine with a newer runtime. Verify it there.",
    ),
    Code(
        code="BNF031",
        title="the requested provider did not run the model",
        level="error",
        meaning=(
            "The execution provider that was asked for is not in the installed onnxruntime, does not start on this machine, "
            "or did not take every compute node of the model. onnxruntime goes on with the CPU then, with a warning at "
            "most, and what is measured that way says nothing about the provider. bnfold reads the assignment of nodes "
            "that onnxruntime 1.24 and later record, and stops with exit code 3; before 1.24 nothing can be proved. Nodes "
            "that no input value reaches, which compute with sizes and constants only, may run elsewhere: GPU providers "
            "leave those on the CPU on purpose."
        ),
        before="""\
y = Conv (x, W)  # asked for CUDAExecutionProvider, ran on CPUExecutionProvider""",
        after="""\
y = Conv (x, W)  # asked for CUDAExecutionProvider, ran on CUDAExecutionProvider""",
        remedy=(
            "`bnfold doctor` says which providers start here and which library each lacks: install the onnxruntime package "
            "that is built for the device, or that library. Where operators are listed, the provider has no kernel for "
            "them: `--allow-fallback` runs them elsewhere, and every report then states the share of nodes per provider."
        ),
        ignore=(
            "With `--allow-fallback`, where it is a remark: never for a measurement of the provider alone. A verification "
            "holds for the mixture that did run."
        ),
    ),
    Code(
        code="BNF032",
        title="the original's own output is NaN or inf",
        level="warning",
        meaning=(
            "The model as it came in produces NaN or inf for inputs of the verification. Two models cannot be compared "
            "at these values, except that both must have them in the same places. An output without a single finite "
            "value proves nothing, and the verification fails."
        ),
        before="""\
y = Log (x)  # x is random here, so half of it is negative""",
        after="""\
a = Abs (x)
y = Log (a)""",
        remedy=(
            "Random inputs may lie outside what the model was made for: give real ones with `--inputs FILE.npz`. If "
            "those give NaN or inf too, the model is broken; BNF007 names a frequent cause."
        ),
        ignore="When these values are meant, such as -inf in a mask.",
    ),
    Code(
        code="BNF033",
        title="the model is not deterministic",
        level="error",
        meaning=(
            "Two runs of the same model on the same inputs differ, so a difference between the original and the folded "
            "model says nothing. The usual causes are a Dropout in training mode (BNF002) and random or sampling "
            "operators."
        ),
        before="""\
noise = RandomNormalLike (x)
y = Add (x, noise)""",
        after="""\
y = Add (x, noise)  # noise is an input now""",
        remedy=(
            "Export in evaluation mode. Where the randomness is wanted, feed it as an input, or fold with `--no-verify` "
            "and compare distributions yourself. A `seed` on the operators does not help: two runs of one session still "
            "differ."
        ),
        ignore="Never silently: without determinism nothing here was proved.",
    ),
    Code(
        code="BNF034",
        title="the original does not run at one optimization level",
        level="warning",
        meaning=(
            "A verification runs both models twice: as they are written, and with onnxruntime's default optimizations. "
            "The original failed in one of the two, so the models were compared in the other one only. The candidate "
            "cannot be blamed for it."
        ),
        before="""\
y = Relu (x)  # runs as written, fails once onnxruntime has optimized it""",
        after="""\
y = Relu (x)  # runs both ways""",
        remedy="The message holds what onnxruntime said. Another version of onnxruntime may run it; this is its bug.",
        ignore="When your application runs the model at the level that works.",
    ),
    Code(
        code="BNF035",
        title="there is no float64 truth to compare with",
        level="info",
        meaning=(
            "A verification evaluates both models in float64 as well, and asks whether the candidate is as close to that truth "
            "as the original. Here it could not, for the reason that the message gives: an operator that the float64 reference "
            "does not know, a model too large for memory. The two models were compared with each other instead, within the "
            "tolerance for their precision, which is much looser."
        ),
        before="""\
y = com.example.Attention (x)  # the reference does not know it""",
        after="""\
y = MatMul (p, v)  # written in ONNX operators, it does""",
        remedy=(
            "None is needed when the differences shown are small enough for you. A model that is exported without the custom "
            "operator can be verified more sharply; --atol and --rtol set the tolerance yourself."
        ),
        ignore="When the differences that were measured satisfy you.",
    ),
    Code(
        code="BNF036",
        title="the original itself is inaccurate",
        level="info",
        meaning=(
            "The original's own output is further from what it computes in float64 than its precision explains: something in "
            "it cancels or overflows. A folded model is not blamed for that: it passes when it is as close to the truth as the "
            "original, and it is often closer."
        ),
        before="""\
c = Conv (x, W)            # around 1e6, off by 0.06 in float32
y = BatchNormalization (c) # subtracts a mean of 1e6; what is left is off by 0.06""",
        after="""\
y = Conv (x, W, b)  # W and b were computed in float64""",
        remedy=(
            "Nothing is wrong with the fold. Where the output matters to that many digits, look for statistics or weights that "
            "are far larger than what comes out."
        ),
        ignore="When the error that the message names is small enough for your purpose.",
    ),
    Code(
        code="BNF040",
        title="the two models do not compute the same",
        level="error",
        meaning=(
            "A verification ran two models on the same inputs, and they differ by more than the rounding of one of them "
            "explains, or have other inputs or outputs, or one of them does not run. The report says which output, on which "
            "input, and by how much. `bnfold optimize` writes nothing then."
        ),
        before="""\
y = Conv (x, W)""",
        after="""\
y = Conv (x, W, b)  # another model""",
        remedy=(
            "If bnfold made the second model, that is a bug in bnfold: please report it with the model. Otherwise look at the "
            "first output or layer that the report names: a lost bias, another epsilon and statistics of another layer are the "
            "usual causes."
        ),
        ignore="When the two are meant to differ, as after quantization or pruning. Then compare their accuracy.",
    ),
    Code(
        code="BNF050",
        title="the candidate does not meet a condition on labelled data",
        level="error",
        meaning=(
            "Two models were run on the same labelled samples, and a condition that you stated is not met: more answers changed "
            "than `--max-flips` allows, or the accuracy is not shown to drop by less than `--max-drop`. The latter is a test of "
            "non-inferiority: the upper end of a 95 % interval for the drop has to be below the margin. So it fails, too, when "
            "nothing changed but there are too few samples to say so. `bnfold optimize` writes nothing then."
        ),
        before="""\
y = Conv (x, W)""",
        after="""\
y = Conv (x, W, b)  # the model that decides as it should""",
        remedy=(
            "The report lists the first answers that changed, with how clear they were. Answers that were nearly ties change "
            "with any other rounding: `--margin` sets them apart. With too few samples, take as many as the report asks for."
        ),
        ignore="When the candidate is meant to differ. Then state the drop that you accept.",
    ),
    Code(
        code="BNF051",
        title="accuracy is no better than guessing",
        level="warning",
        meaning=(
            "A model is right about as often as one that guesses among its classes: Wilson's lower bound of the accuracy is not "
            "above 1 / classes. Nearly always the preprocessing is not the one that the model was trained with: pixels from 0 "
            "to 255 instead of 0 to 1, another mean, BGR for RGB. Milder mistakes of this kind only cost accuracy and are not "
            "noticed, so compare with the accuracy that was published for the model."
        ),
        before="""\
c = Conv (x, W)  # is fed pixels from 0 to 255""",
        after="""\
p = Div (x, q255)
c = Conv (p, W)""",
        remedy="State the preprocessing of the training with `--preprocess`, as a preset or as a function of your own.",
        ignore="When the model is not trained yet.",
    ),
    Code(
        code="BNF052",
        title="labels look shifted by one",
        level="warning",
        meaning=(
            "The answers of a model agree far better with the labels plus one, or minus one, than with the labels. Data sets "
            "count classes from 0 or from 1, and models of the TensorFlow family often have a class 0 for the background: 1001 "
            "outputs for the 1000 classes of ImageNet."
        ),
        before="""\
y = Softmax (x)  # class 0 is the background""",
        after="""\
z = Slice (x, q1, q1001, q1)
y = Softmax (z)""",
        remedy="Shift the labels in the data, or in a loader of your own: `--data file.py:loader`.",
        ignore="Hardly ever.",
    ),
    Code(
        code="BNF060",
        title="folding spread the ranges of a weight's channels",
        level="warning",
        meaning=(
            "Each channel of a folded weight has got a factor of its own, and now the largest channel reaches more "
            "than 16 times as far as the smallest, and more than twice as far as it did before. Quantization to 8 bits "
            "with one scale for the whole tensor has to cover the largest channel, which leaves the smallest less than "
            "4 bits. In floating point nothing is lost. `bnfold ranges` says it."
        ),
        before="""\
c = Conv (x, W)
y = BatchNormalization (c, scale, B, mean, var)  # scale / sqrt(var) from 0.01 to 1""",
        after="""\
y = Conv (x, W_folded, b_folded)  # channels that reach from 0.01 to 1""",
        remedy=(
            "Quantize the weights per channel (`per_channel=True` in onnxruntime's `quantize_static`): then every "
            "channel has its own scale and all 8 bits. Where the target cannot, keep the normalization with `--keep`, "
            "or equalize the ranges across layers before you quantize."
        ),
        ignore=(
            "When the model is not quantized, or quantized per channel; and when the small channels hardly matter, as "
            "those of a normalization whose scale went to nearly zero in training."
        ),
    ),
)

CODES: dict[str, Code] = {row.code: row for row in _ROWS}


def as_markdown() -> str:
    """The text of docs/codes.md: the table, then one section per code."""
    lines = [
        "# Codes",
        "",
        "<!-- Written by `python -m bnfold.codes`; edit bnfold/codes.py instead. -->",
        "",
        "What bnfold says about a normalization or a model carries a code that never changes its meaning.",
        "`bnfold explain CODE` prints the same page in the terminal.",
        "",
        "| code | level | found |",
        "|---|---|---|",
        *(f"| [{row.code}](#{row.code.lower()}) | {row.level} | {row.title} |" for row in _ROWS),
        "",
        *(f"* **{level}**: {meaning}." for level, meaning in LEVELS.items()),
        "",
        "In the examples `W`, `b`, `scale`, `B`, `mean`, `var` and names starting with `q` are constants.",
    ]
    for row in _ROWS:
        lines += ["", *_section(row)]
    return "\n".join(lines) + "\n"


def _section(row: Code) -> list[str]:
    return [
        f"## {row.code}",
        "",
        f"**{row.title}** ({row.level})",
        "",
        row.meaning,
        "",
        "Before:",
        "",
        "```",
        row.before,
        "```",
        "",
        "After:",
        "",
        "```",
        row.after,
        "```",
        "",
        f"**What to do.** {row.remedy}",
        "",
        f"**Safe to ignore?** {row.ignore}",
    ]


if __name__ == "__main__":
    print(as_markdown(), end="")
