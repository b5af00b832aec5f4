from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnfold.errors import InputError
from bnfold.runtime.feeds import DISTRIBUTIONS, DTYPES, generated_feeds, given_feeds
from bnfold.runtime.sizes import guesses
from bnfold.runtime.source import ValueSpec


def image(name="x", shape=("N", 3, "H", "W"), elem_type="float"):
    return ValueSpec(name, f"tensor({elem_type})", shape)


def first(*specs, seed=0, **shapes):
    return next(generated_feeds(specs, shapes, seed))


def shapes_of(*specs, **shapes):
    return {name: value.shape for name, value in first(*specs, **shapes)[0].values.items()}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 3, 8, 8), (1, 3, 8, 8)),
        (("N", 3, "H", "W"), (2, 3, 64, 64)),
        ((None, None, None, None), (2, 3, 64, 64)),
        (("N", "H", "W", 3), (2, 64, 64, 3)),
        ((None, 12), (2, 12)),
        ((2, "batch", 16), (2, 2, 16)),
        (("N", "T", 80), (2, 64, 80)),
        ((), ()),
        ((0, 3), (0, 3)),
        (None, (2, 3, 64, 64)),
    ],
)
def test_open_dimensions_get_sensible_sizes(shape, expected):
    assert shapes_of(image(shape=shape)) == {"x": expected}


def test_one_symbol_has_one_size_in_every_input():
    sizes = shapes_of(image("ids", ("N", "T"), "int64"), image("mask", ("N", 1, "T", "T"), "float"))
    assert sizes == {"ids": (2, 64), "mask": (2, 1, 64, 64)}


def test_given_shapes_are_used_and_settle_the_symbols_of_other_inputs():
    assert shapes_of(image("a", ("N", "T")), image("b", ("N", "T", 4)), b=(5, 7, 4)) == {"a": (5, 7), "b": (5, 7, 4)}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"y": (1, 3, 8, 8)}, ["`y`", "no input", "`x` float (N, 3, H, W)"]),
        ({"x": (1, 3, 8)}, ["`x`", "rank 3", "rank 4"]),
        ({"x": (1, 4, 8, 8)}, ["`x`", "(1, 4, 8, 8)", "(N, 3, H, W)"]),
        ({"x": (1, 3, -1, 8)}, ["`x`", "negative"]),
    ],
)
def test_a_shape_that_does_not_fit_is_an_error_that_names_it(given, words):
    with pytest.raises(InputError) as caught:
        first(image(), **given)
    assert all(word in str(caught.value) for word in words), caught.value


def test_further_guesses_cover_other_image_sizes_batch_one_and_gray():
    tried = {sizes.shapes["x"] for sizes in guesses([image(shape=("N", "C", "H", "W"))], {})}
    assert {(2, 3, 224, 224), (1, 3, 224, 224), (2, 1, 28, 28), (1, 3, 640, 640), (1, 1, 1, 1)} <= tried


def test_an_input_without_a_rank_is_tried_with_several():
    ranks = {len(sizes.shapes["x"]) for sizes in guesses([ValueSpec("x", "tensor(float)")], {})}
    assert {4, 2} <= ranks


def test_a_fully_fixed_signature_leaves_one_guess():
    assert len(list(guesses([image(shape=(1, 3, 8, 8))], {}))) == 1


extents = st.one_of(st.integers(1, 9), st.sampled_from(["N", "C", "H", "batch"]), st.none())
signatures = st.lists(st.one_of(st.none(), st.lists(extents, max_size=5).map(tuple)), min_size=1, max_size=4)


@given(signatures)
def test_guesses_are_few_distinct_and_agree_with_the_signature(shapes):
    specs = [image(f"x{number}", shape) for number, shape in enumerate(shapes)]
    found = list(guesses(specs, {}))
    assert 1 <= len(found) <= 128
    assert all(one not in found[:number] for number, one in enumerate(found))
    for sizes in found:
        symbols: dict[str, set[int]] = {}
        for spec in specs:
            for wanted, extent in zip(spec.shape or (), sizes.shapes[spec.name], strict=bool(spec.shape)):
                assert wanted == extent if isinstance(wanted, int) else extent > 0
                symbols.setdefault(wanted if isinstance(wanted, str) else f"{id(wanted)}{extent}", set()).add(extent)
        assert all(len(values) == 1 for values in symbols.values())


@pytest.mark.parametrize("elem_type", sorted(DTYPES))
def test_every_numeric_type_bool_and_string_can_be_made(elem_type):
    feeds = first(image(shape=(4, 50), elem_type=elem_type))
    assert [feed.values["x"].dtype for feed in feeds] == [DTYPES[elem_type]] * len(DISTRIBUTIONS)
    assert all(feed.values["x"].shape == (4, 50) for feed in feeds)
    assert len({str(feed.values["x"].tolist()) for feed in feeds}) == len(feeds)


