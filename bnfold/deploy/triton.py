"""A model repository for the Triton Inference Server: `NAME/config.pbtxt` and `NAME/VERSION/model.onnx`.

Source: https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_repository.md and
model_configuration.md beside it; the fields are those of triton-inference-server/common, protobuf/model_config.proto.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from bnfold.errors import EnvironmentUnfit, InputError
from bnfold.model import Model

if TYPE_CHECKING:
    import onnx

Instance: TypeAlias = Literal["auto", "cpu", "gpu"]

_TYPES = {
    "BOOL": "TYPE_BOOL",
    "UINT8": "TYPE_UINT8",
    "UINT16": "TYPE_UINT16",
    "UINT32": "TYPE_UINT32",
    "UINT64": "TYPE_UINT64",
    "INT8": "TYPE_INT8",
    "INT16": "TYPE_INT16",
    "INT32": "TYPE_INT32",
    "INT64": "TYPE_INT64",
    "FLOAT16": "TYPE_FP16",
    "FLOAT": "TYPE_FP32",
    "DOUBLE": "TYPE_FP64",
    "STRING": "TYPE_STRING",
    "BFLOAT16": "TYPE_BF16",
}
_KINDS: dict[Instance, str] = {"auto": "KIND_AUTO", "cpu": "KIND_CPU", "gpu": "KIND_GPU"}


@dataclass(frozen=True)
class Deployment:
    """What was written.

    Attributes:
        folder: the model's folder in the repository.
        files: every file, relative to `folder`.
        config: the text of config.pbtxt.
    """

    folder: str
    files: tuple[str, ...]
    config: str


def deploy(
    model: str | os.PathLike[str],
    repository: str | os.PathLike[str],
    *,
    name: str,
    version: int = 1,
    max_batch: int = 0,
    instance: Instance = "auto",
    count: int = 1,
    target_ir: int | None = None,
) -> Deployment:
    """Puts a model into a Triton model repository.

    Args:
        model: the model file; it is copied as it is, with its external data.
        repository: an existing folder.
        name: what clients call the model.
        version: the numbered folder for this file.
        max_batch: the largest batch that Triton may form, by dynamic batching. The first axis of every input and output
            must be open then. 0 leaves batching to the clients.
        instance: where instances run; "auto" leaves it to Triton.
        count: how many instances, for each device.
        target_ir: the highest IR version that the server's onnxruntime loads.

    Raises:
        InputError: the model does not fit what is asked for, the repository does not exist, or this version of the model
            is there already.
        EnvironmentUnfit: the model's IR version is above `target_ir` (BNF030), or the disk is full.
    """
    own, root = Model.open(Path(model)), Path(repository)
    if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
        raise InputError(f"{name!r} is no name for a folder of the repository: use letters, digits, '_', '-' and '.'.")
    if not root.is_dir():
        raise InputError(f"{root} is no folder. Create the model repository first.")
    if target_ir is not None and own.proto.ir_version > target_ir:
        raise EnvironmentUnfit(
            f"{model} has IR version {own.proto.ir_version}, and the server loads up to {target_ir} (BNF030). "
            "Export the model with an older version of onnx, or upgrade the server."
        )
    folder = root / name
    if (folder / str(version)).exists():
        raise InputError(f"{folder / str(version)} exists already. Choose another --version, or remove it.")
    config = _config(own.proto.graph, name, max_batch, instance, count)
    present = folder / "config.pbtxt"
    if _text_of(present) not in (None, config):
        raise InputError(f"{present} exists and says something else. Other versions share it: remove it, or choose another name.")
    return _write(own, folder, version, config)


def _text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}.") from error


def _write(model: Model, folder: Path, version: int, config: str) -> Deployment:
    """Everything is written beside its place and renamed, so that a polling server sees all of it or nothing."""
    assert model.path is not None
    assert model.folder is not None
    try:
        stage = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            home = stage / str(version)
            home.mkdir()
            shutil.copyfile(model.path, home / "model.onnx")
            for data in model.external_files():
                place = home / data.relative_to(model.folder)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(data, place)
            (stage / "config.pbtxt").write_text(config, encoding="utf-8")
            files = tuple(sorted(str(file.relative_to(stage)) for file in stage.rglob("*") if file.is_file()))
            stage.chmod(0o755)
            if folder.exists():
                os.replace(home, folder / str(version))
                os.replace(stage / "config.pbtxt", folder / "config.pbtxt")
            else:
                os.replace(stage, folder)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}.") from error
    return Deployment(str(folder), files, config)


def _config(graph: onnx.GraphProto, name: str, max_batch: int, instance: Instance, count: int) -> str:
    constant = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constant]
    lines = [
        f"name: {_text(name)}",
        'backend: "onnxruntime"',
        'default_model_filename: "model.onnx"',
        f"max_batch_size: {max_batch}",
    ]
    for role, values in (("input", inputs), ("output", list(graph.output))):
        for value in values:
            lines += [f"{role} {{", *(f"  {line}" for line in _tensor(value, role, max_batch)), "}"]
    lines += ["instance_group {", f"  kind: {_KINDS[instance]}", f"  count: {count}", "}"]
    lines += ["dynamic_batching {", "}"] if max_batch else []
    return "\n".join(lines) + "\n"


def _tensor(value: onnx.ValueInfoProto, role: str, max_batch: int) -> Iterator[str]:
    import onnx

    tensor = value.type.tensor_type
    elem_type = onnx.TensorProto.DataType.Name(tensor.elem_type) if value.type.HasField("tensor_type") else ""
    if elem_type not in _TYPES:
        raise InputError(f"{role} `{value.name}` is no tensor of a type that Triton knows, so Triton cannot serve the model.")
    if not tensor.HasField("shape"):
        raise InputError(
            f"{role} `{value.name}` does not say its rank, which Triton needs. Run onnx.shape_inference on the model."
        )
    dims = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else -1 for dim in tensor.shape.dim]
    if max_batch:
        if not dims or dims[0] != -1:
            raise InputError(
                f"{role} `{value.name}` has no open first axis, so Triton cannot form batches. Leave out --max-batch, or export "
                "the model with a dynamic batch."
            )
        dims = dims[1:]
    yield f"name: {_text(value.name)}"
    yield f"data_type: {_TYPES[elem_type]}"
    if dims:
        yield f"dims: [ {', '.join(map(str, dims))} ]"
    else:  # a scalar: Triton wants at least one dimension, and reshapes
        yield "dims: [ 1 ]"
        yield "reshape { shape: [ ] }"


def _text(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)
