from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper, parser

from bnfold.errors import InputError
from bnfold.runtime.draws import DISTRIBUTIONS, smooth
from bnfold.runtime.feeds import DTYPES, FLOATS, generated_feeds, given_feeds
from bnfold.runtime.indices import index_limits
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
    assert len(feeds) == (len(DISTRIBUTIONS) - 1 if elem_type in FLOATS else 3)  # nothing is open, so no other sizes
    assert {feed.values["x"].dtype for feed in feeds} == {DTYPES[elem_type]}
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
    assert 0 == sizes["zero"] < sizes["normal(0, 0.001)"] < 0.01
    wide = {feed.label for feed in first(image()) if feed.wide}
    assert wide == {"other sizes, normal(0, 1)", "normal(0, 4)", "uniform(0, 255)", "normal(0, 0.001)", "zero"}


def test_the_most_telling_feeds_come_first():
    feeds = first(image())
    assert [feed.label for feed in feeds[:3]] == ["normal(0, 1)", "smooth(0, 1)", "other sizes, normal(0, 1)"]
    assert not feeds[0].wide


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (("N", 3, "H", "W"), (1, 3, 61, 67)),
        ((None, None, None, None), (1, 3, 61, 67)),
        (("N", 3, "S", "S"), (1, 3, 61, 61)),
        (("N", "H", "W", 3), (1, 67, 61, 3)),
        (("N", "T", 80), (1, 67, 80)),
        (("N", 3, 32, 32), (1, 3, 32, 32)),
        ((1, 3, 32, 32), None),
    ],
)
def test_one_feed_has_odd_sizes_and_a_batch_of_one_where_they_are_open(shape, expected):
    resized = [feed for feed in first(image(shape=shape)) if feed.label.startswith("other sizes")]
    assert [feed.values["x"].shape for feed in resized] == ([expected] if expected else [])


def test_given_shapes_stay_in_the_feed_of_odd_sizes():
    assert {feed.values["x"].shape for feed in first(image(), x=(2, 3, 9, 9))} == {(2, 3, 9, 9)}


def test_smooth_noise_is_coarse_and_of_size_one():
    values = smooth(np.random.default_rng(0), (64, 3, 48, 40))
    assert values.shape == (64, 3, 48, 40)
    assert abs(values.mean()) < 0.1
    assert 0.8 < values.std() < 1.2
    assert np.std(np.diff(values, axis=3)) < 0.4 * values.std()
    assert np.std(values.mean((2, 3))) > 0.3  # white noise: 0.02


@pytest.mark.parametrize("shape", [(), (3,), (0, 3, 8, 8), (2, 5), (1, 3, 1, 1), (2, 7, 5), (2, 16, 16, 3), (1, 2, 3, 4, 5)])
def test_smooth_noise_comes_in_any_shape(shape):
    values = smooth(np.random.default_rng(0), shape)
    assert values.shape == shape
    assert np.isfinite(values).all()


def limits_of(text, **tables):
    graph = parser.parse_graph(text)
    graph.initializer.extend(numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in tables.items())
    return index_limits(graph)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Gather (table, ids)", {"ids": 30}),
        ("y = Gather <axis = 1> (table, ids)", {"ids": 4}),
        ("y = Gather <axis = -1> (table, ids)", {"ids": 4}),
        ("y = Gather <axis = 7> (table, ids)", {}),
        ("i = Cast <to = 7> (ids) j = Squeeze (i) y = Gather (table, j)", {"ids": 30}),
        ("t = Identity (table) y = Gather (t, ids)", {"ids": 30}),
        ("a = Gather (table, ids) y = Gather (small, ids)", {"ids": 5}),
        ("t = Constant <value = float[2] {1, 2}> () y = Gather (t, ids)", {"ids": 2}),
        ("t = Exp (x) y = Gather (t, ids)", {}),
        ("i = Add (ids, ids) y = Gather (table, i)", {}),
    ],
)
def test_indices_stay_below_the_size_of_the_constant_table(body, expected):
    text = f"g (int64[N] ids, float[5] x) => (float[N, 4] y) {{ {body} }}"
    assert limits_of(text, table=(30, 4), small=(5, 4)) == expected


