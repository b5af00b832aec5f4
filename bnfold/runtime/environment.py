"""What this machine can do: versions, what onnxruntime loads, and each execution provider, tried rather than looked up."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from bnfold import __version__
from bnfold.runtime.providers import Target, ep_devices, plugged_in, resolve, short_name, why_not_loaded

_FIRST_IR, _FIRST_OPSET = 3, 7  # what onnxruntime has loaded since its first release
_UNUSUAL = 999
_NEEDED = ("numpy", "ml_dtypes", "onnx", "onnx_graphsurgeon", "onnxruntime", "click")
_IMPORTED = ("numpy", "ml_dtypes", "onnx", "onnxruntime")
_FEATURES = (
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "sve",
    "i8mm",
    "bf16",
)


@dataclass(frozen=True)
class ProviderState:
    """One execution provider on this machine.

    Attributes:
        name: in full.
        compiled_in: whether the installed onnxruntime contains it.
        loads: whether a session starts with it; None where that was not tried, because it is not there.
        devices: what onnxruntime sees for it, as "GPU NVIDIA H200".
        missing: what keeps it from loading; "" where nothing does.
    """

    name: str
    compiled_in: bool
    loads: bool | None
    devices: tuple[str, ...]
    missing: str

    @property
    def short(self) -> str:
        """As `--provider` takes it."""
        return short_name(self.name)


@dataclass(frozen=True)
class Environment:
    """What `bnfold doctor` found.

    Attributes:
        versions: package → version; None for one that is not installed.
        platform: operating system and architecture.
        cpu: the processor's name.
        features: the instruction sets among those that onnxruntime's kernels use.
        cores: logical processors that this process may use.
        highest_ir: the newest IR version that onnxruntime loads; None where it does not start.
        highest_opset: the same for opsets of the default domain.
        written_ir: the IR version that the installed onnx writes by itself.
        written_opset: the opset that it writes by itself.
        assignment: whether onnxruntime can prove which provider ran a node (1.24 and later).
        providers: the ones that onnxruntime knows or that a plug-in added; those compiled in first.
        problems: what bnfold needs and does not work, one sentence each.
    """

    versions: dict[str, str | None]
    platform: str
    cpu: str
    features: tuple[str, ...]
    cores: int
    highest_ir: int | None
    highest_opset: int | None
    written_ir: int | None
    written_opset: int | None
    assignment: bool
    providers: tuple[ProviderState, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether everything that bnfold needs works; a GPU is not among it."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def examine(plug_in: Target | None = None) -> Environment:
    """Looks at the installed packages, tries onnxruntime and every provider in it, and reads what the processor can do.

    Args:
        plug_in: a provider from a library, which is listed too.

    Raises:
        ProviderUnfit, InputError: the library of `plug_in` cannot be used.
    """
    problems = list(_broken())
    works = not any(problem.split()[0] in ("onnx", "onnxruntime") for problem in problems)
    highest_ir = _highest(lambda version: _loads(version, _FIRST_OPSET), _FIRST_IR) if works else None
    highest_opset = _highest(lambda version: _loads(_FIRST_IR, version), _FIRST_OPSET) if works else None
    if works and plug_in is not None:
        resolve(plug_in)
    providers = _providers() if works else ()
    if works and not any(each.short == "cpu" and each.loads for each in providers):
        problems.append("onnxruntime does not run a model on the CPU. Install it again.")
    flags = _cpuinfo("flags", "Features").split()
    return Environment(
        versions=_versions(),
        platform=f"{platform.system()} {platform.release()}, {platform.machine()}",
        cpu=_cpuinfo("model name", "Hardware") or platform.processor() or platform.machine(),
        features=tuple(name for name in _FEATURES if name in flags),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        highest_ir=highest_ir,
        highest_opset=highest_opset,
        written_ir=_written()[0] if works else None,
        written_opset=_written()[1] if works else None,
        assignment=works and _records_assignment(),
        providers=providers,
        problems=tuple(problems),
    )


def _versions() -> dict[str, str | None]:
    owners = metadata.packages_distributions()
    found: dict[str, str | None] = {"python": sys.version.split()[0], "bnfold": __version__}
    for module in (*_NEEDED, "torch", "onnxscript"):
        packages = owners.get(module, [])
        found[packages[0] if packages else module] = metadata.version(packages[0]) if packages else None
    return found


def _broken() -> list[str]:
    """One sentence for each package that is not there or does not import. torch is optional, and never imported here."""
    problems = []
    for module in _NEEDED:
        try:
            if importlib.util.find_spec(module) is None:
                problems.append(f"{module} is not installed. Install bnfold again, with what it depends on.")
            elif module in _IMPORTED:
                import_module(module)
        except Exception as error:  # a broken installation raises anything
            problems.append(f"{module} cannot be imported: {' '.join(str(error).split())}. Install it again.")
    return problems


def _written() -> tuple[int, int]:
    import onnx
    import onnx.defs

    return int(onnx.IR_VERSION), int(onnx.defs.onnx_opset_version())


def _records_assignment() -> bool:
    import onnxruntime as ort

    return hasattr(ort.InferenceSession, "get_provider_graph_assignment_info")


def _highest(loads: Callable[[int], bool], first: int) -> int | None:
    """The last version from `first` on that still loads."""
    version = first
    while version < _UNUSUAL and loads(version):
        version += 1
    return version - 1 if version > first else None


def _probe(ir_version: int, opset: int) -> bytes:
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", [x], [y])
    opsets = [helper.make_opsetid("", opset)]
    model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version).SerializeToString()
    return model


def _loads(ir_version: int, opset: int) -> bool:
    return _try("CPUExecutionProvider", _probe(ir_version, opset)) == ""


def _try(provider: str, model: bytes, device: Any = None) -> str:
    """Why no session starts with `provider`, or with `device` of a plug-in; "" when one does."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    ort.set_default_logger_severity(4)
    try:
        if device is not None:
            options.add_provider_for_devices([device], {})
        session = ort.InferenceSession(model, options, None if device else [provider], enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        return " ".join(str(error).split()) or type(error).__name__
    finally:
        ort.set_default_logger_severity(2)
    return "" if provider in session.get_providers() else "onnxruntime leaves it out without saying why"


def _providers() -> tuple[ProviderState, ...]:
    import onnxruntime as ort

    compiled = [name for name in ort.get_available_providers() if name not in plugged_in()]
    devices = ep_devices()
    names = sorted(compiled, key=lambda name: name != "CPUExecutionProvider")
    names += sorted({device.ep_name for device in devices} - set(compiled))
    names += sorted(set(ort.get_all_providers()) - set(names), key=str.lower)
    return tuple(_state(name, name in compiled, [each for each in devices if each.ep_name == name]) for name in names)


def _state(name: str, compiled_in: bool, devices: list[Any]) -> ProviderState:
    described = tuple(dict.fromkeys(_device(device) for device in devices))
    if not compiled_in and not devices:
        return ProviderState(name, False, None, (), "")
    failure = _try(name, _probe(_FIRST_IR, _FIRST_OPSET), None if compiled_in else devices[0])
    return ProviderState(name, compiled_in, not failure, described, (why_not_loaded(name) or failure) if failure else "")


def _device(device: Any) -> str:
    hardware = device.device
    named = hardware.metadata.get("Description") or hardware.metadata.get("Name") or hardware.vendor
    return f"{hardware.type.name} {named}".strip()


def _cpuinfo(*keys: str) -> str:
    """The first value of one of `keys` in /proc/cpuinfo; "" where there is no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in pairs if key.strip() in keys), "")
