"""Opening a model in onnxruntime and running it. What onnxruntime raises becomes an error that says what to do."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from bnfold.errors import BnfoldError, EnvironmentUnfit, InputError
from bnfold.runtime.placement import RECORD, Placement, bookkeeping, check, counted, examples, operators, recorded, strayed
from bnfold.runtime.providers import CPU, CPU_PROVIDER, Provider, ProviderUnfit, Target, resolve, why_not_loaded
from bnfold.runtime.source import Source

if TYPE_CHECKING:
    import onnx
    import onnxruntime as ort

Level: TypeAlias = Literal["disabled", "default"]

LEVELS: tuple[Level, ...] = ("disabled", "default")
"""onnxruntime's graph optimizations: none (the graph as it is written), and what users get without asking."""

Value: TypeAlias = Any
"""What a model takes or gives: an array, None for an absent optional, a list for a sequence, a dict for a map."""

_TELLING = ("device_id", "device_type", "precision", "use_tf32", "cudnn_conv_algo_search", "prefer_nhwc", "trt_fp16_enable")
"""Options whose values say something about the numbers or the time, also where nobody set them."""

_ABOUT_THE_MODEL = ("InvalidGraph", "InvalidProtobuf", "NoSuchFile", "ModelLoaded")
_SILENT = 4  # log severity "fatal"
_WARNING = 2  # what onnxruntime starts with
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
    """One model in onnxruntime.

    Args:
        source: what to open.
        level: how much onnxruntime may optimize.
        target: where to run it.
        threads: how many a CPU kernel may use; 0 leaves it to onnxruntime, one for each core.

    Attributes:
        placement: which provider runs it, with which options, and which nodes it took.

    Raises:
        CannotRun: the IR version or an opset is above what the runtime loads (BNF030), or it lacks a kernel (`NoKernel`).
        ProviderUnfit: the provider is absent, or does not run every compute node and the target allows no fallback (BNF031).
        ModelRejected: the model is invalid.
    """

    def __init__(self, source: Source, level: Level, target: Target = CPU, threads: int = 0) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.use_deterministic_compute = True
        options.intra_op_num_threads = threads
        levels = ort.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if level == "default" else levels.ORT_DISABLE_ALL
        self._label = source.label
        self._session, self.placement = open_session(source, options, target, exact=True)
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
            raise _running_error(error, self._label, self.placement.provider) from None
        return outputs

    def _run_with_ort_values(self, feed: Mapping[str, Value]) -> list[Value]:
        # numpy has no bfloat16, so onnxruntime neither takes nor gives such arrays; it does take and give the bits.
        values = {name: to_ort_value(value) for name, value in feed.items()}
        results = self._session.run_with_ort_values(self._output_names, values)
        return [
            _bfloat16_array(result) if is_bfloat16 else result.numpy()
            for result, is_bfloat16 in zip(results, self._output_is_bfloat16, strict=True)
        ]


