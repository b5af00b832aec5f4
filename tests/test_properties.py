"""Properties over random input: the algebra of maps, the one rounding, and chains of a linear operator and its normalizations."""

import math
from collections.abc import Callable
from fractions import Fraction

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

import bnfold
from bnfold.affine import Affine
from bnfold.weights import FLOAT_TYPES, Computed, Scaled, round_to, rounded_blocks
from tests.cases import Case
from tests.reference import assert_close, evaluate

few = settings(max_examples=50, derandomize=True, deadline=None, database=None)

CHAIN_ULPS = 16
"""Up to three maps with factors of about two, each of which may cancel what an output is made of."""


# -- maps -----------------------------------------------------------------------------------------------------------------

# Small multiples of 1/8 make float64 arithmetic exact, so that equations between maps hold to the last bit.
dyadic = st.integers(-64, 64).map(lambda number: number / 8)
vectors = st.lists(dyadic, min_size=3, max_size=3)
maps = st.builds(Affine.of, vectors, vectors, vectors)
values = st.lists(dyadic, min_size=3, max_size=3).map(np.asarray)


@few
@given(maps, maps, values)
def test_composition_is_application_of_both(outer: Affine, inner: Affine, x: np.ndarray) -> None:
    np.testing.assert_array_equal(outer.after(inner)(x), outer(inner(x)))


@few
@given(maps, maps, maps, values)
def test_composition_is_associative(first: Affine, second: Affine, third: Affine, x: np.ndarray) -> None:
    left, right = first.after(second).after(third), first.after(second.after(third))
    np.testing.assert_array_equal(left(x), right(x))


@few
@given(maps, values)
def test_offset_is_the_image_of_zero(map_: Affine, x: np.ndarray) -> None:
    np.testing.assert_array_equal(map_.offset, map_(np.zeros(3)))
    np.testing.assert_array_equal(map_.scale * x + map_.offset, map_(x))
    assert map_.has_offset == bool(map_(np.zeros(3)).any())


@few
@given(maps, values)
def test_identity_composes_to_the_same_map(map_: Affine, x: np.ndarray) -> None:
    identity = Affine.of()
    np.testing.assert_array_equal(map_.after(identity)(x), map_(x))
    np.testing.assert_array_equal(identity.after(map_)(x), map_(x))


@few
@given(vectors, vectors, vectors, st.lists(st.floats(0.01, 100), min_size=3, max_size=3), st.floats(0, 1), values)
def test_batch_normalization_is_the_operator_s_formula(
    gamma: list[float], beta: list[float], mean: list[float], var: list[float], epsilon: float, x: np.ndarray
) -> None:
    map_ = Affine.batch_normalization(gamma, beta, mean, var, epsilon)
    expected = [(value - m) / math.sqrt(v + epsilon) * g + b for value, g, b, m, v in zip(x, gamma, beta, mean, var, strict=True)]
    np.testing.assert_allclose(map_(x), expected, rtol=1e-14, atol=1e-13)
    assert map_.is_finite


