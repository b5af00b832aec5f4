"""Opening a model in onnxruntime and running it. What onnxruntime raises becomes an error that says what to do."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from bnfold.errors import BnfoldError, EnvironmentUnfit, InputError
from bnfold.runtime.source import Source

if TYPE_CHECKING:
    import onnxruntime as ort

Level: TypeAlias = Literal["disabled", "default"]

LEVELS: tuple[Level, ...] = ("disabled", "default")
"""onnxruntime's graph optimizations: none (the graph as it is written), and what users get without asking."""

Value: TypeAlias = Any
"""What a model takes or gives: an array, None for an absent optional, a list for a sequence, a dict for a map."""

_SILENT = 4  # log severity "fatal"
_MESSAGE_CHARACTERS = 300


class CannotRun(EnvironmentUnfit):
    """The installed onnxruntime cannot load the model, or cannot hand its outputs over; folding needs neither."""


class NoKernel(CannotRun):
    """onnxruntime has no implementation of an operator of the model for its types."""


class ModelRejected(InputError):
    """onnxruntime takes the model for invalid."""


class RunFailed(InputError):
    """The model stopped on this input."""


class Session:
    """One model in onnxruntime on the CPU.

    Args:
        source: what to open.
        level: how much onnxruntime may optimize.

    Raises:
        CannotRun: the IR version or an opset is above what the runtime loads (BNF030), or it lacks a kernel (`NoKernel`).
        ModelRejected: the model is invalid.
    """

    def __init__(self, source: Source, level: Level) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = _SILENT
        options.use_deterministic_compute = True
        levels = ort.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if level == "default" else levels.ORT_DISABLE_ALL
        if isinstance(source.payload, bytes) and source.folder is not None:
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(source.folder))
        model = source.payload if isinstance(source.payload, bytes) else str(source.payload)
        self._label = source.label
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise _opening_error(error, source.label, ort.__version__) from None
        self._output_is_bfloat16 = [spec.elem_type == "bfloat16" for spec in source.outputs]
        self._by_bits = any(spec.elem_type == "bfloat16" for spec in (*source.inputs, *source.outputs))
        self._output_names = [output.name for output in self._session.get_outputs()]

    def run(self, feed: Mapping[str, Value]) -> list[Value]:
        """The model's outputs for `feed` (input name → value), in the order of its graph outputs.

        Raises:
            RunFailed: the model does not run on this input.
        """
        try:
            if self._by_bits:
                return self._run_with_ort_values(feed)
            outputs: list[Value] = self._session.run(self._output_names, dict(feed))
        except Exception as error:  # as above
            raise RunFailed(f"{self._label} stops on this input: {brief(error)}") from None
        return outputs

    def _run_with_ort_values(self, feed: Mapping[str, Value]) -> list[Value]:
        # numpy has no bfloat16, so onnxruntime neither takes nor gives such arrays; it does take and give the bits.
        values = {name: _to_ort_value(value) for name, value in feed.items()}
        results = self._session.run_with_ort_values(self._output_names, values)
        return [
            _bfloat16_array(result) if is_bfloat16 else result.numpy()
            for result, is_bfloat16 in zip(results, self._output_is_bfloat16, strict=True)
        ]


def brief(error: Exception) -> str:
    """The message of onnxruntime without its prefix, its source locations and line breaks, cut to one sentence."""
    text = " ".join(str(error).split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"/\S+\.(?:cc|h|hpp|cpp):\d+ .*?\)(?: const)? ", "", text)
    text = re.sub(r"^Non-zero status code returned while running (\S+) node\. Name:'(.*?)' Status Message: ", _operator, text)
    text = text if len(text) <= _MESSAGE_CHARACTERS else text[:_MESSAGE_CHARACTERS] + " …"
    return text if text.endswith((".", "…")) else text + "."


def _operator(found: re.Match[str]) -> str:
    return f"{found[1]} `{found[2]}`: " if found[2] else f"{found[1]}: "


def _opening_error(error: Exception, label: str, version: str) -> BnfoldError:
    text = str(error)
    if found := re.search(r"IR version: (\d+), max supported IR version: (\d+)", text):
        return _too_new(label, f"IR version {found[1]}", found[2], version)
    if found := re.search(r"Opset (\d+) is under development.*support for domain (\S+) is till opset (\d+)", text, re.S):
        return _too_new(label, f"opset {found[1]} of domain {found[2]}", found[3], version)
    if found := re.search(r"Could not find an implementation for (\w+\(\d+\)) node with name '(.*?)'", text):
        what = f"{found[1]}{found[2] and f' `{found[2]}`'} with the types it has in {label}"
        return NoKernel(f"onnxruntime {version} has no CPU kernel for {what}, so it cannot run the model.")
    if found := re.search(r"Fatal error: (\S+?)\(-?\d+\) is not a registered function/op", text):
        what = f"the operator {found[1]} of {label}"
        return NoKernel(f"onnxruntime {version} does not know {what}, so it cannot run the model.")
    if type(error).__name__ == "NotImplemented":
        return NoKernel(f"onnxruntime {version} cannot run {label}: {brief(error)}")
    return ModelRejected(f"onnxruntime {version} does not accept {label}: {brief(error)}")


def _too_new(label: str, found: str, supported: str, version: str) -> CannotRun:
    return CannotRun(
        f"{label} has {found}, and onnxruntime {version} loads up to {supported} (BNF030). "
        "Upgrade onnxruntime, or export the model with an older version."
    )


def _to_ort_value(value: Value) -> ort.OrtValue:
    import onnx
    import onnxruntime as ort

    array = np.array(value, order="C")
    if array.dtype == ml_dtypes.bfloat16:
        bits = array.view(np.uint16)
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, onnx.TensorProto.BFLOAT16)
    return ort.OrtValue.ortvalue_from_numpy(array)


def _bfloat16_array(value: ort.OrtValue) -> NDArray[Any]:
    shape = tuple(value.shape())
    count = int(np.prod(shape, dtype=np.int64))
    if count == 0:
        return np.zeros(shape, ml_dtypes.bfloat16)
    bits = ctypes.string_at(value.data_ptr(), 2 * count)
    array: NDArray[Any] = np.frombuffer(bits, ml_dtypes.bfloat16).reshape(shape)
    return array