def test_the_limit_decides_what_is_drawn():
    spec = ValueSpec("ids", "tensor(int64)", (2000,), limit=30)
    drawn = np.stack([feed.values["ids"] for feed in first(spec)])
    assert (drawn.min(), drawn.max()) == (0, 29)
    assert first(ValueSpec("ids", "tensor(int64)", (9,), limit=0))[0].values["ids"].max() == 0


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
    (tmp_path / "text.npy").write_bytes(b"not an array")
    for name in ("text.npz", "empty.npz", "cut.npz", "objects.npz", "missing.npz", "text.npy"):
        with pytest.raises(InputError, match=name):
            given_feeds([image()], tmp_path / name)
    with pytest.raises(InputError, match=r"single\.npy is a single array, and the model has 2 inputs"):
        given_feeds([image(), image("y")], tmp_path / "single.npy")


def test_an_empty_list_of_inputs_is_an_input_error():
    with pytest.raises(InputError, match="empty"):
        given_feeds([image()], [])
    with pytest.raises(InputError, match="give a list"):
        given_feeds([image()], {"x": np.zeros(3, np.float32)})  # type: ignore[arg-type]


def test_no_samples_are_an_input_error():
    with pytest.raises(InputError, match="empty arrays only"):
        given_feeds([image()], [{"x": np.zeros((0, 3, 8, 8), np.float32)}])


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


def test_an_npy_file_is_the_only_input(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((2, 3), np.float32))
    (feed,) = given_feeds([image(shape=("N", 3))], tmp_path / "x.npy")
    assert feed.label == "x.npy"
    assert feed.values["x"].shape == (2, 3)


def test_an_axis_that_the_model_does_not_have_counts_samples(tmp_path, npz):
    x, flag = np.arange(24, dtype=np.float32).reshape(4, 2, 3), np.ones((4, 1), bool)
    feeds = given_feeds([image(shape=("N", 3)), image("flag", (1,), "bool")], npz(x=x, flag=flag))
    assert [feed.label for feed in feeds] == [f"inputs.npz[{number}]" for number in range(4)]
    assert np.array_equal(feeds[2].values["x"], x[2])
    np.save(tmp_path / "x.npy", x)
    assert len(given_feeds([image(shape=(2, 3))], tmp_path / "x.npy")) == 4


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": np.ones((4, 2, 3), np.float32), "flag": np.ones(1, bool)},
        {"x": np.ones((4, 2, 3), np.float32), "flag": np.ones((5, 1), bool)},
        {"x": np.ones((0, 2, 3), np.float32), "flag": np.ones((0, 1), bool)},
    ],
    ids=["only one input has it", "its extents differ", "it is empty"],
)
def test_samples_are_never_guessed(npz, arrays):
    with pytest.raises(InputError, match="rank"):
        given_feeds([image(shape=("N", 3)), image("flag", (1,), "bool")], npz(**arrays))


def test_a_folder_holds_one_feed_in_each_file(tmp_path):
    for number in (10, 9, 1):
        np.save(tmp_path / f"x{number}.npy", np.full((1, 3), number, np.float32))
    np.savez(tmp_path / "x2.npz", x=np.full((1, 3), 2, np.float32))
    (tmp_path / "notes.txt").write_text("not an input")
    feeds = given_feeds([image(shape=("N", 3))], tmp_path)
    assert [(feed.label, feed.values["x"][0, 0]) for feed in feeds] == [
        ("x1.npy", 1),
        ("x2.npz", 2),
        ("x9.npy", 9),
        ("x10.npy", 10),
    ]


@pytest.fixture
def pb():
    def write(folder, *values):
        folder.mkdir(parents=True, exist_ok=True)
        for number, value in enumerate(values):
            message = value
            if isinstance(value, np.ndarray):
                message = numpy_helper.from_array(value)
            (folder / f"input_{number}.pb").write_bytes(message.SerializeToString())
        return folder

    return write