def open_session(
    source: Source, options: ort.SessionOptions, target: Target, *, exact: bool, disabled: Sequence[str] = ()
) -> tuple[ort.InferenceSession, Placement]:
    """Opens `source` on `target`, and proves that it runs there.

    Args:
        source: what to open.
        options: the session's; the provider and where external data lies are added to it.
        target: where to run it.
        exact: whether numbers are measured, rather than time; see `Target.settings`.
        disabled: names of onnxruntime's graph optimizers that must not run.

    Raises:
        CannotRun, ProviderUnfit, ModelRejected: as for `Session`.
    """
    import onnxruntime as ort

    provider = resolve(target)
    settings = target.settings(exact=exact)
    options.log_severity_level = _SILENT
    if isinstance(source.payload, bytes) and source.folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(source.folder))
    if not target.is_cpu:
        options.add_session_config_entry(RECORD, "1")
    if provider.devices:
        options.add_provider_for_devices(list(provider.devices), {k: v for k, v in settings.items() if k != "device_id"})
        providers = None
    else:
        providers = [(provider.name, settings)]
    model = source.payload if isinstance(source.payload, bytes) else str(source.payload)
    if not target.is_cpu:
        ort.set_default_logger_severity(_SILENT)  # a provider that does not load writes to this one, whatever the session's is
    try:
        # Without enable_fallback=0, onnxruntime prints on stdout and starts over on the CPU when a provider fails.
        session = ort.InferenceSession(model, options, providers, disabled_optimizers=list(disabled), enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        raise _opening_error(error, source.label, ort.__version__, target) from None
    finally:
        if not target.is_cpu:
            ort.set_default_logger_severity(_WARNING)
    if provider.name not in session.get_providers():
        raise ProviderUnfit(_not_started(provider, ort.__version__))
    placement = _placement(
        session, source, provider, settings, deterministic=options.use_deterministic_compute, tf32=target.uses_tf32(exact=exact)
    )
    check(placement, target, source.label)
    return session, placement


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


def _placement(
    session: ort.InferenceSession,
    source: Source,
    provider: Provider,
    settings: Mapping[str, str],
    *,
    deterministic: bool,
    tf32: bool,
) -> Placement:
    effective = {**settings, **{k: v for k, v in session.get_provider_options()[provider.name].items() if k in _TELLING}}
    common = partial(Placement, provider.name, effective, deterministic, tf32)
    if provider.name == CPU_PROVIDER:
        return common()
    placed = recorded(session)
    if placed is None:
        return common()
    if all(node.provider == provider.name for node in placed):
        return common(counted(placed))
    lost = strayed(placed, provider.name, bookkeeping(_graph(source)))
    return common(counted(placed), operators(lost), examples(lost))


def _graph(source: Source) -> onnx.ModelProto:
    """The model's graph once more; only a target that did not take all nodes needs it."""
    import onnx

    from bnfold.model import Model

    if isinstance(source.payload, bytes):
        return onnx.load_model_from_string(source.payload)
    return Model.open(source.payload).proto


def _not_started(provider: Provider, version: str) -> str:
    reason = why_not_loaded(provider.name) or "onnxruntime does not say why; there may be no device or driver for it"
    return (
        f"onnxruntime {version} has {provider.name}, but it does not start on this machine (BNF031): {reason}. "
        "`bnfold doctor` lists what each provider lacks."
    )


def _running_error(error: Exception, label: str, provider: str) -> BnfoldError:
    if type(error).__name__ == "EPFail":
        return ProviderUnfit(f"{provider} fails while it runs {label} (BNF031): {brief(error)}")
    return RunFailed(f"{label} stops on this input: {brief(error)}")


def _opening_error(error: Exception, label: str, version: str, target: Target) -> BnfoldError:
    text = str(error)
    if found := re.search(r"IR version: (\d+), max supported IR version: (\d+)", text):
        return _too_new(label, f"IR version {found[1]}", found[2], version)
    if found := re.search(r"Opset (\d+) is under development.*support for domain (\S+) is till opset (\d+)", text, re.S):
        return _too_new(label, f"opset {found[1]} of domain {found[2]}", found[3], version)
    if found := re.search(r"Could not find an implementation for (\w+\(\d+\)) node with name '(.*?)'", text):
        what = f"{found[1]}{found[2] and f' `{found[2]}`'} with the types it has in {label}"
        where = "no CPU kernel" if target.is_cpu else f"a kernel neither for {target.label} nor for the CPU"
        return NoKernel(f"onnxruntime {version} has {where} for {what}, so it cannot run the model.")
    if found := re.search(r"Fatal error: (\S+?)\(-?\d+\) is not a registered function/op", text):
        what = f"the operator {found[1]} of {label}"
        return NoKernel(f"onnxruntime {version} does not know {what}, so it cannot run the model.")
    if type(error).__name__ == "NotImplemented":
        return NoKernel(f"onnxruntime {version} cannot run {label}: {brief(error)}")
    if not target.is_cpu and type(error).__name__ not in _ABOUT_THE_MODEL:
        return ProviderUnfit(_not_opened(error, label, version, target))
    return ModelRejected(f"onnxruntime {version} does not accept {label}: {brief(error)}")


def _not_opened(error: Exception, label: str, version: str, target: Target) -> str:
    missing = "" if target.library else why_not_loaded(target.full)
    return f"onnxruntime {version} cannot open {label} on {target.label} (BNF031): {missing and missing + '. '}{brief(error)}"


def _too_new(label: str, found: str, supported: str, version: str) -> CannotRun:
    return CannotRun(
        f"{label} has {found}, and onnxruntime {version} loads up to {supported} (BNF030). "
        "Upgrade onnxruntime, or export the model with an older version."
    )


def to_ort_value(value: Value) -> ort.OrtValue:
    """The array as onnxruntime's own value, which unlike numpy's may be bfloat16."""
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
