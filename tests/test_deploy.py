"""`bnfold deploy triton`: a model repository that Triton's own definitions accept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner, Result
from onnx import helper

from bnfold.cli.main import cli
from bnfold.deploy.triton import deploy
from bnfold.errors import EnvironmentUnfit, InputError

LENET = Path(__file__).resolve().parent.parent / "models" / "lenet.onnx"
READ = """
import json, sys
from google.protobuf import text_format
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import model_config_pb2
for path in sys.argv[1:]:
    config = text_format.Parse(open(path, encoding="utf-8").read(), model_config_pb2.ModelConfig())
    print(json.dumps(MessageToDict(config, preserving_proto_field_name=True)))
"""


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, ["deploy", "triton", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def triton_reads(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[dict[str, object]]]:
    """Parses config.pbtxt files with Triton's own protobuf definitions, in an environment of their own."""
    home = tmp_path_factory.mktemp("triton")
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    done = subprocess.run(
        [python, "-m", "pip", "install", "-q", "tritonclient[grpc]"], capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode:
        pytest.skip(f"tritonclient, which holds Triton's definitions, cannot be installed: {done.stderr[-300:]}")

    def read(*paths: Path) -> list[dict[str, object]]:
        found = subprocess.run([python, "-c", READ, *paths], capture_output=True, text=True, check=True)
        return [json.loads(line) for line in found.stdout.splitlines()]

    return read


def scalar_model(path: Path, **shapes: list[int | str | None] | None) -> Path:
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in shapes]
    inputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT16, shape) for name, shape in shapes.items()]
    outputs = [helper.make_tensor_value_info(f"{name}_out", onnx.TensorProto.FLOAT16, shape) for name, shape in shapes.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.slow
def test_triton_accepts_the_configuration(
    repository: Path, tmp_path: Path, triton_reads: Callable[..., list[dict[str, object]]]
) -> None:
    assert run(LENET, "--name", "lenet", "--repository", repository, "--max-batch", 32, "--instance", "gpu").exit_code == 0
    odd = scalar_model(tmp_path / "odd.onnx", **{'a "b"\\c é': [], "seq": ["n", 3, None]})
    deploy(odd, repository, name="odd")
    lenet, other = triton_reads(*(repository / name / "config.pbtxt" for name in ("lenet", "odd")))
    assert lenet == {
        "name": "lenet",
        "backend": "onnxruntime",
        "default_model_filename": "model.onnx",
        "max_batch_size": 32,
        "input": [{"name": "image", "data_type": "TYPE_FP32", "dims": ["1", "28", "28"]}],
        "output": [{"name": "logits", "data_type": "TYPE_FP32", "dims": ["10"]}],
        "instance_group": [{"kind": "KIND_GPU", "count": 1}],
        "dynamic_batching": {},
    }
    assert other["input"] == [
        {"name": 'a "b"\\c é', "data_type": "TYPE_FP16", "dims": ["1"], "reshape": {}},
        {"name": "seq", "data_type": "TYPE_FP16", "dims": ["-1", "3", "-1"]},
    ]


def test_the_copy_is_the_model_and_runs(repository: Path, tmp_path: Path) -> None:
    source = tmp_path / "external.onnx"
    onnx.save(onnx.load(LENET), source, save_as_external_data=True, location="weights.bin", size_threshold=0)
    written = deploy(source, repository, name="lenet", version=3)
    assert written.files == ("3/model.onnx", "3/weights.bin", "config.pbtxt")
    home = repository / "lenet" / "3"
    assert (home / "model.onnx").read_bytes() == source.read_bytes()
    session = onnxruntime.InferenceSession(home / "model.onnx", providers=["CPUExecutionProvider"])
    assert session.run(None, {"image": np.zeros((2, 1, 28, 28), np.float32)})[0].shape == (2, 10)
    assert sorted(path.name for path in repository.iterdir()) == ["lenet"]


def test_versions_share_a_configuration(repository: Path) -> None:
    deploy(LENET, repository, name="lenet")
    deploy(LENET, repository, name="lenet", version=2)
    assert sorted(path.name for path in (repository / "lenet").iterdir()) == ["1", "2", "config.pbtxt"]
    with pytest.raises(InputError, match="exists already"):
        deploy(LENET, repository, name="lenet", version=2)
    with pytest.raises(InputError, match="says something else"):
        deploy(LENET, repository, name="lenet", version=3, max_batch=4)


def test_an_ir_that_the_server_cannot_load_is_refused(repository: Path) -> None:
    ir_version = onnx.load(LENET).ir_version
    result = run(LENET, "--name", "lenet", "--repository", repository, "--target-ir", ir_version - 1)
    assert result.exit_code == EnvironmentUnfit.exit_code
    assert "BNF030" in result.stderr
    assert list(repository.iterdir()) == []
    assert run(LENET, "--name", "lenet", "--repository", repository, "--target-ir", ir_version).exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "../x"}, "is no name for a folder"),
        ({"repository": "absent"}, "Create the model repository first"),
        ({"shape": [1, 3], "max_batch": 4}, "no open first axis"),
        ({"shape": None}, "does not say its rank"),
    ],
)
def test_what_cannot_be_deployed_leaves_nothing(
    repository: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    arguments = {"name": "m", **options}
    model = scalar_model(tmp_path / "m.onnx", x=arguments.pop("shape", ["n"]))  # type: ignore[arg-type]
    place = repository / str(arguments.pop("repository", ""))
    with pytest.raises(InputError, match=message):
        deploy(model, place, **arguments)  # type: ignore[arg-type]
    assert list(repository.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_repository_that_cannot_be_written(repository: Path) -> None:
    repository.chmod(0o500)
    with pytest.raises(InputError, match="cannot write"):
        deploy(LENET, repository, name="lenet")


def test_a_file_in_the_way_is_named(repository: Path) -> None:
    shutil.copy(LENET, repository / "lenet")
    with pytest.raises(InputError, match="cannot write"):
        deploy(LENET, repository, name="lenet")


def test_a_configuration_that_cannot_be_read_is_named(repository: Path) -> None:
    (repository / "lenet" / "config.pbtxt").mkdir(parents=True)
    with pytest.raises(InputError, match=r"cannot read .*config\.pbtxt"):
        deploy(LENET, repository, name="lenet")