def test_an_onnx_test_data_set_is_one_feed_in_the_order_of_the_inputs(tmp_path, pb):
    pb(tmp_path, np.ones((1, 3), np.float32), np.array([5], np.int64))
    (tmp_path / "output_0.pb").write_bytes(b"never read")
    (feed,) = given_feeds([image(shape=("N", 3)), image("ids", (1,), "int64")], tmp_path)
    assert {name: value.tolist() for name, value in feed.values.items()} == {"x": [[1, 1, 1]], "ids": [5]}


def test_a_folder_of_test_data_sets_is_several_feeds(tmp_path, pb):
    for number in (0, 2, 10):
        pb(tmp_path / f"test_data_set_{number}", np.full((1,), number, np.float32))
    (tmp_path / "model.onnx").write_bytes(b"")
    feeds = given_feeds([image(shape=(1,))], tmp_path)
    assert [(feed.label, feed.values["x"][0]) for feed in feeds] == [(f"test_data_set_{n}", n) for n in (0, 2, 10)]


def test_sequences_optionals_and_strings_are_read(tmp_path, pb):
    array = np.ones(2, np.float32)
    pb(tmp_path, numpy_helper.from_list([array, array]), numpy_helper.from_optional(array), np.array(["a", "b"], object))
    specs = [ValueSpec("s", "sequence(tensor(float))"), ValueSpec("o", "optional(tensor(float))"), image("t", (2,), "string")]
    (feed,) = given_feeds(specs, tmp_path)
    assert [value.tolist() for value in feed.values["s"]] == [[1, 1], [1, 1]]
    assert feed.values["o"].tolist() == [1, 1]
    assert feed.values["t"].tolist() == ["a", "b"]


def test_an_input_may_be_missing_from_a_test_data_set_when_it_is_optional(tmp_path, pb):
    pb(tmp_path, np.ones(1, np.float32))
    assert list(given_feeds([image(shape=(1,)), ValueSpec("o", "optional(tensor(float))")], tmp_path)[0].values) == ["x"]
    with pytest.raises(InputError, match="lacks the input `y`"):
        given_feeds([image(shape=(1,)), image("y", (1,))], tmp_path)


def write_gap(folder, pb):
    pb(folder, np.ones(1, np.float32), np.ones(1, np.float32))
    (folder / "input_0.pb").rename(folder / "input_2.pb")


def write_both(folder, pb):
    pb(folder, np.ones(1, np.float32))
    np.save(folder / "x.npy", np.ones(1, np.float32))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda folder, pb: None, "holds no inputs"),
        (write_gap, "not numbered from 0"),
        (write_both, r"holds input_\*.pb and .npz or .npy files"),
        (lambda folder, pb: (folder / "test_data_set_0").mkdir(), "holds no input_0.pb"),
        (lambda folder, pb: pb(folder, *3 * [np.ones(1, np.float32)]), "holds 3 inputs, and the model has 1"),
        (lambda folder, pb: (folder / "input_0.pb").write_bytes(b""), "input_0.pb is no tensor"),
        (lambda folder, pb: (folder / "input_0.pb").write_bytes(b"\xff\xff\xff"), "input_0.pb is no tensor"),
        (lambda folder, pb: pb(folder, onnx.TensorProto(dims=[5], data_type=1, raw_data=b"12")), "input_0.pb is no tensor"),
        (lambda folder, pb: pb(folder, onnx.TensorProto(dims=[5], data_type=999)), "input_0.pb is no tensor"),
        (lambda folder, pb: pb(folder, np.ones(1)), "float64"),
        (lambda folder, pb: pb(folder, np.ones((1, 2), np.float32)), "rank 2"),
    ],
)
def test_a_folder_that_holds_no_inputs_of_the_model_is_an_input_error(tmp_path, pb, write, words):
    write(tmp_path, pb)
    with pytest.raises(InputError, match=words):
        given_feeds([image(shape=(1,))], tmp_path)
