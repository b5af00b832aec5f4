"""`bnfold run`: outputs into .npz files, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
from click.testing import CliRunner, Result

from bnfold.cli.main import cli
from bnfold.errors import InputError
from bnfold.report.run_text import summary
from bnfold.runtime.output_files import arrays, write_npz
from bnfold.runtime.run import run_model

LENET = Path(__file__).resolve().parent.parent / "models" / "lenet.onnx"


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, ["run", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def images(tmp_path: Path) -> Callable[[int], Path]:
    def write(count: int) -> Path:
        folder = tmp_path / "images"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for number in range(count):
            np.savez(folder / f"{number}.npz", image=rng.random((2, 1, 28, 28), np.float32))
        return folder

    return write


def test_one_input_gives_one_file(images: Callable[[int], Path], tmp_path: Path) -> None:
    inputs, output = images(1) / "0.npz", tmp_path / "y.npz"
    result = run(LENET, "--inputs", inputs, "-o", output)
    assert result.exit_code == 0, result.output
    assert f"wrote    {output}" in result.stdout.replace("\n           ", "")
    with np.load(output) as found, np.load(inputs) as given:
        expected = ort.InferenceSession(str(LENET), providers=["CPUExecutionProvider"]).run(["logits"], {"image": given["image"]})
        assert list(found) == ["logits"]
        assert np.array_equal(found["logits"], expected[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "y.npz"]


def test_several_inputs_give_numbered_files_in_a_folder(images: Callable[[int], Path], tmp_path: Path) -> None:
    folder = images(3)
    result = run(LENET, "--inputs", folder, "-o", tmp_path / "answers", "--json")
    assert result.exit_code == 0, result.output
    assert [path.name for path in sorted((tmp_path / "answers").iterdir())] == ["0001.npz", "0002.npz", "0003.npz"]
    answers = json.loads(result.stdout)["answers"]
    assert [each["input"] for each in answers] == ["0.npz", "1.npz", "2.npz"]
    assert answers[0]["outputs"]["logits"]["shape"] == [2, 10]
    refused = run(LENET, "--inputs", folder, "-o", tmp_path / "one.npz")
    assert refused.exit_code == 2
    assert "Name a folder" in refused.stderr
    assert not (tmp_path / "one.npz").exists()


def test_without_inputs_one_is_made_and_the_seed_decides() -> None:
    first, again, other = (next(run_model(LENET, seed=seed).answers).outputs["logits"] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_screen_shows_ranges() -> None:
    result = run(LENET)
    assert result.exit_code == 0
    assert "runs on  CPUExecutionProvider\n" in result.stdout
    assert "logits · float32 " in result.stdout
    assert run(LENET, "-q").stdout == ""


def test_the_graph_runs_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    opened = ort.InferenceSession.__init__

    def watch(self: Any, path: object, options: Any, *rest: Any, **more: Any) -> None:
        seen.append(options.graph_optimization_level)
        opened(self, path, options, *rest, **more)

    monkeypatch.setattr(ort.InferenceSession, "__init__", watch)
    assert run(LENET).exit_code == run(LENET, "--no-optimizations").exit_code == 0
    levels = ort.GraphOptimizationLevel
    assert seen == [levels.ORT_ENABLE_ALL, levels.ORT_DISABLE_ALL]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.onnx"], "nowhere.onnx"),
        ([LENET, "--inputs", LENET], "lenet.onnx"),
        ([LENET, "--inputs", "nowhere.npz"], "nowhere.npz"),
        ([LENET, "-o", "no/such/folder/y.npz"], "cannot write"),
    ],
    ids=["model", "inputs", "no inputs", "no folder"],
)
def test_wrong_usage_writes_nothing(arguments: list[object], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_fails_halfway_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "y.npz"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="allow_pickle"):
        write_npz(path, {"a": np.zeros(3), "b": np.array([{}], dtype=object)})
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["y.npz"]


def test_any_name_and_type_survives(tmp_path: Path) -> None:
    values = {
        "file": np.float32([1, 2]),
        "a/b.c": np.float16([[1]]),
        "words": np.array(["a", "bc"], dtype=object),
        "half": np.array([1.5, -2], ml_dtypes.bfloat16),
        "list": [np.int64([1]), np.int64([2, 3])],
        "absent": None,
    }
    write_npz(tmp_path / "y.npz", arrays(values))
    with np.load(tmp_path / "y.npz", allow_pickle=False) as found:
        assert set(found) == {"file", "a/b.c", "words", "half", "list.0", "list.1"}
        assert np.array_equal(found["file"], [1, 2])
        assert list(found["words"]) == ["a", "bc"]
        assert np.array_equal(found["half"].view(ml_dtypes.bfloat16), values["half"])
        assert np.array_equal(found["list.1"], [2, 3])


def test_a_map_is_no_array() -> None:
    with pytest.raises(InputError, match="`m` is a map"):
        arrays({"m": {1: 2.0}})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32([1, np.nan, 3]), {"type": "float32", "shape": [3], "non_finite": 1, "min": 1.0, "max": 3.0, "mean": 2.0}),
        (np.zeros((0, 2), np.int64), {"type": "int64", "shape": [0, 2], "non_finite": 0}),
        (
            np.array([1, 3], ml_dtypes.bfloat16),
            {"type": "bfloat16", "shape": [2], "non_finite": 0, "min": 1, "max": 3, "mean": 2},
        ),
        (np.array(["a"], dtype=object), {"type": "object", "shape": [1]}),
        ([np.zeros(1)], {"type": "sequence", "length": 1}),
        (None, {"type": "absent", "length": 0}),
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_outputs_are_summed_up(value: object, expected: dict[str, Any]) -> None:
    assert summary(value) == expected


def test_an_input_whose_sizes_cannot_be_guessed_says_what_helps() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]>\nagraph (float[A,B] x) => (float[M,N] y) { y = Reshape (x, s) }'
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.int64([7, 11]), "s"))
    with pytest.raises(InputError, match="--input-shapes"):
        run_model(proto)
    answer = next(run_model(proto, input_shapes={"x": (7, 11)}).answers)
    assert answer.outputs["y"].shape == (7, 11)