def test_integers_are_small_non_negative_indices_except_bytes():
    ids = np.stack([feed.values["x"] for feed in first(image(shape=(100,), elem_type="int64"))])
    assert ids.min() == 0
    assert ids.max() == 9
    bytes_ = np.stack([feed.values["x"] for feed in first(image(shape=(1000,), elem_type="uint8"))])
    assert bytes_.max() > 200


def test_the_second_guess_of_the_index_range_is_smaller():
    second = list(generated_feeds([image(shape=(100,), elem_type="int64")], {}, 0))[1]
    assert max(feed.values["x"].max() for feed in second) == 1


def test_floats_come_in_several_magnitudes_and_the_large_ones_are_marked():
    sizes = {feed.label: np.abs(feed.values["x"]).max() for feed in first(image(shape=(1000,)))}
    assert sizes["uniform(0, 1)"] <= 1 < sizes["normal(0, 1)"] < sizes["normal(0, 4)"] < sizes["uniform(0, 255)"]
    assert [feed.label for feed in first(image()) if feed.wide] == ["normal(0, 4)", "uniform(0, 255)"]


def test_a_seed_decides_everything():
    def bits(seed):
        return b"".join(feed.values["x"].tobytes() for feed in first(image(), seed=seed))

    assert bits(3) == bits(3) != bits(4)


def test_optional_inputs_are_left_out():
    feeds = first(image(shape=(1, 2)), ValueSpec("extra", "optional(tensor(float))"))
    assert list(feeds[0].values) == ["x"]


@pytest.mark.parametrize("kind", ["sequence(tensor(float))", "map(int64, tensor(float))", "tensor(complex64)", ""])
def test_a_type_that_cannot_be_made_up_asks_for_inputs(kind):
    with pytest.raises(InputError, match=r"`odd`.*--inputs FILE\.npz"):
        first(ValueSpec("odd", kind))


@pytest.fixture
def npz(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "inputs.npz", **arrays)
        return tmp_path / "inputs.npz"

    return write


def test_an_npz_file_is_one_feed(npz):
    x, flag = np.ones((2, 3), np.float32), np.array([True])
    (feed,) = given_feeds([image(shape=("N", 3)), image("flag", (1,), "bool")], npz(x=x, flag=flag))
    assert feed.label == "inputs.npz"
    assert not feed.wide
    assert np.array_equal(feed.values["x"], x)


def test_mappings_are_one_feed_each():
    feeds = given_feeds([image(shape=("N",))], [{"x": np.zeros(n, np.float32)} for n in (1, 2)])
    assert [(feed.label, feed.values["x"].shape) for feed in feeds] == [("input 1", (1,)), ("input 2", (2,))]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, ["lacks", "`x`"]),
        ({"x": np.ones((1, 3), np.float32), "y": np.ones(1)}, ["`y`", "no input"]),
        ({"x": np.ones((1, 3))}, ["`x`", "float64", "float (N, 3)"]),
        ({"x": np.ones(3, np.float32)}, ["`x`", "rank 1"]),
        ({"x": np.ones((1, 4), np.float32)}, ["`x`", "(1, 4)", "(N, 3)"]),
    ],
)
def test_inputs_that_do_not_fit_are_errors_that_name_them(npz, arrays, words):
    for inputs in (npz(**arrays), [arrays]):
        with pytest.raises(InputError) as caught:
            given_feeds([image(shape=("N", 3))], inputs)
        assert all(word in str(caught.value) for word in words), caught.value


def test_an_unreadable_inputs_file_is_an_input_error(tmp_path, npz):
    (tmp_path / "text.npz").write_bytes(b"not an archive")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "cut.npz").write_bytes(npz(x=np.ones(100)).read_bytes()[:200])
    np.save(tmp_path / "single.npy", np.ones(1))
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    for name in ("text.npz", "empty.npz", "cut.npz", "single.npy", "objects.npz", "missing.npz"):
        with pytest.raises(InputError, match=name):
            given_feeds([image()], tmp_path / name)


def test_an_empty_list_of_inputs_is_an_input_error():
    with pytest.raises(InputError, match="empty"):
        given_feeds([image()], [])


def test_bfloat16_is_taken_as_float32_or_as_numpy_stores_it(npz):
    values = np.array([1.0, 2.5], ml_dtypes.bfloat16)
    for stored in (values, values.astype(np.float32)):
        (feed,) = given_feeds([image(shape=(2,), elem_type="bfloat16")], npz(x=stored))
        assert feed.values["x"].dtype == ml_dtypes.bfloat16
        assert feed.values["x"].tolist() == values.tolist()


def test_strings_are_taken_from_an_npz_file(npz):
    (feed,) = given_feeds([image(shape=(2,), elem_type="string")], npz(x=np.array(["a", "bc"])))
    assert feed.values["x"].dtype == object
    assert feed.values["x"].tolist() == ["a", "bc"]
