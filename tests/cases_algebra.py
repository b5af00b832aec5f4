"""The rows of the fold algebra: maps in primitives, carriers, forward folds, and for each what stops it. See `cases.py`."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from tests.cases import DTYPES, NO_DOUBLE, Case

DTYPES.update(int8=np.int8, uint8=np.uint8, int32=np.int32, int4=ml_dtypes.int4, uint4=ml_dtypes.uint4)

NO_SPATIAL = "onnxruntime has no kernel for spatial=0"

_ROWS: list[Case] = []


def _group(*rows: Case) -> None:
    _ROWS.extend(rows)


def _positive(*channels: int, names: str = "y") -> dict[str, Any]:
    """`fill` for normalizations with positive scales and no offset."""
    found: dict[str, Any] = {}
    for name, count in zip(names.split(), channels, strict=True):
        found |= {f"{name}_scale": np.linspace(0.5, 1.5, count), f"{name}_bias": 0, f"{name}_mean": 0}
    return found


def _ints(**values: Any) -> dict[str, Any]:
    return values


# -- maps in primitives, into the operator in front -----------------------------------------------------------------------

CONV = Case("conv", "x[2,3,5,5]; W[5,3,1,1]", "c = Conv (x, W)  y = BN5 (c)", "Conv")


def _mapped(name: str, tensors: str, body: str, expect: str, after: str = "", **changes: Any) -> Case:
    """A Conv and primitives behind it; extents coincide, so that only the axes can tell."""
    return CONV.but(f"map_{name}", expect, tensors=f"x[5,5,5,5]; W[5,5,1,1] {tensors}", body=f"c = Conv (x, W)  {body}", **{
        "after": after or ("Conv" if "BNF" not in expect and expect else ""), **changes
    })  # fmt: skip


_group(
    _mapped("mul", "k[5,1,1]", "y = Mul (c, k)", "Mul:Conv"),
    _mapped("mul_left", "k[5,1,1]", "y = Mul (k, c)", "Mul:Conv"),
    _mapped("mul_1c11", "k[1,5,1,1]", "y = Mul (c, k)", "Mul:Conv"),
    _mapped("mul_scalar", "k[]", "y = Mul (c, k)", "Mul:Conv"),
    _mapped("mul_1", "k[1]", "y = Mul (k, c)", "Mul:Conv"),
    _mapped("mul_1111", "k[1,1,1,1]", "y = Mul (c, k)", "Mul:Conv"),
    _mapped("mul_zero", "k[5,1,1]", "y = Mul (c, k)", "Mul:Conv", fill={"k": np.array([1, 0, -2, 3, 0]).reshape(5, 1, 1)}),
    _mapped("add", "k[5,1,1]", "y = Add (c, k)", "Add:Conv"),
    _mapped("add_left", "k[1,5,1,1]", "y = Add (k, c)", "Add:Conv"),
    _mapped("add_scalar", "k[]", "y = Add (c, k)", "Add:Conv"),
    _mapped("sub", "k[5,1,1]", "y = Sub (c, k)", "Sub:Conv"),
    _mapped("sub_from", "k[5,1,1]", "y = Sub (k, c)", "Sub:Conv"),
    _mapped("sub_from_scalar", "k[]", "y = Sub (k, c)", "Sub:Conv"),
    _mapped("div", "k_var[5,1,1]", "y = Div (c, k_var)", "Div:Conv"),
    _mapped("div_scalar", "k_var[1]", "y = Div (c, k_var)", "Div:Conv"),
    _mapped("neg", "", "y = Neg (c)", "Neg:Conv"),
    _mapped("mul_add", "k[5,1,1] h[5,1,1]", "d = Mul (c, k)  y = Add (d, h)", "Mul,Add:Conv"),
    _mapped("add_mul", "k[5,1,1] h[1,5,1,1]", "d = Add (c, k)  y = Mul (h, d)", "Add,Mul:Conv"),
    _mapped("neg_sub_from", "k[5,1,1]", "d = Neg (c)  y = Sub (k, d)", "Neg,Sub:Conv"),
    _mapped("scalar_then_channels", "k[] h[5,1,1]", "d = Mul (c, k)  y = Add (d, h)", "Mul,Add:Conv"),
    _mapped(
        "hand_written",
        "k[5,1,1] r_var[5,1,1] g[5,1,1] h[5,1,1]",
        "d = Sub (c, k)  e = Div (d, r_var)  f = Mul (e, g)  y = Add (f, h)",
        "Sub,Div,Mul,Add:Conv",
    ),
    _mapped(
        "hand_written_root",
        "k[1,5,1,1] v_var[1,5,1,1] eps[] g[1,5,1,1] h[1,5,1,1]",
        "q = Add (v_var, eps)  r = Sqrt (q)  d = Sub (c, k)  e = Div (d, r)  f = Mul (g, e)  y = Add (f, h)",
        "Sub,Div,Mul,Add:Conv",
        fill={"eps": 1e-3},
    ),
    _mapped(
        "hand_written_pow",
        "k[5,1,1] v_var[5,1,1] eps[] half[] g[5,1,1] h[5,1,1]",
        "q = Add (v_var, eps)  r = Pow (q, half)  d = Sub (c, k)  e = Div (d, r)  f = Mul (g, e)  y = Add (f, h)",
        "Sub,Div,Mul,Add:Conv",
        fill={"eps": 1e-3, "half": 0.5},
    ),
    _mapped(
        "tensorflow",
        "v_var[5,1,1] eps[] g[5,1,1] m[5,1,1] b[5,1,1]",
        "q = Add (v_var, eps)  r = Sqrt (q)  i = Reciprocal (r)  s = Mul (i, g)  d = Mul (c, s)  p = Mul (m, s)  t = Sub (b, p)"
        "  y = Add (d, t)",
        "Mul,Add:Conv",
        fill={"eps": 1e-3},
    ),
    _mapped(
        "frozen_batch_norm",
        "w[5] v_var[5] b[5] m[5] eps[] shape:int64[4]",
        "q = Add (v_var, eps)  r = Sqrt (q)  i = Reciprocal (r)  s = Mul (w, i)  p = Mul (m, s)  t = Sub (b, p)"
        "  s4 = Reshape (s, shape)  t4 = Reshape (t, shape)  d = Mul (c, s4)  y = Add (d, t4)",
        "Mul,Add:Conv",
        fill={"eps": 1e-5, "shape": [1, -1, 1, 1]},
    ),
    _mapped("unsqueezed", "k[5] a:int64[2]", "u = Unsqueeze (k, a)  y = Mul (c, u)", "Mul:Conv", fill={"a": [1, 2]}),
    _mapped("before_bn", "k[5,1,1]", "d = Mul (c, k)  y = BN5 (d)", "Mul:Conv Conv"),
    _mapped("behind_bn", "k[5,1,1]", "d = BN5 (c)  y = Sub (k, d)", "Conv Sub:Conv"),
    # What lies on another axis, or is no map of the data.
    _mapped("on_width", "k[5]", "y = Mul (c, k)", "Mul:BNF012"),
    _mapped("on_height", "k[5,1]", "y = Mul (c, k)", "Mul:BNF012"),
    _mapped("on_batch", "k[5,1,1,1]", "y = Mul (c, k)", "Mul:BNF012"),
    _mapped("on_space", "k[5,5]", "y = Mul (c, k)", ""),
    _mapped("on_channels_and_width", "k[5,1,5]", "y = Mul (c, k)", ""),
    _mapped("per_element", "k[1,5,5,5]", "y = Mul (c, k)", ""),
    _mapped("batch_and_channels", "k[5,5,1,1]", "y = Mul (c, k)", ""),
    _mapped("channels_then_width", "k[5,1,1] h[5]", "d = Mul (c, k)  y = Mul (d, h)", ""),
    _mapped("raises_rank", "k[1,1,1,1,1]", "y = Mul (c, k)", ""),
    _mapped("raises_rank_with_channels", "k[5,1,1,1,1]", "y = Mul (c, k)", ""),
    _mapped("into_power", "k[]", "y = Pow (c, k)", "", fill={"k": 2}),
    _mapped("divides_constant", "k[5,1,1]", "y = Div (k, c)", ""),
    _mapped("by_itself", "", "y = Mul (c, c)", ""),
    _mapped("infinite", "k[5,1,1]", "y = Div (c, k)", "", fill={"k": np.array([1, 2, 0, 3, 4]).reshape(5, 1, 1)}),
    _mapped("overridable", "k[5,1,1]", "y = Mul (c, k)", "", overridable=("k",)),
    _mapped("runtime", "", "y = Mul (c, k)", "").but("map_runtime", tensors="x[5,5,5,5] k[5,1,1]; W[5,5,1,1]"),
    _mapped("read_twice", "k[5,1,1]", "y = Mul (c, k)  z = Relu (c)", "Mul:BNF004", outputs="y z"),
    _mapped("input_is_output", "k[5,1,1]", "y = Mul (c, k)", "Mul:BNF004", outputs="y c"),
    _mapped(
        "middle_is_output",
        "k[5,1,1] h[5,1,1]",
        "d = Mul (c, k)  y = Mul (d, h)",
        "Mul:Conv Mul:BNF004",
        outputs="y d",
        after="Conv Mul",
    ),
    _mapped("data_broadcast_up", "k[5,1,1]", "y = Mul (c, k)", "").but(
        "map_data_broadcast_up", tensors="x[5,5,5,5]; W[1,5,1,1] k[5,1,1]"
    ),
    _mapped("data_broadcast_up_add", "k[5,1,1]", "y = Add (c, k)", "").but(
        "map_data_broadcast_up_add", tensors="x[5,5,5,5]; W[1,5,1,1] k[5,1,1]"
    ),
    _mapped("data_broadcast_up_space", "k[5,5]", "y = Mul (c, k)", "").but(
        "map_data_broadcast_up_space", tensors="x[5,5,1,1]; W[5,5,1,1] k[5,5]"
    ),
    Case(
        "map_scalar_data_raised", "x[3,4]; W[4,5] k[1]", "c = Gemm (x, W)  m = ReduceMean <keepdims = 0> (c)  y = Mul (m, k)", ""
    ),
    Case(
        "map_scalar_data_raised_twice",
        "x[3,4]; W[4,5] k[1] h[]",
        "c = Gemm (x, W)  m = ReduceMean <keepdims = 0> (c)  d = Mul (m, k)  y = Add (d, h)",
        "",
    ),
    Case(
        "map_scalar_data",
        "x[3,4]; W[4,5] k[]",
        "c = Gemm (x, W)  m = ReduceMean <keepdims = 0> (c)  y = Mul (m, k)",
        "Mul:Gemm",
        "Gemm ReduceMean",
    ),
)


def _dense(name: str, tensors: str, body: str, expect: str, after: str, **changes: Any) -> Case:
    return Case(f"map_{name}", tensors, body, expect, after, **changes)


_group(
    _dense("gemm_mul", "x[5,5]; W[5,5] k[5]", "c = Gemm (x, W)  y = Mul (c, k)", "Mul:Gemm", "Gemm"),
    _dense("gemm_mul_row", "x[5,5]; W[5,5] k[1,5]", "c = Gemm (x, W)  y = Mul (c, k)", "Mul:Gemm", "Gemm"),
    _dense("gemm_mul_column", "x[5,5]; W[5,5] k[5,1]", "c = Gemm (x, W)  y = Mul (c, k)", "Mul:BNF012", ""),
    _dense("gemm_mul_matrix", "x[5,5]; W[5,5] k[5,5]", "c = Gemm (x, W)  y = Mul (c, k)", "", ""),
    _dense("gemm_sub_from", "x[5,5]; W[5,5] k[5] b[5]", "c = Gemm <beta = 0.5> (x, W, b)  y = Sub (k, c)", "Sub:Gemm", "Gemm"),
    _dense("matmul_mul", "x[5,5,5]; W[5,5] k[5]", "c = MatMul (x, W)  y = Mul (c, k)", "Mul:MatMul", "MatMul"),
    _dense(
        "matmul_mul_add",
        "x[5,5,5]; W[5,5] k[5] h[5]",
        "c = MatMul (x, W)  d = Mul (c, k)  y = Add (d, h)",
        "Mul,Add:MatMul",
        "Add MatMul",
    ),
    _dense(
        "matmul_add_mul",
        "x[5,5,5]; W[5,5] k[5] h[5]",
        "c = MatMul (x, W)  d = Add (c, h)  y = Mul (d, k)",
        "Add,Mul:MatMul",
        "Add MatMul",
    ),
    _dense("matmul_neg", "x[5,5,5]; W[5,5]", "c = MatMul (x, W)  y = Neg (c)", "Neg:MatMul", "MatMul"),
    _dense("matmul_bias_stays", "x[5,5,5]; W[5,5] h[5]", "c = MatMul (x, W)  y = Add (c, h)", "", ""),
    _dense("matmul_mul_rows", "x[5,5,5]; W[5,5] k[5,1]", "c = MatMul (x, W)  y = Mul (c, k)", "Mul:BNF012", ""),
    _dense("matmul_left_mul_rows", "x[5,5,5]; W[5,5] k[5,1]", "c = MatMul (W, x)  y = Mul (c, k)", "Mul:MatMul", "MatMul"),
    _dense("matmul_left_mul_columns", "x[5,5,5]; W[5,5] k[5]", "c = MatMul (W, x)  y = Mul (c, k)", "Mul:BNF012", ""),
    _dense(
        "matmul_nhwc",
        "x[2,3,3,4]; W[4,5] k[5] h[5]",
        "c = MatMul (x, W)  d = Mul (c, k)  y = Add (d, h)",
        "Mul,Add:MatMul",
        "Add MatMul",
    ),
    _dense(
        "layer_scale",
        "x[2,4,4] r[2,4,4]; W[4,4] b[4] g[4]",
        "m = MatMul (x, W)  c = Add (m, b)  d = Mul (c, g)  y = Add (d, r)",
        "Add,Mul:MatMul",
        "Add Add MatMul",
    ),
    _dense(
        "conv_transpose_mul",
        "x[2,4,3,3]; W[4,4,2,2] k[4,1,1]",
        "c = ConvTranspose (x, W)  y = Mul (c, k)",
        "Mul:ConvTranspose",
        "ConvTranspose",
    ),
    _dense(
        "conv_transpose_grouped",
        "x[2,4,3,3]; W[4,2,2,2] k[4,1,1] h[4,1,1]",
        "c = ConvTranspose <group = 2> (x, W)  d = Mul (c, k)  y = Sub (d, h)",
        "Mul,Sub:ConvTranspose",
        "ConvTranspose",
    ),
)

# -- backward through carriers --------------------------------------------------------------------------------------------


def _back(name: str, between: str, channels: int = 4, expect: str = "Conv", tensors: str = "", **changes: Any) -> Case:
    """Conv, something that reads `c` and makes `d`, normalization. All extents are 4."""
    told: dict[str, Any] = {
        "tensors": f"x[4,4,4,4]; W[4,4,1,1] {tensors}",
        "body": f"c = Conv (x, W)  {between}  y = BN{channels} (d)",
    }
    return CONV.but(f"back_{name}", expect, **(told | changes))


_group(
    _back("reshape_same", "d = Reshape (c, s)", tensors="s:int64[4]", fill=_ints(s=[4, 4, 2, 8])),
    _back("reshape_flatten_space", "d = Reshape (c, s)", tensors="s:int64[3]", fill=_ints(s=[0, 0, -1])),
    _back("reshape_merge_channels", "d = Reshape (c, s)", 16, "BNF014", tensors="s:int64[3]", fill=_ints(s=[4, 16, 4])),
    _back("reshape_to_vector", "d = Reshape (c, s)", 64, "BNF014", tensors="s:int64[2]", fill=_ints(s=[4, 64])),
    _back("reshape_split_channels", "d = Reshape (c, s)", 2, tensors="s:int64[5]", fill=_ints(s=[4, 2, 2, 4, 4])),
    _back(
        "reshape_batch_into_channels",
        "d = Reshape (c, s)",
        16,
        "BNF012|BNF014",
        tensors="s:int64[4]",
        fill=_ints(s=[1, 16, 4, 4]),
    ),
    _back("reshape_mixes", "d = Reshape (c, s)", 8, "BNF012|BNF014", tensors="s:int64[3]", fill=_ints(s=[8, 8, 4])),
    _back("reshape_dynamic_batch", "d = Reshape (c, s)").but(
        "back_reshape_dynamic_batch", tensors="x[N,4,4,4]; W[4,4,1,1] s:int64[3]", fill=_ints(s=[0, 0, -1])
    ),
    _back("reshape_runtime_shape", "d = Reshape (c, s)", expect="BNF012|BNF018").but(
        "back_reshape_runtime_shape",
        tensors="x[4,4,4,4] s:int64[4]; W[4,4,1,1]",
        fill=_ints(s=[4, 4, 2, 8]),
        outputs="y:float[4,4,2,8]",
    ),
    _back("flatten_pooled", "p = GlobalAveragePool (c)  d = Flatten (p)"),
    _back("flatten_space", "d = Flatten (c)", 64, "BNF014"),
    _back("flatten_axis_2", "d = Flatten <axis = 2> (c)", 16, "BNF014"),
    _back("squeeze", "p = GlobalAveragePool (c)  d = Squeeze (p, a)", tensors="a:int64[2]", fill=_ints(a=[-1, 2])),
    _back("squeeze_all", "p = GlobalAveragePool (c)  d = Squeeze (p)", tensors=""),
    _back("squeeze_opset_11", "p = GlobalAveragePool (c)  d = Squeeze <axes = [2, 3]> (p)", opset=11),
    _back("squeeze_batch", "d = Squeeze (c, a)", 1, "BNF012").but(
        "back_squeeze_batch",
        tensors="x[1,4,4,4]; W[4,4,1,1] a:int64[1]",
        fill=_ints(a=[0]),
        body="c = Conv (x, W)  d = Squeeze (c, a)  y = BN4 (d)",
    ),
    _back("unsqueeze", "d = Unsqueeze (c, a)", tensors="a:int64[1]", fill=_ints(a=[-1])),
    _back("unsqueeze_shifts", "d = Unsqueeze (c, a)", 1, "BNF012|Conv", tensors="a:int64[1]", fill=_ints(a=[1])),
    _back("unsqueeze_batch", "d = Unsqueeze (c, a)", 4, "BNF012", tensors="a:int64[1]", fill=_ints(a=[0])),
    _back("transpose_space", "d = Transpose <perm = [0, 1, 3, 2]> (c)"),
    _back("transpose_channels", "d = Transpose <perm = [0, 2, 1, 3]> (c)", expect="BNF012"),
    _back("transpose_channels_last", "d = Transpose <perm = [0, 2, 3, 1]> (c)", expect="BNF012"),
    _back("transpose_and_back", "t = Transpose <perm = [0, 2, 3, 1]> (c)  d = Transpose <perm = [0, 3, 1, 2]> (t)"),
    _back("transpose_default", "d = Transpose (c)", expect="BNF012"),
    _back("transpose_batch", "d = Transpose <perm = [1, 0, 2, 3]> (c)", expect="BNF012"),
    CONV.but(
        "back_transpose_nhwc_map",
        "Mul:Conv",
        tensors="x[4,4,4,4]; W[4,4,1,1] k[4]",
        after="Conv Transpose",
        body="c = Conv (x, W)  d = Transpose <perm = [0, 2, 3, 1]> (c)  y = Mul (d, k)",
    ),
    CONV.but(
        "back_transpose_nhwc_map_elsewhere",
        "Mul:BNF012",
        tensors="x[4,4,4,4]; W[4,4,1,1] k[4,1,1]",
        body="c = Conv (x, W)  d = Transpose <perm = [0, 2, 3, 1]> (c)  y = Mul (d, k)",
    ),
    _back("concat", "e = Conv (x, V)  d = Concat <axis = 1> (c, e)", 7, "Conv+Conv", "V[3,4,1,1]"),
    _back("concat_negative_axis", "e = Conv (x, V)  d = Concat <axis = -3> (e, c)", 7, "Conv+Conv", "V[3,4,1,1]"),
    _back(
        "concat_of_three",
        "e = Conv (x, V)  f = Conv (x, U, b)  d = Concat <axis = 1> (c, e, f)",
        9,
        "Conv+Conv+Conv",
        "V[3,4,1,1] U[2,4,1,1] b[2]",
    ),
    _back("concat_space", "e = Conv (x, V)  d = Concat <axis = 3> (c, e)", 4, "Conv+Conv", "V[4,4,1,1]"),
    _back("concat_batch", "e = Conv (x, V)  d = Concat <axis = 0> (c, e)", 4, "Conv+Conv", "V[4,4,1,1]"),
    _back("concat_twice_the_same", "d = Concat <axis = 1> (c, c)", 8, "BNF004"),
    _back("concat_with_input", "d = Concat <axis = 1> (c, x)", 8, "BNF005"),
    _back("concat_with_activation", "e = Relu (x)  d = Concat <axis = 1> (c, e)", 8, "BNF005"),
    _back("concat_with_constant", "d = Concat <axis = 1> (k, c)", 7, "Conv", "k[4,3,4,4]"),
    _back(
        "concat_branch_read",
        "e = Conv (x, V)  d = Concat <axis = 1> (c, e)  z = Relu (e)",
        7,
        "BNF004",
        "V[3,4,1,1]",
        outputs="y z",
    ),
    _back("concat_branch_is_output", "e = Conv (x, V)  d = Concat <axis = 1> (c, e)", 7, "BNF004", "V[3,4,1,1]", outputs="y e"),
    _back("concat_shared_weight", "e = Conv (x, W)  d = Concat <axis = 1> (c, e)", 8, "Conv+Conv", notes="BNF016"),
    _back(
        "concat_of_other_kinds",
        "e = ConvTranspose (x, V)  d = Concat <axis = 1> (c, e)",
        7,
        "ConvTranspose+Conv|Conv+ConvTranspose",
        "V[4,3,1,1]",
    ),
    _back(
        "split_first",
        "d, e = Split <axis = 1> (c, s)  z = Relu (e)",
        1,
        tensors="s:int64[2]",
        fill=_ints(s=[1, 3]),
        outputs="y z",
    ),
    _back(
        "split_last", "e, d = Split <axis = 1> (c, s)  z = Relu (e)", 3, tensors="s:int64[2]", fill=_ints(s=[1, 3]), outputs="y z"
    ),
    _back("split_part_is_output", "d, z = Split <axis = 1> (c)", 2, outputs="y z"),
    _back("split_part_read_twice", "d, z = Split <axis = 1> (c)  q = Relu (d)", 2, "BNF004", outputs="y z q"),
    _back("split_opset_11", "d, z = Split <axis = 1, split = [3, 1]> (c)", 3, outputs="y z", opset=11),
    _back("split_num_outputs", "d, z = Split <axis = -3, num_outputs = 2> (c)", 2, outputs="y z", opset=18),
    _back("split_uneven", "e, d, z = Split <axis = 1, num_outputs = 3> (c)", 2, outputs="y z e", opset=18).but(
        "back_split_uneven", tensors="x[4,4,4,4]; W[5,4,1,1]", outputs="y z e"
    ),
    _back("split_batch", "d, z = Split <axis = 0> (c)", 4, "BNF005|BNF012", outputs="y z"),
    _back("split_space", "d, z = Split <axis = 2> (c)", 4, "BNF005|BNF012", outputs="y z"),
    _back("split_source_read", "d, z = Split <axis = 1> (c)  q = Relu (c)", 2, "BNF004", outputs="y z q"),
    _back("split_both_parts", "d, e = Split <axis = 1> (c)  z = BN2 (e)", 2, "Conv Conv", outputs="y z"),
    _back("split_and_concat", "e, f = Split <axis = 1> (c)  d = Concat <axis = 1> (f, e)", 4, "Conv|BNF005"),
    _back("slice", "d = Slice (c, s, t, a)", 2, tensors="s:int64[1] t:int64[1] a:int64[1]", fill=_ints(s=[1], t=[3], a=[1])),
    _back(
        "slice_negative",
        "d = Slice (c, s, t, a)",
        2,
        tensors="s:int64[1] t:int64[1] a:int64[1]",
        fill=_ints(s=[-2], t=[2**62], a=[-3]),
    ),
    _back(
        "slice_step",
        "d = Slice (c, s, t, a, p)",
        2,
        tensors="s:int64[1] t:int64[1] a:int64[1] p:int64[1]",
        fill=_ints(s=[1], t=[4], a=[1], p=[2]),
    ),
    _back(
        "slice_reversed",
        "d = Slice (c, s, t, a, p)",
        4,
        "BNF005|BNF006|BNF012|Conv",
        tensors="s:int64[1] t:int64[1] a:int64[1] p:int64[1]",
        fill=_ints(s=[3], t=[-(2**62)], a=[1], p=[-1]),
    ),
    _back(
        "slice_space", "d = Slice (c, s, t, a)", 4, tensors="s:int64[1] t:int64[1] a:int64[1]", fill=_ints(s=[0], t=[3], a=[2])
    ),
    _back("slice_opset_9", "d = Slice <starts = [1], ends = [3], axes = [1]> (c)", 2, opset=9),
    _back("slice_no_axes", "d = Slice (c, s, t)", 2, tensors="s:int64[2] t:int64[2]", fill=_ints(s=[0, 2], t=[4, 4])),
    _back(
        "slice_source_read",
        "d = Slice (c, s, t, a)  z = Relu (c)",
        2,
        "BNF004",
        outputs="y z",
        tensors="s:int64[1] t:int64[1] a:int64[1]",
        fill=_ints(s=[1], t=[3], a=[1]),
    ),
    _back(
        "slice_two",
        "d = Slice (c, s, t, a)  e = Slice (c, t, u, a)  z = BN2 (e)",
        2,
        "BNF004 BNF004",
        outputs="y z",
        tensors="s:int64[1] t:int64[1] u:int64[1] a:int64[1]",
        fill=_ints(s=[0], t=[2], u=[4], a=[1]),
    ),
    _back("slice_runtime", "d = Slice (c, s, t, a)", 2, "BNF006").but(
        "back_slice_runtime",
        tensors="x[4,4,4,4] s:int64[1]; W[4,4,1,1] t:int64[1] a:int64[1]",
        fill=_ints(s=[1], t=[3], a=[1]),
        outputs="y:float[4,2,4,4]",
    ),
)

_group(
    _back("add", "e = Conv (x, V)  d = Add (c, e)", 4, "Conv+Conv", "V[4,4,1,1]"),
    _back("sub", "e = Conv (x, V)  d = Sub (c, e)", 4, "Conv+Conv", "V[4,4,1,1]"),
    _back("sum", "e = Conv (x, V)  f = Conv (x, U)  d = Sum (c, e, f)", 4, "Conv+Conv+Conv", "V[4,4,1,1] U[4,4,1,1]"),
    _back("sum_of_one", "d = Sum (c)", 4),
    _back("sum_with_constant", "e = Conv (x, V)  d = Sum (k, c, e)", 4, "Conv+Conv", "V[4,4,1,1] k[4,1,1]"),
    _back("sum_with_scalar", "e = Conv (x, V)  d = Sum (k, c, e)", 4, "Conv+Conv|BNF012", "V[4,4,1,1] k[]"),
    _back("add_constant", "d = Add (c, k)", 4, "Add:Conv Conv", "k[4,1,1]", after="Conv"),
    _back("add_constant_on_width", "d = Add (c, k)", 4, "Conv", "k[4]", after="Add Conv"),
    _back("sub_from_constant_on_width", "d = Sub (k, c)", 4, "Conv", "k[4]", after="Conv Sub"),
    _back("sub_constant_on_space", "d = Sub (c, k)", 4, "Conv", "k[4,1]", after="Conv Sub"),
    _back("add_itself", "d = Add (c, c)", 4, "BNF004"),
    _back("add_input", "d = Add (c, x)", 4, "BNF005"),
    _back("add_diamond", "e = Relu (c)  f = LeakyRelu (c)  d = Add (e, f)", 4, "BNF004", fill=_positive(4)),
    _back("add_diamond_identity", "e = Identity (c)  f = Identity (c)  d = Add (e, f)", 4, "BNF004"),
    _back("add_branch_on_space", "e = Conv <kernel_shape = [4, 4]> (x, V)  d = Add (c, e)", 4, "Conv+Conv", "V[4,4,4,4]"),
    _back("add_branch_broadcast_on_channels", "e = Conv (x, V)  d = Add (c, e)", 4, "BNF012", "V[1,4,1,1]"),
    _back("add_branch_of_less_rank", "e = Gemm (g, V)  d = Add (c, e)", 4, "BNF012").but(
        "back_add_branch_of_less_rank", tensors="x[4,4,4,4] g[4,4]; W[4,4,1,1] V[4,4]"
    ),
    _back("add_scalar_map_of_less_rank", "e = Gemm (g, V)  d = Add (c, e)", 4).but(
        "back_add_scalar_map_of_less_rank",
        "Mul,Add:Gemm+Conv|Mul,Add:Conv+Gemm",
        tensors="x[4,4,4,4] g[4,4]; W[4,4,1,1] V[4,4] k[] h[]",
        body="c = Conv (x, W)  e = Gemm (g, V)  d = Add (c, e)  f = Mul (d, k)  y = Add (f, h)",
        after="Add Conv Gemm",
    ),
    _back("add_broadcast_map", "e = Conv (x, V)  d = Add (c, e)", 4).but(
        "back_add_broadcast_map",
        "",
        tensors="x[4,4,4,4]; W[1,4,1,1] V[1,4,1,1] k[4,1,1]",
        body="c = Conv (x, W)  e = Conv (x, V)  d = Add (c, e)  y = Mul (d, k)",
    ),
    _back("residual_of_relu", "e = Relu (x)  d = Add (c, e)", 4, "BNF005|BNF011"),
    _back("add_branch_read", "e = Conv (x, V)  d = Add (c, e)  z = Relu (e)", 4, "BNF004", "V[4,4,1,1]", outputs="y z"),
    _back(
        "add_conv_and_gemm_tokens",
        "r = Reshape (c, s)  e = MatMul (r, V)  d = Add (e, r)",
        4,
        "BNF004|BNF012",
        "V[16,16] s:int64[3]",
        fill=_ints(s=[4, 4, 16]),
    ),
    _back(
        "add_of_concats",
        "e = Conv (x, V)  f = Concat <axis = 1> (c, e)  g = Conv (x, U)  d = Add (f, g)",
        6,
        "Conv+Conv+Conv",
        "V[2,4,1,1] U[6,4,1,1]",
    ),
)

_group(
    _back("pad_zero_scale_only", "d = Pad (c, p)", tensors="p:int64[8]", fill=_ints(p=[0, 0, 1, 1, 0, 0, 1, 0]) | _positive(4)),
    _back("pad_zero_shift", "d = Pad (c, p)", expect="BNF010", tensors="p:int64[8]", fill=_ints(p=[0, 0, 1, 1, 0, 0, 1, 0])),
    _back("pad_nothing", "d = Pad (c, p)", expect="Conv|BNF010", tensors="p:int64[8]", fill=_ints(p=[0] * 8)),
    _back("pad_reflect", 'd = Pad <mode = "reflect"> (c, p)', tensors="p:int64[8]", fill=_ints(p=[0, 0, 1, 1, 0, 0, 1, 0])),
    _back("pad_edge", 'd = Pad <mode = "edge"> (c, p)', tensors="p:int64[8]", fill=_ints(p=[0, 0, 1, 1, 0, 0, 1, 0])),
    _back(
        "pad_channels",
        'd = Pad <mode = "edge"> (c, p)',
        5,
        "BNF012",
        tensors="p:int64[8]",
        fill=_ints(p=[0, 1, 0, 0, 0, 0, 0, 0]),
    ),
    _back("pad_runtime", "d = Pad (c, p)", expect="BNF006").but(
        "back_pad_runtime",
        tensors="x[4,4,4,4] p:int64[8]; W[4,4,1,1]",
        fill=_ints(p=[0, 0, 1, 1, 0, 0, 1, 0]),
        outputs="y:float[4,4,6,5]",
    ),
    _back("pad_crops", "d = Pad (c, p)", tensors="p:int64[8]", fill=_ints(p=[0, 0, -1, 0, 0, 0, 0, -1]) | _positive(4)),
    _back(
        "pad_axes",
        "d = Pad (c, p, v, a)",
        expect="Conv|BNF006",
        tensors="p:int64[2] v[] a:int64[1]",
        fill=_ints(p=[1, 0], v=0, a=[3]) | _positive(4),
        opset=18,
    ),
    _back(
        "pad_border_maps",
        "d = Pad (c, p, v)",
        tensors="p:int64[8] v[]",
        fill=_ints(p=[0, 0, 1, 1, 0, 0, 1, 0], v=0.5) | {"y_scale": 2, "y_bias": 1, "y_mean": 3, "y_var": 1},
    ),
    _back(
        "pad_opset_10",
        "d = Pad <pads = [0, 0, 1, 1, 0, 0, 0, 1]> (c)",
        opset=10,
        fill={"y_scale": 2, "y_bias": 1, "y_mean": 3, "y_var": 1},
    ),
    _back(
        "pad_opset_10_half",
        "d = Pad <pads = [0, 0, 1, 1, 0, 0, 0, 1]> (c)",
        opset=10,
        dtype="float16",
        expect="Conv|BNF005|BNF010|BNF019",
        fill={"y_scale": 2, "y_bias": 1, "y_mean": 3, "y_var": 1},
        no_runtime="onnxruntime has no such kernel",
    ),
    _back(
        "pad_opset_10_double",
        "d = Pad <pads = [0, 0, 1, 1, 0, 0, 0, 1]> (c)",
        opset=10,
        dtype="double",
        expect="Conv|BNF005|BNF010|BNF019",
        fill={"y_scale": 2, "y_bias": 1, "y_mean": 3, "y_var": 1},
        no_runtime=NO_DOUBLE,
    ),
    CONV.but(
        "back_pad_uniform_map",
        "Mul,Add:Conv",
        tensors="x[4,4,4,4]; W[4,4,1,1] p:int64[8] k[] h[]",
        fill=_ints(p=[0, 0, 1, 1, 0, 0, 1, 0]),
        body="c = Conv (x, W)  d = Pad (c, p)  e = Mul (d, k)  y = Add (e, h)",
        after="Conv Pad",
    ),
    CONV.but(
        "back_pad_uniform_map_of_all_axes",
        "Mul,Add:Conv",
        tensors="x[4,4,4,4]; W[4,4,1,1] p:int64[8] k[] h[]",
        fill=_ints(p=[0, 1, 1, 1, 0, 0, 1, 0]),
        body="c = Conv (x, W)  d = Pad (c, p)  e = Mul (d, k)  y = Add (e, h)",
        after="Conv Pad",
    ),
    _back("average_pool", "d = AveragePool <kernel_shape = [2, 2]> (c)"),
    _back("average_pool_padded", "d = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (c)"),
    _back("average_pool_ceil", "d = AveragePool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> (c)"),
    _back(
        "average_pool_counts",
        "d = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (c)",
        expect="BNF010",
    ),
    _back(
        "average_pool_counts_same",
        'd = AveragePool <kernel_shape = [3, 3], auto_pad = "SAME_UPPER", count_include_pad = 1> (c)',
        expect="BNF010",
    ),
    _back(
        "average_pool_counts_scale",
        "d = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (c)",
        fill=_positive(4),
    ),
    _back("average_pool_counts_nothing", "d = AveragePool <kernel_shape = [3, 3], count_include_pad = 1> (c)"),
    _back("global_average_pool", "d = GlobalAveragePool (c)"),
    _back("global_max_pool_positive", "d = GlobalMaxPool (c)", fill={"y_scale": 2}),
    _back("global_max_pool", "d = GlobalMaxPool (c)", expect="BNF011"),
    _back("reduce_mean", "d = ReduceMean <axes = [2, 3], keepdims = 0> (c)"),
    _back("reduce_mean_kept", "d = ReduceMean <axes = [-1], keepdims = 1> (c)"),
    _back("reduce_mean_opset_18", "d = ReduceMean <keepdims = 0> (c, a)", tensors="a:int64[2]", fill=_ints(a=[-1, 2]), opset=18),
    _back("reduce_mean_noop", "d = ReduceMean <noop_with_empty_axes = 1> (c)", opset=18),
    _back("reduce_mean_of_channels", "d = ReduceMean <axes = [1], keepdims = 0> (c)", expect="BNF012"),
    _back("reduce_mean_of_batch", "d = ReduceMean <axes = [0], keepdims = 0> (c)", expect="BNF012"),
    _back("reduce_mean_of_batch_kept", "d = ReduceMean <axes = [0]> (c)"),
    _back("max_pool_positive", "d = MaxPool <kernel_shape = [2, 2]> (c)", fill={"y_scale": 2}),
    _back("max_pool_padded", "d = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (c)", fill={"y_scale": 2}),
    _back("max_pool_ceil", "d = MaxPool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> (c)", fill={"y_scale": 2}),
    _back("max_pool_zero", "d = MaxPool <kernel_shape = [2, 2]> (c)", expect="Conv|BNF011", fill={"y_scale": [1, 0, 2, 3]}),
    _back("max_pool_negative", "d = MaxPool <kernel_shape = [2, 2]> (c)", expect="BNF011", fill={"y_scale": [1, 1, -1, 1]}),
    _back("max_pool_indices", "d, z = MaxPool <kernel_shape = [2, 2]> (c)", fill={"y_scale": 2}, outputs="y z"),
    _back(
        "max_pool_indices_zero",
        "d, z = MaxPool <kernel_shape = [2, 2]> (c)",
        expect="BNF011",
        fill={"y_scale": [1, 0, 2, 3]},
        outputs="y z",
    ),
    _back("relu_scale", "d = Relu (c)", fill=_positive(4)),
    _back("relu_zero_scale", "d = Relu (c)", expect="Conv|BNF011", fill=_positive(4) | {"y_scale": [1, 0, 2, 3]}),
    _back("relu_negative", "d = Relu (c)", expect="BNF011", fill=_positive(4) | {"y_scale": [1, 1, -2, 3]}),
    _back("relu_shift", "d = Relu (c)", expect="BNF005", fill={"y_scale": 2}),
    _back("leaky_relu", "d = LeakyRelu <alpha = 0.3> (c)", fill=_positive(4)),
    _back("leaky_relu_negative", "d = LeakyRelu (c)", expect="BNF011", fill=_positive(4) | {"y_scale": [1, 1, -2, 3]}),
    _back("prelu", "d = PRelu (c, k)", tensors="k[4,1,1]", fill=_positive(4)),
    _back("prelu_runtime", "d = PRelu (c, k)", fill=_positive(4)).but(
        "back_prelu_runtime", tensors="x[4,4,4,4] k[4,1,1]; W[4,4,1,1]"
    ),
    _back("prelu_shift", "d = PRelu (c, k)", tensors="k[4,1,1]", expect="BNF005"),
    _back("sigmoid", "d = Sigmoid (c)", expect="BNF005", fill=_positive(4)),
    _back("resize_nearest", 'd = Resize (c, "", s)', tensors="s[4]", fill={"s": [1, 1, 2, 2]}),
    _back("resize_linear", 'd = Resize <mode = "linear"> (c, "", s)', tensors="s[4]", fill={"s": [1, 1, 2, 1.5]}),
    _back("resize_sizes", 'd = Resize <mode = "linear"> (c, "", "", s)', tensors="s:int64[4]", fill=_ints(s=[4, 4, 7, 6])),
    _back("resize_channels", 'd = Resize (c, "", s)', 8, "BNF012|BNF018", "s[4]", fill={"s": [1, 2, 1, 1]}),
    _back(
        "resize_channels_keeping_extent",
        'd = Resize <coordinate_transformation_mode = "asymmetric", nearest_mode = "ceil"> (c, "", s)',
        4,
        "BNF012|BNF018",
        "s[4]",
        fill={"s": [1, 1.2, 1, 1]},
    ),
    _back("resize_cubic", 'd = Resize <mode = "cubic"> (c, "", s)', expect="BNF005", tensors="s[4]", fill={"s": [1, 1, 2, 2]}),
    _back(
        "resize_crop",
        'd = Resize <mode = "linear", coordinate_transformation_mode = "tf_crop_and_resize", extrapolation_value = 2.0>'
        " (c, r, s)",
        expect="BNF010|BNF005",
        tensors="r[8] s[4]",
        fill={"r": [0, 0, -0.5, 0, 1, 1, 1, 1.5], "s": [1, 1, 2, 2]},
    ),
    _back("resize_axes", 'd = Resize <axes = [2, 3]> (c, "", s)', tensors="s[2]", fill={"s": [2, 2]}, opset=18),
    _back("resize_axes_negative", 'd = Resize <axes = [-2, -1]> (c, "", s)', tensors="s[2]", fill={"s": [2, 2]}, opset=18),
    _back(
        "resize_axes_negative_channels",
        'd = Resize <axes = [-3, -2], mode = "linear"> (c, "", s)',
        4,
        "BNF012|BNF018",
        "s[2]",
        fill={"s": [1.2, 2]},
        opset=18,
    ),
    _back(
        "resize_axes_channels",
        'd = Resize <axes = [1, 2], mode = "linear"> (c, "", s)',
        4,
        "BNF012|BNF018",
        "s[2]",
        fill={"s": [1.2, 2]},
        opset=18,
    ),
    _back("resize_runtime", 'd = Resize (c, "", s)', expect="Conv|BNF006|BNF018").but(
        "back_resize_runtime", tensors="x[4,4,4,4] s[4]; W[4,4,1,1]", fill={"s": [1, 1, 2, 2]}, outputs="y:float[4,4,8,8]"
    ),
    _back("resize_opset_10", "d = Resize (c, s)", tensors="s[4]", fill={"s": [1, 1, 2, 2]}, opset=10),
    _back("upsample_opset_9", 'd = Upsample <mode = "linear"> (c, s)', tensors="s[4]", fill={"s": [1, 1, 2, 2]}, opset=9),
    _back("upsample_opset_8", "d = Upsample <scales = [1.0, 1.0, 2.0, 2.0]> (c)", opset=8),
    _back("upsample_channels", "d = Upsample <scales = [1.0, 2.0, 1.0, 1.0]> (c)", 8, "BNF012|BNF018", opset=8),
    _back("depth_to_space", "d = DepthToSpace <blocksize = 2> (c)", 2).but(
        "back_depth_to_space", tensors="x[2,4,3,3]; W[8,4,1,1]"
    ),
    _back("depth_to_space_crd", 'd = DepthToSpace <blocksize = 2, mode = "CRD"> (c)', 2).but(
        "back_depth_to_space_crd", tensors="x[2,4,3,3]; W[8,4,1,1]"
    ),
    _back("space_to_depth", "d = SpaceToDepth <blocksize = 2> (c)", 16, "BNF005|BNF012"),
    _back("dropout", "d = Dropout (c)"),
    _back(
        "cast_up",
        "d = Cast <to = 11> (c)",
        dtype="float",
        tensors="y_scale:double[4] y_bias:double[4] y_mean:double[4] y_var:double[4]",
        expect="Conv|BNF019",
    ),
    _back("cast_down", "d = Cast <to = 10> (c)", dtype="float16", expect="Conv|BNF019").but(
        "back_cast_down", tensors="x:float[4,4,4,4]; W:float[4,4,1,1]"
    ),
    _back(
        "cast_up_from_half",
        "d = Cast <to = 1> (c)",
        dtype="float16",
        tensors="y_scale:float[4] y_bias:float[4] y_mean:float[4] y_var:float[4]",
        expect="BNF019",
    ),
    _back("cast_to_int", "e = Cast <to = 6> (c)  d = Cast <to = 1> (e)", expect="BNF005|BNF019"),
    _back(
        "chain_of_carriers",
        "e = AveragePool <kernel_shape = [2, 2]> (c)  f = Transpose <perm = [0, 2, 3, 1]> (e)"
        "  g = Reshape (f, s)  d = Transpose <perm = [0, 2, 1]> (g)",
        tensors="s:int64[3]",
        fill=_ints(s=[4, 9, 4]),
    ),
    _back("unknown_rank", "d = Transpose (c)", expect="BNF018|BNF012").but(
        "back_unknown_rank", tensors="x[?]; W[4,4,1,1]", fill={"x": np.ones((4, 4, 4, 4))}, outputs="y:float[4,4,4,4]"
    ),
)

# -- MatMul, whose offset stays behind ------------------------------------------------------------------------------------

_OFFSET = Case("offset", "x[3,4]; W[4,5]", "c = MatMul (x, W)  y = BN5 (c)", "MatMul")
_group(
    _OFFSET.but(
        "offset_concat_matmul_gemm",
        "Gemm+MatMul|MatMul+Gemm|BNF005|BNF012|BNF020",
        tensors="x[3,4]; W[4,5] V[4,2] k[2]",
        after="ANY",
        body="a = MatMul (x, W)  b = Gemm (x, V, k)  c = Concat <axis = 1> (a, b)  y = BN7 (c)",
    ),
    _OFFSET.but(
        "offset_concat_matmul_biased",
        "MatMul+MatMul|BNF005|BNF012|BNF020",
        tensors="x[3,4]; W[4,5] V[4,2] k[2]",
        after="ANY",
        body="a = MatMul (x, W)  m = MatMul (x, V)  b = Add (m, k)  c = Concat <axis = 1> (a, b)  y = BN7 (c)",
    ),
    _OFFSET.but(
        "offset_concat_matmul_constant",
        "MatMul|BNF005|BNF012|BNF020",
        tensors="x[3,4]; W[4,5] k[3,2]",
        after="ANY",
        body="a = MatMul (x, W)  c = Concat <axis = 1> (k, a)  y = BN7 (c)",
    ),
    _OFFSET.but(
        "offset_concat_of_matmuls",
        "MatMul+MatMul",
        tensors="x[3,4]; W[4,5] V[4,2]",
        after="Add Concat MatMul MatMul",
        body="a = MatMul (x, W)  b = MatMul (x, V)  c = Concat <axis = 1> (a, b)  y = BN7 (c)",
    ),
    _OFFSET.but(
        "offset_concat_rows",
        "Gemm+MatMul|MatMul+Gemm|BNF005|BNF012|BNF020",
        tensors="x[3,4]; W[4,5] V[4,5] k[5]",
        after="ANY",
        body="a = MatMul (x, W)  b = Gemm (x, V, k)  c = Concat <axis = 0> (a, b)  y = BN5 (c)",
    ),
    _OFFSET.but(
        "offset_sum_with_gemm",
        "Gemm+MatMul|MatMul+Gemm",
        tensors="x[3,4]; W[4,5] V[4,5] k[5]",
        after="ANY",
        body="a = MatMul (x, W)  b = Gemm (x, V, k)  c = Add (a, b)  y = BN5 (c)",
    ),
    _OFFSET.but(
        "offset_sum_gemm_first",
        "Gemm+MatMul|MatMul+Gemm",
        tensors="x[3,4]; W[4,5] V[4,5] k[5]",
        after="Add Gemm MatMul",
        body="a = MatMul (x, W)  b = Gemm (x, V, k)  c = Add (b, a)  y = BN5 (c)",
    ),
    _OFFSET.but(
        "offset_pad",
        "Mul,Add:MatMul|Mul,Add:BNF010|Mul,Add:BNF020",
        tensors="x[2,3,4]; W[4,5] p:int64[6] s[] t[5]",
        fill=_ints(p=[0, 1, 0, 0, 1, 0], s=2, t=3),
        after="ANY",
        body="a = MatMul (x, W)  c = Pad (a, p)  d = Mul (c, s)  y = Add (d, t)",
    ),
    _OFFSET.but(
        "offset_slice",
        "MatMul",
        tensors="x[3,4]; W[4,5] b:int64[1] e:int64[1] o:int64[1]",
        fill=_ints(b=[1], e=[4], o=[1]),
        after="Add MatMul Slice",
        body="a = MatMul (x, W)  c = Slice (a, b, e, o)  y = BN3 (c)",
    ),
    _OFFSET.but(
        "offset_cast_down",
        "MatMul|BNF019",
        tensors="x:float[3,4]; W:float[4,5]",
        after="ANY",
        dtype="float16",
        body="a = MatMul (x, W)  c = Cast <to = 10> (a)  y = BN5 (c)",
    ),
    _OFFSET.but(
        "offset_cast_double_to_float",
        "Mul,Add:MatMul|Mul,Add:BNF019",
        tensors="x:double[3,4]; W:double[4,5] k[5] h[5]",
        after="ANY",
        body="a = MatMul (x, W)  c = Cast <to = 1> (a)  d = Mul (c, k)  y = Add (d, h)",
    ),
    _OFFSET.but("offset_relu", "BNF005", body="a = MatMul (x, W)  c = Relu (a)  y = BN5 (c)"),
    _OFFSET.but(
        "offset_relu_scale", "MatMul", body="a = MatMul (x, W)  c = Relu (a)  y = BN5 (c)", fill=_positive(5), after="MatMul Relu"
    ),
    _OFFSET.but(
        "levit_tokens",
        "MatMul",
        tensors="x[2,9,4]; W[4,5] s:int64[2] t:int64[3]",
        fill=_ints(s=[18, 5], t=[2, 9, 5]),
        after="Add MatMul Reshape Reshape",
        body="m = MatMul (x, W)  f = Reshape (m, s)  n = BN5 (f)  y = Reshape (n, t)",
    ),
    _OFFSET.but(
        "levit_tokens_dynamic",
        "MatMul",
        tensors="x[N,9,4]; W[4,5] s:int64[2] t:int64[3]",
        fill=_ints(s=[-1, 5], t=[-1, 9, 5]),
        after="Add MatMul Reshape Reshape",
        body="m = MatMul (x, W)  f = Reshape (m, s)  n = BN5 (f)  y = Reshape (n, t)",
    ),
    _OFFSET.but(
        "levit_tokens_transposed",
        "MatMul",
        tensors="x[4,4,4]; W[4,4]",
        after="Add MatMul Transpose Transpose",
        body="m = MatMul (x, W)  f = Transpose <perm = [0, 2, 1]> (m)  n = BN4 (f)  y = Transpose <perm = [0, 2, 1]> (n)",
    ),
    _OFFSET.but("levit_tokens_untransposed", "BNF012", tensors="x[4,4,4]; W[4,4]", body="m = MatMul (x, W)  y = BN4 (m)"),
    _OFFSET.but(
        "levit_tokens_wrong_transpose",
        "BNF012",
        tensors="x[4,4,4]; W[4,4]",
        body="m = MatMul (x, W)  f = Transpose <perm = [2, 0, 1]> (m)  n = BN4 (f)  y = Transpose <perm = [1, 2, 0]> (n)",
    ),
    _OFFSET.but(
        "levit_tokens_left", "MatMul", tensors="x[4,4,4]; W[4,4]", body="m = MatMul (W, x)  y = BN4 (m)", after="Add MatMul"
    ),
    _OFFSET.but(
        "levit_reshape_mixes",
        "BNF012|BNF014",
        tensors="x[2,6,4]; W[4,4] s:int64[2]",
        fill=_ints(s=[8, 6]),
        body="m = MatMul (x, W)  f = Reshape (m, s)  y = BN6 (f)",
    ),
)

# -- forward --------------------------------------------------------------------------------------------------------------


def _fore(name: str, between: str, expect: str = "Conv", tensors: str = "", **changes: Any) -> Case:
    """Normalization, something that reads `n` and makes `d`, Conv. All extents are 4."""
    told: dict[str, Any] = {"tensors": f"x[4,4,4,4]; W[4,4,1,1] {tensors}", "body": f"n = BN4 (x)  {between}  y = Conv (d, W)"}
    return CONV.but(f"fore_{name}", expect, **(told | changes))


def _into(name: str, tensors: str, body: str, expect: str, **changes: Any) -> Case:
    return CONV.but(f"fore_{name}", expect, tensors=tensors, body=body, **changes)


_CENTERED = {"n_bias": 0, "n_mean": 0}
_group(
    _into("conv", "x[2,4,5,5]; W[3,4,2,2]", "n = BN4 (x)  y = Conv (n, W)", "Conv"),
    _into("conv_bias", "x[2,4,5,5]; W[3,4,2,2] b[3]", "n = BN4 (x)  y = Conv (n, W, b)", "Conv"),
    _into(
        "conv_bias_runtime", "x[2,4,5,5] b[3]; W[3,4,2,2]", "n = BN4 (x)  y = Conv (n, W, b)", "Conv|BNF006|BNF020", after="ANY"
    ),
    _into("conv_1d", "x[2,4,6]; W[3,4,3]", "n = BN4 (x)  y = Conv (n, W)", "Conv"),
    _into("conv_square", "x[4,4,4,4]; W[4,4,4,4]", "n = BN4 (x)  y = Conv (n, W)", "Conv"),
    _into("conv_grouped", "x[2,4,5,5]; W[6,2,2,2]", "n = BN4 (x)  y = Conv <group = 2> (n, W)", "Conv"),
    _into("conv_depthwise", "x[2,4,5,5]; W[4,1,2,2] b[4]", "n = BN4 (x)  y = Conv <group = 4> (n, W, b)", "Conv"),
    _into("conv_depthwise_multiplier", "x[2,4,5,5]; W[8,1,2,2]", "n = BN4 (x)  y = Conv <group = 4> (n, W)", "Conv"),
    _into(
        "conv_strided", "x[2,4,5,5]; W[3,4,2,2]", "n = BN4 (x)  y = Conv <strides = [2, 2], dilations = [2, 1]> (n, W)", "Conv"
    ),
    _into("conv_valid", "x[2,4,5,5]; W[3,4,2,2]", 'n = BN4 (x)  y = Conv <auto_pad = "VALID"> (n, W)', "Conv"),
    _into("conv_same_1x1", "x[2,4,5,5]; W[3,4,1,1]", 'n = BN4 (x)  y = Conv <auto_pad = "SAME_UPPER"> (n, W)', "Conv"),
    _into(
        "conv_same_1x1_strided",
        "x[2,4,5,5]; W[3,4,1,1]",
        'n = BN4 (x)  y = Conv <auto_pad = "SAME_LOWER", strides = [3, 3]> (n, W)',
        "Conv|BNF010",
    ),
    _into("conv_same", "x[2,4,5,5]; W[3,4,3,3]", 'n = BN4 (x)  y = Conv <auto_pad = "SAME_UPPER"> (n, W)', "BNF010"),
    _into("conv_padded", "x[2,4,5,5]; W[3,4,3,3]", "n = BN4 (x)  y = Conv <pads = [0, 0, 0, 1]> (n, W)", "BNF010"),
    _into("conv_padded_1x1", "x[2,4,5,5]; W[3,4,1,1]", "n = BN4 (x)  y = Conv <pads = [1, 1, 1, 1]> (n, W)", "BNF010"),
    _into(
        "conv_padded_scale",
        "x[2,4,5,5]; W[3,4,3,3]",
        "n = BN4 (x)  y = Conv <pads = [1, 1, 1, 1]> (n, W)",
        "Conv",
        fill=_CENTERED,
    ),
    _into(
        "conv_padded_cancels",
        "x[2,4,5,5]; W[3,4,3,3]",
        "n = BN4 (x)  y = Conv <pads = [1, 1, 1, 1]> (n, W)",
        "Conv",
        fill={"n_scale": 2, "n_mean": 3, "n_bias": 6, "n_var": np.float32(1) - np.float32(0), "eps": 0},
    ).but(
        "fore_conv_padded_cancels",
        body="n = BN4 <epsilon = 0.0> (x)  y = Conv <pads = [1, 1, 1, 1]> (n, W)",
        tensors="x[2,4,5,5]; W[3,4,3,3]",
    ),
    _into("conv_runtime_weight", "x[2,4,5,5] W[3,4,2,2];", "n = BN4 (x)  y = Conv (n, W)", "BNF006"),
    _into(
        "conv_weight_shared",
        "x[2,4,5,5]; W[3,4,2,2]",
        "n = BN4 (x)  y = Conv (n, W)  z = Conv (x, W)",
        "Conv",
        outputs="y z",
        notes="BNF016",
    ),
    _into("conv_overridable", "x[2,4,5,5]; W[3,4,2,2]", "n = BN4 (x)  y = Conv (n, W)", "BNF006", overridable=("W",)),
    _into("makes_the_weight", "x[2,4,5,5] v[4,4,2,2];", "n = BN4 (v)  y = Conv (x, n)", "BNF006"),
    _into(
        "conv_transpose",
        "x[2,4,5,5]; W[4,3,2,2] b[3]",
        "n = BN4 (x)  y = ConvTranspose (n, W, b)",
        "ConvTranspose",
        fill=_CENTERED,
    ),
    _into(
        "conv_transpose_grouped",
        "x[2,4,5,5]; W[4,3,2,2]",
        "n = BN4 (x)  y = ConvTranspose <group = 2> (n, W)",
        "ConvTranspose",
        fill=_CENTERED,
    ),
    _into("conv_transpose_shift", "x[2,4,5,5]; W[4,3,2,2]", "n = BN4 (x)  y = ConvTranspose (n, W)", "BNF010"),
    _into("conv_transpose_1x1", "x[2,4,5,5]; W[4,3,1,1]", "n = BN4 (x)  y = ConvTranspose (n, W)", "ConvTranspose|BNF010"),
    _into("gemm", "x[5,4]; W[4,3]", "n = BN4 (x)  y = Gemm (n, W)", "Gemm"),
    _into("gemm_blend", "x[5,4]; W[4,3] k[3]", "n = BN4 (x)  y = Gemm <alpha = -0.5, beta = 3.0> (n, W, k)", "Gemm"),
    _into("gemm_beta_zero", "x[5,4]; W[4,3] k[3]", "n = BN4 (x)  y = Gemm <beta = 0.0> (n, W, k)", "Gemm"),
    _into("gemm_alpha_zero", "x[5,4]; W[4,3] k[3]", "n = BN4 (x)  y = Gemm <alpha = 0.0> (n, W, k)", "Gemm"),
    _into("gemm_trans_b", "x[5,4]; W[3,4] k[5,1]", "n = BN4 (x)  y = Gemm <transB = 1, alpha = 2.0> (n, W, k)", "Gemm"),
    _into("gemm_matrix_addend", "x[5,4]; W[4,3] k[5,3]", "n = BN4 (x)  y = Gemm (n, W, k)", "Gemm"),
    _into("gemm_runtime_addend", "x[5,4] k[5,3]; W[4,3]", "n = BN4 (x)  y = Gemm (n, W, k)", "BNF006|BNF020"),
    _into("gemm_trans_a", "x[4,4]; W[4,4]", "n = BN4 (x)  y = Gemm <transA = 1> (n, W)", "BNF012"),
    _into("gemm_trans_a_rows", "x[4,4]; W[4,4] k[4,1]", "n = Mul (x, k)  y = Gemm <transA = 1> (n, W)", "Mul:Gemm", after="Gemm"),
    _into("gemm_right_operand", "x[4,4]; W[4,4]", "n = BN4 (x)  y = Gemm (W, n)", "BNF006|BNF012"),
    _into(
        "gemm_right_operand_rows", "x[4,4]; W[4,4] k[4,1]", "n = Mul (x, k)  y = Gemm (W, n)", "Mul:BNF006|Mul:BNF012|Mul:BNF005"
    ),
    _into("gemm_addend", "x[5,4] a[5,3]; W[3,4]", "n = BN4 (x)  y = Gemm (a, W, n)", "BNF006|BNF012"),
    _into("gemm_both", "x[4,4];", "n = BN4 (x)  y = Gemm (n, n)", "BNF005|BNF006"),
    _into("gemm_operand_and_addend", "x[4,4]; W[4,4]", "n = BN4 (x)  y = Gemm (n, W, n)", "BNF005|BNF006"),
    _into("matmul", "x[5,4]; W[4,4]", "n = BN4 (x)  y = MatMul (n, W)", "MatMul", after="Add MatMul"),
    _into("matmul_scale", "x[5,4]; W[4,6]", "n = BN4 (x)  y = MatMul (n, W)", "MatMul", fill=_CENTERED),
    _into("matmul_wide", "x[5,4]; W[4,6]", "n = BN4 (x)  y = MatMul (n, W)", "BNF020"),
    _into("matmul_add", "x[5,4]; W[4,6] k[6]", "n = BN4 (x)  m = MatMul (n, W)  y = Add (k, m)", "MatMul", after="Add MatMul"),
    _into(
        "matmul_add_scalar", "x[5,4]; W[4,4] k[]", "n = BN4 (x)  m = MatMul (n, W)  y = Add (m, k)", "MatMul", after="Add MatMul"
    ),
    _into(
        "matmul_add_read",
        "x[5,4]; W[4,4] k[4]",
        "n = BN4 (x)  m = MatMul (n, W)  y = Add (m, k)  z = Relu (m)",
        "MatMul",
        outputs="y z",
        after="Add Add MatMul Relu",
    ),
    _into("matmul_left", "x[2,4,4]; W[3,4]", "n = BN4 (x)  y = MatMul (W, n)", "MatMul", after="Add MatMul"),
    _into("matmul_left_wide", "x[2,4,4]; W[8,4]", "n = BN4 (x)  y = MatMul (W, n)", "BNF020"),
    _into("matmul_left_last_axis", "x[4,4]; W[4,4]", "n = BN4 (x)  y = MatMul (W, n)", "BNF012"),
    _into("matmul_right_of_three", "x[4,4,4]; W[4,4]", "n = BN4 (x)  y = MatMul (n, W)", "BNF012"),
    _into("matmul_map_on_last", "x[4,4,4]; W[4,4] k[4]", "n = Mul (x, k)  y = MatMul (n, W)", "Mul:MatMul", after="MatMul"),
    _into(
        "matmul_batched_weight",
        "x[2,4,4]; W[2,4,4] k[4] h[4]",
        "d = Mul (x, k)  n = Add (d, h)  y = MatMul (n, W)",
        "Mul,Add:MatMul",
        after="Add MatMul",
    ),
    _into("matmul_chain", "x[5,4]; W[4,4] V[4,4]", "n = BN4 (x)  m = MatMul (n, W)  y = MatMul (m, V)", "MatMul", after="ANY"),
    _into("matmul_then_gemm", "x[5,4]; W[4,4] V[4,4]", "n = BN4 (x)  m = MatMul (n, W)  y = Gemm (m, V)", "MatMul", after="ANY"),
    _into("matmul_then_bn", "x[5,4]; W[4,4]", "n = BN4 (x)  m = MatMul (n, W)  y = BN4 (m)", "MatMul MatMul", after="Add MatMul"),
    _into(
        "matmul_then_cast",
        "x:double[5,4]; W:double[4,4] k:double[4] h[4]",
        "n = Add (x, k)  m = MatMul (n, W)  c = Cast <to = 1> (m)  y = Add (c, h)",
        "",
        after="ANY",
    ),
    _into(
        "input_normalization",
        "x[N,3,6,6]; m[1,3,1,1] s_var[1,3,1,1] W[8,3,3,3] b[8]",
        "d = Sub (x, m)  n = Div (d, s_var)  y = Conv <strides = [2, 2]> (n, W, b)",
        "Sub,Div:Conv",
        after="Conv",
    ),
    _into(
        "input_normalization_padded",
        "x[N,3,6,6]; m[1,3,1,1] s_var[1,3,1,1] W[8,3,3,3] b[8]",
        "d = Sub (x, m)  n = Div (d, s_var)  y = Conv <pads = [1, 1, 1, 1]> (n, W, b)",
        "Sub,Div:BNF010",
    ),
    _into(
        "input_rescaling",
        "x[N,3,6,6]; k[] W[8,3,3,3]",
        "n = Mul (x, k)  y = Conv <pads = [1, 1, 1, 1]> (n, W)",
        "Mul:Conv",
        after="Conv",
    ),
    _into("data_broadcast_up", "x[2,1,5,5]; k[4,1,1] W[3,4,1,1]", "n = Mul (x, k)  y = Conv (n, W)", ""),
    _into("map_on_width", "x[4,4,4,4]; k[4] W[4,4,1,1]", "n = Mul (x, k)  y = Conv (n, W)", "Mul:BNF012"),
    _into("constant_minus_x", "x[4,4,4,4]; k[4,1,1] W[4,4,2,2]", "n = Sub (k, x)  y = Conv (n, W)", "Sub:Conv", after="Conv"),
)

_group(
    _into(
        "two_readers",
        "x[2,4,5,5]; W[3,4,2,2] V[5,4,1,1]",
        "n = BN4 (x)  y = Conv (n, W)  z = Conv (n, V)",
        "Conv+Conv",
        outputs="y z",
    ),
    _into(
        "two_readers_shared_weight",
        "x[2,4,5,5]; W[3,4,2,2]",
        "n = BN4 (x)  y = Conv (n, W)  z = Conv <strides = [2, 2]> (n, W)",
        "Conv+Conv",
        outputs="y z",
    ),
    _into(
        "two_readers_one_padded",
        "x[2,4,5,5]; W[3,4,3,3] V[5,4,1,1]",
        "n = BN4 (x)  y = Conv <pads = [1, 1, 1, 1]> (n, W)  z = Conv (n, V)",
        "BNF010",
        outputs="y z",
    ),
    _into(
        "two_readers_one_not_linear",
        "x[2,4,5,5]; W[3,4,2,2]",
        "n = BN4 (x)  y = Conv (n, W)  z = Sigmoid (n)",
        "BNF005",
        outputs="y z",
    ),
    _into("is_output", "x[2,4,5,5]; W[3,4,2,2]", "n = BN4 (x)  y = Conv (n, W)", "BNF004|BNF005", outputs="y n"),
    _into(
        "diamond",
        "x[2,4,5,5]; W[4,4,1,1] V[4,4,1,1]",
        "n = BN4 (x)  a = Conv (n, W)  b = Conv (n, V)  y = Add (a, b)",
        "Conv+Conv",
    ),
    _into(
        "diamond_concat",
        "x[2,4,5,5]; W[4,4,1,1] V[3,4,1,1]",
        "n = BN4 (x)  a = Conv (n, W)  b = Conv (n, V)  y = Concat <axis = 1> (a, b)",
        "Conv+Conv",
    ),
    _into(
        "diamond_carriers",
        "x[2,4,4,4]; W[4,8,1,1]",
        "n = BN4 (x)  a = Identity (n)  b = Transpose <perm = [0, 1, 3, 2]> (n)  c = Concat <axis = 1> (a, b)  y = Conv (c, W)",
        "Conv|BNF005",
    ),
    _into(
        "concat_twice_the_same",
        "x[2,4,4,4]; W[4,8,1,1]",
        "n = BN4 (x)  c = Concat <axis = 1> (n, n)  y = Conv (c, W)",
        "Conv|BNF005",
    ),
    _into("residual", "x[2,4,5,5]; W[4,4,1,1]", "n = BN4 (x)  a = Conv (n, W)  y = Add (a, n)", "BNF005"),
    _into(
        "captured",
        "x[2,4,5,5] flag:bool[]; W[3,4,2,2]",
        "n = BN4 (x)"
        "  y = If (flag) <then_branch = t () => (float[2,3,4,4] p) { p = Conv (n, W) }, else_branch = e () =>"
        " (float[2,3,4,4] q) { q = Conv (x, W) }>",
        "BNF004|BNF005",
    ),
    _into(
        "captured_beside",
        "x[2,4,5,5] flag:bool[]; W[3,4,2,2]",
        "n = BN4 (x)  z = Conv (n, W)"
        "  y = If (flag) <then_branch = t () => (float[2,4,5,5] p) { p = Relu (n) }, else_branch = e () =>"
        " (float[2,4,5,5] q) { q = Relu (x) }>",
        "BNF004|BNF005",
        outputs="y z",
    ),
    _into(
        "in_branch",
        "x[2,4,5,5] flag:bool[]; W[3,4,2,2]",
        "y = If (flag) <then_branch = t () => (float[2,3,4,4] p) { n = BN4 (x)"
        "  p = Conv (n, W) }, else_branch = e () => (float[2,3,4,4] q) { q = Conv (x, W) }>",
        "Conv",
        notes="BNF016",
    ),
    _into("both_sides", "x[2,4,5,5]; W[4,4,1,1] V[3,4,2,2]", "c = Conv (x, W)  n = BN4 (c)  y = Conv (n, V)", "Conv"),
    _into(
        "after_relu", "x[2,4,5,5]; W[4,4,1,1] V[3,4,2,2]", "c = Conv (x, W)  r = Relu (c)  n = BN4 (r)  y = Conv (n, V)", "Conv"
    ),
    _into(
        "before_relu", "x[2,4,5,5]; W[4,4,1,1] V[3,4,2,2]", "c = Conv (x, W)  n = BN4 (c)  r = Relu (n)  y = Conv (r, V)", "Conv"
    ),
    _into(
        "pool_before_relu",
        "x[2,4,5,5]; W[4,4,1,1]",
        "c = Conv (x, W)  p = AveragePool <kernel_shape = [2, 2]> (c)  n = BN4 (p)  y = Relu (n)",
        "Conv",
    ),
    _into("pre_activation", "x[2,4,5,5]; W[4,4,1,1]", "n = BN4 (x)  r = Relu (n)  y = Conv (r, W)", "BNF005"),
    _into(
        "pre_activation_scale",
        "x[2,4,5,5]; W[4,4,1,1]",
        "n = BN4 (x)  r = Relu (n)  y = Conv (r, W)",
        "Conv",
        fill=_positive(4, names="n"),
    ),
    _into(
        "pre_activation_negative",
        "x[2,4,5,5]; W[4,4,1,1]",
        "n = BN4 (x)  r = Relu (n)  y = Conv (r, W)",
        "BNF011",
        fill=_positive(4, names="n") | {"n_scale": -1},
    ),
    _fore("flatten_space", "f = Flatten (n)", "Gemm").but(
        "fore_flatten_space", "Gemm", tensors="x[4,4,4,4]; W[64,3]", body="n = BN4 (x)  f = Flatten (n)  y = Gemm (f, W)"
    ),
    _fore("reshape_space", "").but(
        "fore_reshape_space",
        "Gemm",
        tensors="x[N,4,4,4]; W[3,64] s:int64[2]",
        fill=_ints(s=[-1, 64]),
        body="n = BN4 (x)  f = Reshape (n, s)  y = Gemm <transB = 1> (f, W)",
    ),
    _fore("global_pool", "").but(
        "fore_global_pool",
        "Gemm",
        tensors="x[N,4,4,4]; W[4,3]",
        body="n = BN4 (x)  p = GlobalAveragePool (n)  f = Flatten (p)  y = Gemm (f, W)",
    ),
    _fore("flatten_wrong_axis", "").but(
        "fore_flatten_wrong_axis",
        "BNF012",
        tensors="x[4,4,4,4]; W[16,3]",
        body="n = BN4 (x)  f = Flatten <axis = 2> (n)  y = Gemm (f, W)",
    ),
    _fore("per_activation", "", no_runtime=NO_SPATIAL).but(
        "fore_per_activation",
        "Gemm",
        tensors="x[2,3,2,2]; n_scale[3,2,2] n_bias[3,2,2] n_mean[3,2,2] n_var[3,2,2] W[12,3] k[3]",
        opset=8,
        body="n = BatchNormalization <spatial = 0> (x, n_scale, n_bias, n_mean, n_var)  f = Flatten (n)  y = Gemm (f, W, k)",
    ),
    _fore("per_activation_conv", "", no_runtime=NO_SPATIAL).but(
        "fore_per_activation_conv",
        "BNF014",
        tensors="x[2,3,2,2]; n_scale[3,2,2] n_bias[3,2,2] n_mean[3,2,2] n_var[3,2,2] W[4,3,1,1]",
        opset=8,
        body="n = BatchNormalization <spatial = 0> (x, n_scale, n_bias, n_mean, n_var)  y = Conv (n, W)",
    ),
    _fore("transpose", "d = Transpose <perm = [0, 1, 3, 2]> (n)"),
    _fore("transpose_channels", "d = Transpose <perm = [0, 2, 1, 3]> (n)", "BNF012"),
    _fore("transpose_tokens", "").but(
        "fore_transpose_tokens",
        "MatMul",
        tensors="x[4,4,4]; W[4,4]",
        body="n = BN4 (x)  d = Transpose <perm = [0, 2, 1]> (n)  y = MatMul (d, W)",
        after="Add MatMul Transpose",
    ),
    _fore("squeeze", "").but(
        "fore_squeeze",
        "Gemm",
        tensors="x[4,4,1]; W[4,3] a:int64[1]",
        fill=_ints(a=[2]),
        body="n = BN4 (x)  d = Squeeze (n, a)  y = Gemm (d, W)",
    ),
    _fore("unsqueeze", "").but(
        "fore_unsqueeze",
        "Conv",
        tensors="x[4,4,4]; W[4,4,2,1] a:int64[1]",
        fill=_ints(a=[3]),
        body="n = BN4 (x)  d = Unsqueeze (n, a)  y = Conv (d, W)",
    ),
    _fore("concat", "").but(
        "fore_concat",
        "Conv",
        tensors="x[2,4,4,4] u[2,3,4,4]; W[4,7,1,1]",
        body="n = BN4 (x)  d = Concat <axis = 1> (u, n)  y = Conv (d, W)",
    ),
    _fore("concat_space", "").but(
        "fore_concat_space",
        "BNF005|BNF012",
        tensors="x[4,4,4,4] u[4,4,4,4]; W[4,4,1,1]",
        body="n = BN4 (x)  d = Concat <axis = 2> (u, n)  y = Conv (d, W)",
    ),
    _fore("concat_batch", "").but(
        "fore_concat_batch",
        "BNF005|BNF012",
        tensors="x[4,4,4,4] u[4,4,4,4]; W[4,4,1,1]",
        body="n = BN4 (x)  d = Concat <axis = 0> (u, n)  y = Conv (d, W)",
    ),
    _fore("concat_output_read", "").but(
        "fore_concat_output_read",
        "BNF005",
        tensors="x[2,4,4,4] u[2,3,4,4]; W[4,7,1,1]",
        body="n = BN4 (x)  d = Concat <axis = 1> (u, n)  y = Conv (d, W)  z = Sigmoid (d)",
        outputs="y z",
    ),
    _fore("concat_two_bns", "").but(
        "fore_concat_two_bns",
        "Conv Conv",
        tensors="x[2,4,4,4] u[2,3,4,4]; W[4,7,1,1]",
        body="n = BN4 (x)  m = BN3 (u)  d = Concat <axis = 1> (m, n)  y = Conv (d, W)",
    ),
    _fore("split", "").but(
        "fore_split",
        "Conv+Conv",
        tensors="x[2,4,4,4]; W[4,1,1,1] V[2,3,1,1] s:int64[2]",
        fill=_ints(s=[1, 3]),
        body="n = BN4 (x)  d, e = Split <axis = 1> (n, s)  y = Conv (d, W)  z = Conv (e, V)",
        outputs="y z",
    ),
    _fore("split_part_escapes", "").but(
        "fore_split_part_escapes",
        "BNF004|BNF005",
        tensors="x[2,4,4,4]; W[4,2,1,1]",
        body="n = BN4 (x)  d, e = Split <axis = 1> (n)  y = Conv (d, W)",
        outputs="y e",
    ),
    _fore("split_part_not_linear", "").but(
        "fore_split_part_not_linear",
        "BNF005",
        tensors="x[2,4,4,4]; W[4,2,1,1]",
        body="n = BN4 (x)  d, e = Split <axis = 1> (n)  y = Conv (d, W)  z = Sigmoid (e)",
        outputs="y z",
    ),
    _fore("split_part_unread", "").but(
        "fore_split_part_unread",
        "Conv",
        tensors="x[2,4,4,4]; W[4,2,1,1]",
        body="n = BN4 (x)  e, d = Split <axis = 1> (n)  y = Conv (d, W)",
    ),
    _fore("split_space", "").but(
        "fore_split_space",
        "Conv+Conv",
        tensors="x[4,4,4,4]; W[4,4,1,1] V[3,4,1,1]",
        body="n = BN4 (x)  d, e = Split <axis = 2> (n)  y = Conv (d, W)  z = Conv (e, V)",
        outputs="y z",
    ),
    _fore("slice", "").but(
        "fore_slice",
        "Conv",
        tensors="x[2,4,4,4]; W[4,2,1,1] s:int64[1] t:int64[1] a:int64[1]",
        fill=_ints(s=[-3], t=[3], a=[1]),
        body="n = BN4 (x)  d = Slice (n, s, t, a)  y = Conv (d, W)",
    ),
    _fore("slice_step", "").but(
        "fore_slice_step",
        "Conv",
        tensors="x[2,4,4,4]; W[4,2,1,1] s:int64[1] t:int64[1] a:int64[1] p:int64[1]",
        fill=_ints(s=[0], t=[2**62], a=[-3], p=[2]),
        body="n = BN4 (x)  d = Slice (n, s, t, a, p)  y = Conv (d, W)",
    ),
    _fore("slice_two", "").but(
        "fore_slice_two",
        "Conv+Conv",
        tensors="x[2,4,4,4]; W[4,2,1,1] V[3,2,1,1] s:int64[1] t:int64[1] u:int64[1] a:int64[1]",
        fill=_ints(s=[0], t=[2], u=[4], a=[1]),
        body="n = BN4 (x)  d = Slice (n, s, t, a)  e = Slice (n, t, u, a)  y = Conv (d, W)  z = Conv (e, V)",
        outputs="y z",
    ),
    _fore("pad_reflect", 'd = Pad <mode = "reflect"> (n, p)', tensors="p:int64[8]", fill=_ints(p=[0, 0, 1, 1, 0, 0, 1, 0])),
    _fore("pad_zero_scale", "d = Pad (n, p)", tensors="p:int64[8]", fill=_ints(p=[0, 0, 1, 1, 0, 0, 1, 0]) | _CENTERED),
    _fore("pad_zero_shift", "d = Pad (n, p)", "BNF010", tensors="p:int64[8]", fill=_ints(p=[0, 0, 1, 1, 0, 0, 1, 0])),
    _fore(
        "pad_border",
        "d = Pad (n, p, v)",
        "BNF010",
        tensors="p:int64[8] v[]",
        fill=_ints(p=[0, 0, 1, 1, 0, 0, 1, 0], v=1.5) | _CENTERED,
    ),
    _fore(
        "pad_channels",
        "",
    ).but(
        "fore_pad_channels",
        "BNF012",
        tensors="x[2,4,4,4]; W[4,5,1,1] p:int64[8]",
        fill=_ints(p=[0, 1, 0, 0, 0, 0, 0, 0]) | _CENTERED,
        body="n = BN4 (x)  d = Pad (n, p)  y = Conv (d, W)",
    ),
    _fore("average_pool", "d = AveragePool <kernel_shape = [2, 2]> (n)"),
    _fore("average_pool_padded", "d = AveragePool <kernel_shape = [2, 2], pads = [1, 1, 1, 1]> (n)"),
    _fore(
        "average_pool_counts", "d = AveragePool <kernel_shape = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1> (n)", "BNF010"
    ),
    _fore("max_pool", "d = MaxPool <kernel_shape = [2, 2]> (n)", fill={"n_scale": 1.5}),
    _fore("max_pool_negative", "d = MaxPool <kernel_shape = [2, 2]> (n)", "BNF011"),
    _fore("max_pool_indices", "d, z = MaxPool <kernel_shape = [2, 2]> (n)", fill={"n_scale": 1.5}, outputs="y z"),
    _fore(
        "max_pool_indices_zero",
        "d, z = MaxPool <kernel_shape = [2, 2]> (n)",
        "BNF011",
        fill={"n_scale": [1, 0, 1, 1]},
        outputs="y z",
    ),
    _fore("reduce_mean", "").but(
        "fore_reduce_mean",
        "Gemm",
        tensors="x[4,4,4,4]; W[4,3]",
        body="n = BN4 (x)  d = ReduceMean <axes = [2, 3], keepdims = 0> (n)  y = Gemm (d, W)",
    ),
    _fore("reduce_mean_moves", "").but(
        "fore_reduce_mean_moves",
        "BNF012",
        tensors="x[4,4,4,4]; W[4,4,2]",
        body="n = BN4 (x)  d = ReduceMean <axes = [0], keepdims = 0> (n)  y = Conv (d, W)",
    ),
    _fore("reduce_mean_of_channels", "").but(
        "fore_reduce_mean_of_channels",
        "BNF012",
        tensors="x[4,4,4,4]; W[4,4,2]",
        body="n = BN4 (x)  d = ReduceMean <axes = [1], keepdims = 0> (n)  y = Conv (d, W)",
    ),
    _fore("leaky_relu", "d = LeakyRelu (n)", fill=_positive(4, names="n")),
    _fore("prelu", "d = PRelu (n, k)", tensors="k[4,1,1]", fill=_positive(4, names="n")),
    _fore("prelu_slope", "").but(
        "fore_prelu_slope",
        "BNF005|BNF006",
        tensors="x[2,4,4,4] v[2,4,1,1]; W[4,4,1,1]",
        body="n = BN4 (v)  d = PRelu (x, n)  y = Conv (d, W)",
        fill=_positive(4, names="n"),
    ),
    _fore("resize", 'd = Resize <mode = "linear"> (n, "", s)', tensors="s[4]", fill={"s": [1, 1, 2, 2]}),
    _fore(
        "resize_axes_negative_channels",
        'd = Resize <axes = [-3, -2], mode = "linear"> (n, "", s)',
        "BNF012|BNF018",
        tensors="s[2]",
        fill={"s": [1.2, 2]},
        opset=18,
    ),
    _fore("upsample", "d = Upsample <scales = [1.0, 1.0, 2.0, 2.0]> (n)", opset=7),
    _fore("space_to_depth", "").but(
        "fore_space_to_depth",
        "Conv",
        tensors="x[2,4,4,4]; W[3,16,1,1]",
        body="n = BN4 (x)  d = SpaceToDepth <blocksize = 2> (n)  y = Conv (d, W)",
    ),
    _fore("depth_to_space", "").but(
        "fore_depth_to_space",
        "BNF005|BNF012",
        tensors="x[2,4,4,4]; W[3,1,1,1]",
        body="n = BN4 (x)  d = DepthToSpace <blocksize = 2> (n)  y = Conv (d, W)",
    ),
    _fore("identity_dropout", "e = Identity (n)  d = Dropout (e)"),
    _fore("gathers", "").but(
        "fore_gathers",
        "BNF005",
        tensors="x[4,4,4,4]; W[4,4,1,1] i:int64[2]",
        fill=_ints(i=[1, 0]),
        body="n = BN4 (x)  d = Gather <axis = 0> (n, i)  y = Conv (d, W)",
    ),
    _fore("softmax", "d = Softmax <axis = 1> (n)", "BNF005"),
    _fore("nothing_reads", "").but("fore_nothing_reads", "BNF005", tensors="x[4,4,4,4];", body="y = BN4 (x)"),
)

# -- quantized weights ----------------------------------------------------------------------------------------------------

_Q = Case(
    "quantized", "x[2,4,5,5]; q:int8[3,4,2,2] s_var[]", "w = DequantizeLinear (q, s_var)  c = Conv (x, w)  y = BN3 (c)", "Conv"
)
_QFILL = {"q": np.arange(48).reshape(3, 4, 2, 2) - 24, "y_scale": [0.5, 1.5, 2.0]}


def _quantized(name: str, tensors: str, body: str = "", expect: str = "Conv", **changes: Any) -> Case:
    told = {"fill": _QFILL | changes.pop("fill", {}), "after": "Conv DequantizeLinear" if "BNF" not in expect else "", **changes}
    return _Q.but(f"quantized_{name}", expect, tensors=tensors, body=body or _Q.body, **told)


_group(
    _quantized("per_tensor", _Q.tensors),
    _quantized("per_tensor_opset_10", _Q.tensors, expect="BNF019", opset=10),
    _quantized(
        "per_channel",
        "x[2,4,5,5]; q:int8[3,4,2,2] s_var[3]",
        "w = DequantizeLinear <axis = 0> (q, s_var)  c = Conv (x, w)  y = BN3 (c)",
    ),
    _quantized(
        "per_channel_zero_points",
        "x[2,4,5,5]; q:uint8[3,4,2,2] s_var[3] z:uint8[3]",
        "w = DequantizeLinear <axis = 0> (q, s_var, z)  c = Conv (x, w)  y = BN3 (c)",
        fill={"q": np.arange(48).reshape(3, 4, 2, 2) + 90, "z": [100, 120, 110]},
    ),
    _quantized(
        "per_tensor_zero_point",
        "x[2,4,5,5]; q:uint8[3,4,2,2] s_var[] z:uint8[]",
        "w = DequantizeLinear (q, s_var, z)  c = Conv (x, w)  y = BN3 (c)",
        fill={"q": np.arange(48).reshape(3, 4, 2, 2) + 90, "z": 113},
    ),
    _quantized(
        "per_tensor_vector",
        "x[2,4,5,5]; q:int8[3,4,2,2] s_var[1] z:int8[1]",
        "w = DequantizeLinear (q, s_var, z)  c = Conv (x, w)  y = BN3 (c)",
        fill={"z": 3},
    ),
    _quantized(
        "square_other_axis",
        "x[2,4,5,5]; q:int8[4,4,1,1] s_var[4]",
        "w = DequantizeLinear <axis = 1> (q, s_var)  c = Conv (x, w)  y = BN4 (c)",
        "BNF012",
        fill={"q": np.arange(16).reshape(4, 4, 1, 1) - 7, "y_scale": 2},
    ),
    _quantized("negative", _Q.tensors, expect="Conv|BNF011", fill={"y_scale": [1, -1, 1]}),
    _quantized("zero", _Q.tensors, expect="Conv|BNF011", fill={"y_scale": [1, 0, 1]}),
    _quantized(
        "bias", "x[2,4,5,5]; q:int8[3,4,2,2] s_var[] b[3]", "w = DequantizeLinear (q, s_var)  c = Conv (x, w, b)  y = BN3 (c)"
    ),
    _quantized(
        "bias_int32",
        "x[2,4,5,5]; q:int8[3,4,2,2] s_var[3] p:int32[3] t_var[3]",
        "w = DequantizeLinear <axis = 0> (q, s_var)  b = DequantizeLinear <axis = 0> (p, t_var)  c = Conv (x, w, b)  y = BN3 (c)",
        fill={"p": [100, -200, 300], "t_var": 0.01},
        after="ANY",
    ),
    _quantized("two_readers", "x[2,4,5,5]; q:int8[3,4,2,2] s_var[]", _Q.body + "  z = Conv (x, w)", "BNF004", outputs="y z"),
    _quantized(
        "scale_shared",
        "x[2,4,5,5]; q:int8[3,4,2,2] s_var[3]",
        "w = DequantizeLinear <axis = 0> (q, s_var)  c = Conv (x, w)  y = BN3 (c)  z = Relu (s_var)",
        outputs="y z",
        after="Conv DequantizeLinear Relu",
    ),
    _quantized(
        "integers_shared",
        "x[2,4,5,5]; q:int8[3,4,2,2] s_var[3]",
        "w = DequantizeLinear <axis = 0> (q, s_var)  c = Conv (x, w)  y = BN3 (c)"
        "  v = DequantizeLinear <axis = 0> (q, s_var)  z = Conv (x, v)",
        outputs="y z",
        after="Conv Conv DequantizeLinear DequantizeLinear",
    ),
    _quantized(
        "gemm",
        "x[5,4]; q:int8[4,3] s_var[3]",
        "w = DequantizeLinear (q, s_var)  c = Gemm (x, w)  y = BN3 (c)",
        "Gemm",
        fill={"q": np.arange(12).reshape(4, 3) - 5},
        after="DequantizeLinear Gemm",
    ),
    _quantized(
        "matmul",
        "x[5,4]; q:int8[4,3] s_var[]",
        "w = DequantizeLinear (q, s_var)  c = MatMul (x, w)  y = BN3 (c)",
        "MatMul",
        fill={"q": np.arange(12).reshape(4, 3) - 5},
        after="Add DequantizeLinear MatMul",
    ),
    _quantized(
        "matmul_negative",
        "x[5,4]; q:int8[4,3] s_var[3]",
        "w = DequantizeLinear (q, s_var)  c = MatMul (x, w)  y = BN3 (c)",
        "MatMul|BNF011",
        fill={"q": np.arange(12).reshape(4, 3) - 5, "y_scale": [1, -1, 2]},
        after="ANY",
    ),
    _quantized(
        "conv_transpose",
        "x[2,4,5,5]; q:int8[4,3,2,2] s_var[]",
        "w = DequantizeLinear (q, s_var)  c = ConvTranspose (x, w)  y = BN3 (c)",
        "ConvTranspose",
        fill={"q": np.arange(48).reshape(4, 3, 2, 2) - 24},
        after="ConvTranspose DequantizeLinear",
    ),
    _quantized(
        "conv_transpose_grouped",
        "x[2,4,5,5]; q:int8[4,2,2,2] s_var[]",
        "w = DequantizeLinear (q, s_var)  c = ConvTranspose <group = 2> (x, w)  y = BN4 (c)",
        "BNF012",
        fill={"q": np.arange(32).reshape(4, 2, 2, 2) - 16, "y_scale": 2},
    ),
    _quantized(
        "forward_per_tensor",
        "x[2,4,5,5]; q:int8[3,4,2,2] s_var[] z:int8[]",
        "n = BN4 (x)  w = DequantizeLinear (q, s_var, z)  y = Conv (n, w)",
        fill={"n_scale": [1, 2, 1.5, 0.5], "z": 3},
    ),
    _quantized(
        "forward_per_channel",
        "x[2,4,5,5]; q:int8[3,4,2,2] s_var[3]",
        "n = BN4 (x)  w = DequantizeLinear <axis = 0> (q, s_var)  y = Conv (n, w)",
        "BNF012",
        fill={"n_scale": 2},
    ),
    _quantized(
        "int4", "x[2,4,5,5]; q:int4[3,4,1,1] s_var[]", "", fill={"q": np.arange(12).reshape(3, 4, 1, 1) - 6}, opset=21, ir=10
    ),
    _quantized(
        "int4_zero_point",
        "x[2,4,5,5]; q:int4[3,4,1,1] s_var[] z:int4[]",
        "w = DequantizeLinear (q, s_var, z)  c = Conv (x, w)  y = BN3 (c)",
        fill={"q": np.arange(12).reshape(3, 4, 1, 1) - 6, "z": 2},
        opset=21,
        ir=10,
    ),
    _quantized(
        "uint4_zero_points",
        "x[2,4,5,5]; q:uint4[3,4,1,1] s_var[3] z:uint4[3]",
        "w = DequantizeLinear <axis = 0> (q, s_var, z)  c = Conv (x, w)  y = BN3 (c)",
        fill={"q": np.arange(12).reshape(3, 4, 1, 1), "z": [1, 8, 15]},
        opset=21,
        ir=10,
    ),
    _quantized(
        "block",
        "x[5,4]; q:int8[4,3] s_var[2,3]",
        "w = DequantizeLinear <axis = 0, block_size = 2> (q, s_var)  c = Gemm (x, w)  y = BN3 (c)",
        "BNF019|Gemm",
        fill={"q": np.arange(12).reshape(4, 3) - 5},
        opset=21,
        ir=10,
    ),
    _quantized("runtime", "x[2,4,5,5] q:int8[3,4,2,2]; s_var[]", _Q.body, "BNF006|BNF013"),
    _quantized(
        "activation",
        "x[2,4,5,5]; q:int8[3,4,2,2] s_var[] t_var[] z:int8[]",
        "w = DequantizeLinear (q, s_var)  c = Conv (x, w)  i = QuantizeLinear (c, t_var, z)"
        "  d = DequantizeLinear (i, t_var, z)  y = BN3 (d)",
        "BNF005|BNF013",
        fill={"z": 0},
    ),
)

# -- neighbours that stay, runtime biases, ranges -------------------------------------------------------------------------

_TWO = CONV.but("merge", "BatchNormalization BNF005", tensors="x[2,4,5,5];", body="n = BN4 (x)  y = BN4 (n)")
_group(
    _TWO.but("merge_two", "BatchNormalization|BNF005 BatchNormalization|BNF005", after="BatchNormalization"),
    _TWO.but(
        "merge_mul",
        "Mul:BatchNormalization BNF005",
        tensors="x[2,4,5,5]; k[4,1,1]",
        body="n = Mul (x, k)  y = BN4 (n)",
        after="BatchNormalization",
    ),
    _TWO.but(
        "merge_add_behind",
        "BNF005 Add:BatchNormalization",
        tensors="x[2,4,5,5]; k[4,1,1]",
        body="n = BN4 (x)  y = Add (n, k)",
        after="BatchNormalization",
    ),
    _TWO.but("merge_middle_read", "BNF004|BNF005 BNF004|BNF005", body="n = BN4 (x)  y = BN4 (n)", outputs="y n"),
    _TWO.but(
        "merge_other_axis",
        "BNF005|BNF012 BNF005|BNF012",
        tensors="x[4,4,4,4];",
        body="n = BN4 (x)  t = Transpose <perm = [0, 2, 1, 3]> (n)  y = BN4 (t)",
    ),
    _TWO.but("merge_kept", "BNF005|BNF021|BatchNormalization BNF021", options={"keep": ["y"]}, after="ANY"),
    _TWO.but("merge_training", "BNF005 BNF001", body="n = BN4 (x)  y = BN4 <training_mode = 1> (n)", no_runtime="training"),
    _TWO.but(
        "merge_two_readers",
        "BatchNormalization+BatchNormalization BNF005 BNF005",
        body="n = BN4 (x)  y = BN4 (n)  z = BN4 (n)",
        outputs="y z",
        after="BatchNormalization BatchNormalization",
    ),
    _TWO.but(
        "merge_and_linear",
        "BatchNormalization+Gemm|Gemm+BatchNormalization|BNF005 BNF005|BatchNormalization",
        tensors="x[4,3]; W[3,4]",
        after="ANY",
        body="n = BN3 (x)  y = Gemm (n, W)  z = BN3 (n)",
        outputs="y z",
    ),
    _TWO.but(
        "merge_and_linear_behind",
        "ANY",
        tensors="x[6,1]; W[1,3] k[3] V[3,6]",
        after="ANY",
        body="n = BN1 (x)  m = MatMul (n, W)  y = Add (m, k)  b = BN1 (n)  z = MatMul (V, b)",
        outputs="y z",
    ).but(
        "merge_and_linear_behind",
        "MatMul+BatchNormalization|BatchNormalization+MatMul|BNF005 BNF005|BNF012|BNF020|BatchNormalization",
        after="ANY",
    ),
    _TWO.but(
        "merge_split",
        "BatchNormalization|BNF005 BatchNormalization|BNF005 BatchNormalization|BNF005",
        body="n = BN4 (x)  m = BN4 (n)  y = BN4 (m)",
        after="BatchNormalization",
    ),
    CONV.but(
        "shared_as_addend_and_weight",
        "Gemm+Gemm",
        tensors="x[4,4]; V[4,4] W[4,4]",
        body="a = Gemm <beta = 0.0> (x, V, W)  b = Gemm (x, W)  c = Concat <axis = 1> (a, b)  y = BN8 (c)",
        after="Concat Gemm Gemm",
    ),
    CONV.but(
        "shared_as_weight_and_summand",
        "Gemm+Gemm",
        tensors="x[4,4]; V[4,4] W[4,4] k[4]",
        body="a = Gemm (x, V, k)  b = Gemm (x, W, k)  c = Concat <axis = 1> (b, a)  y = BN8 (c)",
        after="Concat Gemm Gemm",
    ),
    CONV.but("range_overflow", "BNF008", tensors="x[2,3,5,5]; W[5,3,1,1]", fill={"y_scale": 3e38, "y_var": 1e-8}),
    CONV.but("range_overflow_half", "BNF008", dtype="float16", fill={"W": 60, "y_scale": 6000, "y_var": 1}),
    CONV.but(
        "range_overflow_through_pool",
        "BNF008",
        body="c = Conv (x, W)  d = GlobalAveragePool (c)  y = BN5 (d)",
        fill={"y_scale": 3e38, "y_var": 1e-8},
    ),
    CONV.but(
        "range_overflow_forward",
        "BNF008",
        tensors="x[2,3,5,5]; W[5,3,1,1]",
        body="n = BN3 (x)  y = Conv (n, W)",
        fill={"n_scale": 3e38, "n_var": 1e-8},
    ),
    CONV.but("range_subnormal", "Conv", fill={"y_scale": 1e-38, "y_bias": 1}, notes="BNF009"),
    CONV.but(
        "range_casts",
        "BNF019",
        tensors="x:float[2,3,5,5]; W:float[5,3,1,1]",
        body="c = Conv (x, W)  h = Cast <to = 10> (c)  d = Cast <to = 1> (h)  y = BN5 (d)",
    ),
    CONV.but(
        "range_casts_wide",
        "Conv",
        tensors="x[2,3,5,5]; W[5,3,1,1]",
        body="c = Conv (x, W)  h = Cast <to = 1> (c)  y = BN5 (h)",
    ),
    CONV.but(
        "bias_runtime_through_pool",
        "Conv",
        tensors="x[2,3,5,5] b[5]; W[5,3,1,1]",
        body="c = Conv (x, W, b)  d = GlobalAveragePool (c)  y = BN5 (d)",
        after="Add Conv GlobalAveragePool Mul",
    ),
    CONV.but(
        "names_clash",
        "Mul,Add:MatMul",
        tensors="x[3,4]; W[4,5] W_folded[4,5] k[5] h[5]",
        after="Add MatMul MatMul",
        body="c = MatMul (x, W)  d = Mul (c, k)  y = Add (d, h)  z = MatMul (x, W_folded)",
        outputs="y z",
    ),
    CONV.but(
        "overridable_through_concat",
        "BNF006",
        tensors="x[2,3,5,5]; W[5,3,1,1] V[2,3,1,1]",
        body="c = Conv (x, W)  e = Conv (x, V)  d = Concat <axis = 1> (c, e)  y = BN7 (d)",
        overridable=("V",),
    ),
    CONV.but(
        "overridable_constant_of_concat",
        "BNF005|BNF006",
        tensors="x[2,3,5,5]; W[5,3,1,1] k[2,2,5,5]",
        body="c = Conv (x, W)  d = Concat <axis = 1> (c, k)  y = BN7 (d)",
        overridable=("k",),
    ),
    CONV.but(
        "overridable_pads",
        "BNF006",
        tensors="x[2,3,5,5]; W[5,3,1,1] p:int64[8]",
        body='c = Conv (x, W)  d = Pad <mode = "edge"> (c, p)  y = BN5 (d)',
        fill=_ints(p=[0, 0, 1, 0, 0, 0, 0, 0]),
        overridable=("p",),
        outputs="y:float[2,5,6,5]",
    ),
    CONV.but(
        "overridable_slice",
        "BNF006",
        tensors="x[2,3,5,5]; W[5,3,1,1] s:int64[1] t:int64[1] a:int64[1]",
        body="c = Conv (x, W)  d = Slice (c, s, t, a)  y = BN2 (d)",
        fill=_ints(s=[1], t=[3], a=[1]),
        overridable=("s",),
        outputs="y:float[2,2,5,5]",
    ),
    CONV.but(
        "overridable_scales",
        "BNF006|BNF018|Conv",
        tensors="x[2,3,5,5]; W[5,3,1,1] s[4]",
        body='c = Conv (x, W)  d = Resize (c, "", s)  y = BN5 (d)',
        fill={"s": [1, 1, 2, 2]},
        overridable=("s",),
        outputs="y:float[2,5,10,10]",
    ),
    CONV.but(
        "captured_source",
        "BNF004",
        tensors="x[2,3,5,5] flag:bool[]; W[5,3,1,1]",
        body=(
            "c = Conv (x, W)"
            "  y = If (flag) <then_branch = t () => (float[2,5,5,5] p) { p = BN5 (c) }, else_branch = e () =>"
            " (float[2,5,5,5] q) { q = Relu (c) }>"
        ),
    ),
    CONV.but(
        "captured_beside",
        "BNF004",
        tensors="x[2,3,5,5] flag:bool[]; W[5,3,1,1]",
        body=(
            "c = Conv (x, W)  p = GlobalAveragePool (c)  z = BN5 (p)"
            "  y = If (flag) <then_branch = t () => (float[2,5,5,5] r) { r = Relu (c) }, else_branch = e () =>"
            " (float[2,5,5,5] q) { q = Neg (c) }>"
        ),
        outputs="y z",
    ),
    CONV.but(
        "captured_carrier",
        "BNF004",
        tensors="x[2,3,5,5] flag:bool[]; W[5,3,1,1]",
        body=(
            "c = Conv (x, W)  p = GlobalAveragePool (c)  z = BN5 (p)"
            "  y = If (flag) <then_branch = t () => (float[2,5,1,1] r) { r = Relu (p) }, else_branch = e () =>"
            " (float[2,5,1,1] q) { q = Relu (p) }>"
        ),
        outputs="y z",
    ),
)


# -- what reviews found ---------------------------------------------------------------------------------------------------

_group(
    Case(
        "quantized_transposed_square",  # without `perm` a Transpose reverses the axes
        "x[3,4]; q:int8[4,4] s_var[]",
        "w = DequantizeLinear (q, s_var)  t = Transpose (w)  c = MatMul (x, t)  y = BN4 (c)",
        "MatMul",
        "DequantizeLinear Transpose MatMul Add",
        fill={"q": np.arange(16).reshape(4, 4) - 7, "y_scale": [1, 2, 3, 4]},
    ),
    Case(
        "quantized_transposed",
        "x[3,4]; q:int8[5,4] s_var[5]",
        "w = DequantizeLinear <axis = 0> (q, s_var)  t = Transpose (w)  c = MatMul (x, t)  y = BN5 (c)",
        "MatMul",
        "DequantizeLinear Transpose MatMul Add",
        fill={"q": np.arange(20).reshape(5, 4) - 9, "y_scale": 2},
    ),
    Case(
        "mapped_addend_is_an_output",
        "x[1,5] u[1,4]; W[5,3] V[4,3]",
        "a = MatMul (x, W)  c = BN3 (a)  e = Gemm (u, V, c)  y = BN3 (e)",
        "MatMul Gemm",
        "ANY",
        outputs="y c",
    ),
    CONV.but(
        "type_read_beside",  # a CastLike reads the type alone, and is no reader
        tensors="x[2,3,5,5]; W[5,3,1,1] one[]",
        body="c = Conv (x, W)  k = CastLike (one, c)  d = BN5 (c)  y = PRelu (d, k)",
        after="Conv PRelu",
    ),
    Case(
        "only_behind_a_bias",
        "x[3,4]; W[4,5] k[5]",
        "c = MatMul (x, W)  d = Add (c, k)  y = BN5 (d)",
        "MatMul",
        options={"only": ["y"]},
    ),
    Case(
        "three_adds_for_one_map",
        "x[2,4,3]; W[4,4] V[4,4] U[4,4]",
        "n = BN4 (x)  t = Transpose <perm = [0, 2, 1]> (n)  q = MatMul (t, W)  k = MatMul (t, V)  v = MatMul (t, U)",
        "BNF020",
        outputs="q k v",
    ),
    CONV.but(
        "slice_of_everything",
        tensors="x[2,3,5,5]; W[5,3,1,1] e:int64[0]",
        body="c = Conv (x, W)  k = Slice (c, e, e, e)  y = BN5 (k)",
    ),
    Case("rank_one", "x[3] u[3];", "z = Add (x, u)  y = BN1 (z)", "BNF012"),
    CONV.but(
        "pad_18_axes",
        tensors="x[2,3,5,5]; W[5,3,1,1] p:int64[2] a:int64[1]",
        body='c = Conv (x, W)  d = Pad <mode = "reflect"> (c, p, , a)  y = BN5 (d)',
        opset=18,
        fill={"p": [1, 1], "a": [-1]},
    ),
    CONV.but(
        "pad_18_channel_axis",
        "BNF012",
        tensors="x[2,3,5,5]; W[5,3,1,1] p:int64[2] a:int64[1]",
        body='c = Conv (x, W)  d = Pad <mode = "reflect"> (c, p, , a)  y = BN7 (d)',
        opset=18,
        fill={"p": [1, 1], "a": [1]},
    ),
    Case(
        "quantized_axis_of_the_caller",
        "x[3,4]; q:int8[4,4] s_var[4]",
        "y = local.block <ax = 0> (x)",
        "BNF006",
        functions=(
            "block <ax> (a) => (y) { w = DequantizeLinear <axis: int = @ax> (q, s_var)  c = MatMul (a, w)  y = BN4 (c) }",
        ),
        fill={"q": np.arange(16).reshape(4, 4) - 7},
    ),
    Case(
        "quantized_perm_of_the_caller",
        "x[3,4]; q:int8[4,4] s_var[]",
        "y = local.block <pm = [1, 0]> (x)",
        "BNF006",
        functions=(
            "block <pm> (a) => (y) { w = DequantizeLinear (q, s_var)  t = Transpose <perm: ints = @pm> (w)"
            "  c = MatMul (a, t)  y = BN4 (c) }",
        ),
        fill={"q": np.arange(16).reshape(4, 4) - 7},
    ),
)

CASES = tuple(_ROWS)