@few
@given(maps, st.sampled_from(["scale", "center", "shift"]), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_one_bad_channel_makes_a_map_not_finite(map_: Affine, name: str, bad: float) -> None:
    assert map_.is_finite
    getattr(map_, name)[1] = bad
    assert not map_.is_finite


# -- rounding -------------------------------------------------------------------------------------------------------------

TYPES = {"float": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
rounding = pytest.mark.parametrize("elem_type", TYPES.values(), ids=TYPES)


@st.composite
def near_ties(draw: Callable[..., int]) -> float:
    """A float64 beside, or on, the middle between two neighbours of bfloat16, float16 or float32."""
    bits = draw(st.sampled_from([8, 11, 24]))
    significand = 2 * draw(st.integers(2 ** (bits - 1), 2**bits - 1)) + draw(st.integers(0, 1))
    value = math.ldexp(significand, draw(st.integers(-160, 130)) - bits)
    nudged = math.nextafter(value, draw(st.sampled_from([-math.inf, value, math.inf])))
    return draw(st.sampled_from([-1, 1])) * nudged


def rounded_exactly(value: float, elem_type: int) -> float:
    """The nearest number of the type, ties to even, in rational arithmetic."""
    info = ml_dtypes.finfo(FLOAT_TYPES[elem_type])
    _, exponent = math.frexp(value)
    unit = Fraction(2) ** (max(exponent - 1, int(info.minexp)) - int(info.nmant))
    nearest = round(Fraction(value) / unit) * unit
    if abs(nearest) >= Fraction(2) ** int(info.maxexp):
        return math.copysign(math.inf, value)
    return math.copysign(float(nearest), value)


@rounding
@few
@given(numbers=st.lists(near_ties() | st.floats(allow_nan=False), min_size=1, max_size=30))
def test_rounding_is_correct(elem_type: int, numbers: list[float]) -> None:
    found = round_to(np.array(numbers), elem_type)
    assert found.dtype == FLOAT_TYPES[elem_type]
    expected = [number if math.isinf(number) else rounded_exactly(number, elem_type) for number in numbers]
    np.testing.assert_array_equal(found.astype(np.float64), expected)
    np.testing.assert_array_equal(np.signbit(found.astype(np.float64)), np.signbit(expected))


@rounding
def test_rounding_keeps_nan_and_zero(elem_type: int) -> None:
    found = round_to(np.array([np.nan, 0.0, -0.0]), elem_type).astype(np.float64)
    assert np.isnan(found[0])
    assert list(np.signbit(found[1:])) == [False, True]


def test_bfloat16_is_not_rounded_twice() -> None:
    value = 1 + 2**-8 + 2**-40  # above a tie of bfloat16; rounded to float32 first, it would be on the tie and go down
    assert float(round_to(np.array([value]), TensorProto.BFLOAT16)[0]) == 1 + 2**-7
    assert float(np.float32(value).astype(ml_dtypes.bfloat16)) == 1.0


# -- scaled weights -------------------------------------------------------------------------------------------------------


@st.composite
def scalings(draw: Callable[..., list[int]]) -> tuple[np.ndarray, list[np.ndarray]]:
    """A weight of up to three axes and factors that broadcast against it, all exact in float64."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    numbers = iter(np.random.default_rng(math.prod(shape)).integers(-16, 17, 1000) / 8)

    def take(extents: list[int]) -> np.ndarray:
        return np.array([next(numbers) for _ in range(math.prod(extents))]).reshape(extents)

    along = draw(st.lists(st.integers(0, len(shape) - 1), max_size=4))
    return take(shape), [take([n if axis == place else 1 for place, n in enumerate(shape)]) for axis in along]


@few
@given(scalings())
def test_factors_multiply(scaling: tuple[np.ndarray, list[np.ndarray]]) -> None:
    source, factors = scaling
    weight, expected = Computed(source, TensorProto.FLOAT), source
    for factor in factors:
        weight, expected = Scaled.of(weight, factor), expected * factor
    np.testing.assert_array_equal(weight.values(), expected)
    assert weight.shape == source.shape
    read = weight.reader()
    for start in range(len(source)):
        part = (slice(start, start + 1),)
        np.testing.assert_array_equal(read(part), expected[part])
    stored = np.concatenate(list(rounded_blocks(weight)))
    np.testing.assert_array_equal(stored, expected.astype(np.float32))


@few
@given(scalings())
def test_one_factor_for_each_axis_is_kept(scaling: tuple[np.ndarray, list[np.ndarray]]) -> None:
    source, factors = scaling
    weight = Computed(source, TensorProto.FLOAT)
    for factor in factors:
        weight = Scaled.of(weight, factor)
    if isinstance(weight, Scaled):
        assert weight.source.values() is source
        assert len(weight.factors) == len({factor.shape for factor in factors})


@few
@given(scalings())
def test_key_tells_maps_apart(scaling: tuple[np.ndarray, list[np.ndarray]]) -> None:
    source, factors = scaling
    for factor in factors:
        first, again = (Scaled.of(Computed(source, TensorProto.FLOAT), factor.copy()) for _ in range(2))
        assert first.key() == again.key()
        assert first.key() != Scaled.of(Computed(source, TensorProto.FLOAT), factor + 1).key()


# -- chains ---------------------------------------------------------------------------------------------------------------


@st.composite
def convolutions(draw: Callable[..., int], transposed: bool) -> tuple[str, str, str, int]:
    """Inputs, weights, first node and its channels, for Conv or ConvTranspose of any rank and grouping."""
    rank, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    read, made = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))

    def each(low: int, high: int) -> list[int]:
        return [draw(st.integers(low, high)) for _ in range(rank)]

    kernel, strides, dilations = each(1, 2), each(1, 2), each(1, 2)
    told = {"group": groups, "strides": strides, "dilations": dilations}
    auto_pad = draw(st.sampled_from(["", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if transposed:
        told |= {"output_padding": [draw(st.integers(0, max(pair) - 1)) for pair in zip(strides, dilations, strict=True)]}
    elif auto_pad:
        told |= {"auto_pad": f'"{auto_pad}"'}
    if "auto_pad" not in told and draw(st.booleans()):
        told |= {"pads": each(0, 1) + each(0, 1)}
    attributes = ", ".join(f"{name} = {value}" for name, value in told.items())
    shape = [read, made // groups, *kernel] if transposed else [made, read // groups, *kernel]
    extents = [2, read, *each(4, 5)]
    bias = draw(st.sampled_from(["", ', ""', ", b"]))
    op_type = "ConvTranspose" if transposed else "Conv"
    return f"x{extents}", f"W{shape} b[{made}]", f"{op_type} <{attributes}> (x, W{bias})", made


@st.composite
def products(draw: Callable[..., int]) -> tuple[str, str, str, int]:
    """The same for Gemm, and for MatMul with the constant on either side."""
    rows, inner, columns = (draw(st.integers(1, 4)) for _ in range(3))
    kind = draw(st.sampled_from(["Gemm", "MatMul", "left"]))
    if kind == "left":
        weight = draw(st.sampled_from([[columns, inner], [2, columns, inner]]))
        return f"x[2,{inner},{rows}]", f"W{weight}", "MatMul (W, x)", columns
    if kind == "MatMul":
        return f"x[{rows},{inner}]", f"W[{inner},{columns}]", "MatMul (x, W)", columns
    trans_a, trans_b = draw(st.booleans()), draw(st.booleans())
    alpha, beta = (draw(st.sampled_from([0.0, 0.3, 1.0, -2.5])) for _ in range(2))
    addend = draw(st.sampled_from(["", "1", str(columns), f"1,{columns}", f"{rows},1", f"{rows},{columns}"]))
    attributes = f"alpha = {alpha}, beta = {beta}, transA = {int(trans_a)}, transB = {int(trans_b)}"
    data = f"x[{inner},{rows}]" if trans_a else f"x[{rows},{inner}]"
    weight = f"W[{columns},{inner}]" if trans_b else f"W[{inner},{columns}]"
    absent = draw(st.sampled_from(["", ', ""', ", b"]))
    return data, f"{weight} b[{addend}]", f"Gemm <{attributes}> (x, W{absent})", columns


@st.composite
def chains(draw: Callable[..., str]) -> Case:
    """A linear operator, operators that hand it on, and one to three normalizations, in any type."""
    fed, weights, node, channels = draw(convolutions(False) | convolutions(True) | products())
    between = draw(st.lists(st.sampled_from(["Identity", "Dropout", f"BN{channels}"]), max_size=4).filter(_is_short))
    nodes, last = [f"t0 = {node}"], "t0"
    for place, op_type in enumerate(between, start=1):
        nodes.append(f"t{place} = {op_type} ({last})")
        last = f"t{place}"
    body = "  ".join([*nodes, f"y = BN{channels} ({last})"])
    takers = [node.split()[0]] * body.count("BN")
    dtype = draw(st.sampled_from(["float", "double", "float16", "bfloat16"]))
    return Case("chain", f"{fed}; {weights}", body, " ".join(takers), dtype=dtype, opset=22, ir=10)


def _is_short(between: list[str]) -> bool:
    return sum(op_type.startswith("BN") for op_type in between) < 3


@settings(few, max_examples=150)
@given(chains())
def test_chains_fold_and_compute_the_same(case: Case) -> None:
    source = case.model()
    result = bnfold.fold(source)
    assert [[each.split()[0] for each in fold.into] for fold in result.plan.folds] == [[word] for word in case.expect.split()]
    assert not result.plan.refusals
    onnx.checker.check_model(result.model, full_check=True)
    assert bnfold.fold(result.model).model.SerializeToString() == result.model.SerializeToString()
    (feeds,) = case.feeds()
    assert_close(evaluate(source, feeds), evaluate(result.model, feeds), case.dtype, CHAIN_ULPS)
