"""Which execution provider a model is to run on, and whether the installed onnxruntime has it.

onnxruntime treats a provider as a wish: one that is not compiled in, whose library does not load or that lacks an operator is
replaced by the CPU, with a warning at most. Here a wish is an order: `resolve` refuses what is not there, and
`bnfold.runtime.placement` proves afterwards which provider took which node.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bnfold.errors import EnvironmentUnfit, InputError

SUFFIX = "ExecutionProvider"
CPU_PROVIDER = "CPUExecutionProvider"

EXACT: Mapping[str, Mapping[str, str]] = {
    "CUDAExecutionProvider": {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
}
"""Options for measuring numbers: float32 in float32, not in TF32's 10 bits, and a convolution algorithm chosen by rule, not by a
race between all of them, whose winner may change from one session to the next. A caller's own options win."""

_PACKAGES = {
    "cuda": "onnxruntime-gpu",
    "tensorrt": "onnxruntime-gpu",
    "nvtensorrtrtx": "onnxruntime-trt-rtx",
    "openvino": "onnxruntime-openvino",
    "dml": "onnxruntime-directml",
    "qnn": "onnxruntime-qnn",
    "migraphx": "onnxruntime-migraphx",
}
_registered: dict[Path, frozenset[str]] = {}
"""Plug-in library → the names of the providers that it added to this process. onnxruntime registers a library once."""

_TF32_BY_DEFAULT = ("cuda", "tensorrt", "nvtensorrtrtx")


class ProviderUnfit(EnvironmentUnfit):
    """The requested execution provider is absent, does not load, or did not take the whole model (BNF031)."""


@dataclass(frozen=True)
class Target:
    """Where a model is to run.

    Attributes:
        name: an execution provider: "cuda", "CUDA" or "CUDAExecutionProvider"; for a library, what the caller calls it.
        options: the provider's own options, as "device_id" → "1". For a provider from a library, "device_id" counts the devices
            that the library finds.
        allow_fallback: whether other providers may run a part of the model, or all of it.
        library: the shared library of a plug-in provider; None for one that is compiled into onnxruntime.
    """

    name: str = "cpu"
    options: Mapping[str, str] = field(default_factory=dict, hash=False)
    allow_fallback: bool = False
    library: Path | None = None

    @property
    def short(self) -> str:
        """The name as people type it: "cuda"."""
        return short_name(self.name)

    @property
    def full(self) -> str:
        """The name as onnxruntime spells it, "CUDAExecutionProvider", where it knows it."""
        import onnxruntime as ort

        known: dict[str, str] = {short_name(name): name for name in ort.get_all_providers()}
        return known.get(self.short, self.name)

    @property
    def is_cpu(self) -> bool:
        """Whether this is onnxruntime's own CPU provider."""
        return self.short == "cpu" and self.library is None

    @property
    def label(self) -> str:
        """The name as messages spell it: "CUDA"."""
        return self.full.removesuffix(SUFFIX)

    def settings(self, *, exact: bool) -> dict[str, str]:
        """The options to open the provider with.

        Args:
            exact: whether numbers are measured, rather than time: `EXACT` is added.
        """
        rules = {short_name(name): options for name, options in EXACT.items()} if exact and self.library is None else {}
        return {**rules.get(self.short, {}), **self.options}

    def uses_tf32(self, *, exact: bool = True) -> bool:
        """Whether float32 products may be rounded to TF32 (10 bits of mantissa) on the way.

        NVIDIA's providers do that by default on hardware since Ampere; the CUDA provider's `use_tf32=0` and the environment's
        NVIDIA_TF32_OVERRIDE=0 (https://docs.nvidia.com/cuda/cublas/) turn it off.
        """
        if self.short not in _TF32_BY_DEFAULT or os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
            return False
        return self.settings(exact=exact).get("use_tf32", "1") != "0"


CPU = Target()
"""onnxruntime's own provider, the default everywhere."""


@dataclass(frozen=True)
class Provider:
    """A target that the installed onnxruntime has.

    Attributes:
        name: in full, as onnxruntime reports it: "CUDAExecutionProvider".
        devices: for a plug-in, the one `OrtEpDevice` to run on; empty for a compiled-in provider.
    """

    name: str
    devices: tuple[Any, ...] = ()


def short_name(name: str) -> str:
    """ "cuda" for "CUDAExecutionProvider", "CUDA" and "cuda"."""
    return name.lower().removesuffix(SUFFIX.lower())


def resolve(target: Target) -> Provider:
    """Finds the provider that `target` names in the installed onnxruntime.

    Raises:
        ProviderUnfit: it is not compiled in, or its library offers nothing that can be used on this machine.
        InputError: the library does not exist, or a device number is out of range.
    """
    import onnxruntime as ort

    if target.library is not None:
        return _plugged_in(target, target.library)
    for name in ort.get_available_providers():
        if short_name(name) == target.short:
            return Provider(name)
    devices = [device for device in ep_devices() if short_name(device.ep_name) == target.short]
    if devices:  # registered by whoever imported onnxruntime, or bundled with it
        return Provider(devices[0].ep_name, (_chosen(devices, target),))
    raise ProviderUnfit(_absent(target))


def ep_devices() -> list[Any]:
    """Every `OrtEpDevice` that onnxruntime sees; none before version 1.23, which has no such list."""
    import onnxruntime as ort

    return list(ort.get_ep_devices()) if hasattr(ort, "get_ep_devices") else []


def plugged_in() -> frozenset[str]:
    """The providers that bnfold has added to this process from libraries; onnxruntime lists them with those compiled in."""
    return frozenset().union(*_registered.values())


def why_not_loaded(provider: str) -> str:
    """What the dynamic linker says about the shared library of a compiled-in provider; "" when it loads or there is none.

    Only the first library that is missing is named; the next one shows once that is there.
    """
    path = provider_library(provider)
    if path is None:
        return ""
    try:
        ctypes.CDLL(str(path.with_name(path.name.replace(_stem(provider), "shared"))), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(path))
    except OSError as error:
        return str(error).removesuffix(": No such file or directory")
    return ""


def provider_library(provider: str) -> Path | None:
    """The shared library beside onnxruntime that holds a compiled-in provider; None for one inside onnxruntime itself."""
    import onnxruntime as ort

    folder = Path(ort.__file__).parent / "capi"
    stem = f"onnxruntime_providers_{_stem(provider)}"
    return next((path for path in sorted(folder.glob(f"*{stem}.*")) if path.suffix in (".so", ".dll", ".dylib")), None)


def _stem(provider: str) -> str:
    return {"nvtensorrtrtx": "nv_tensorrt_rtx"}.get(short_name(provider), short_name(provider))


def _absent(target: Target) -> str:
    import onnxruntime as ort

    known = {short_name(name) for name in ort.get_all_providers()}
    has = ", ".join(short_name(name) for name in ort.get_available_providers())
    if target.short not in known:
        return (
            f"onnxruntime {ort.__version__} knows no execution provider {target.name!r} (BNF031). This build has: {has}. "
            f"A plug-in provider needs its library: --provider-library {target.name}=PATH."
        )
    package = _PACKAGES.get(target.short)
    remedy = f"Install {package}" if package else "Install an onnxruntime that is built with it"
    return (
        f"the {target.label} provider was asked for, but this build of onnxruntime {ort.__version__} does not have it "
        f"(BNF031): it has {has}. {remedy}, or leave out --provider."
    )


def _plugged_in(target: Target, library: Path) -> Provider:
    if not library.is_file():
        raise InputError(f"the provider library {library} does not exist. Give its path: --provider-library {target.name}=PATH.")
    offered = _registered.get(library.resolve()) or _register(target.name, library.resolve())
    devices = [device for device in ep_devices() if device.ep_name in offered]
    if not devices:
        raise ProviderUnfit(
            f"the provider library {library} loads, but finds no device on this machine that it can use (BNF031). "
            "`bnfold doctor` lists the devices that onnxruntime sees."
        )
    same = [device for device in devices if short_name(device.ep_name) == target.short]
    if not same and len({device.ep_name for device in devices}) > 1:
        names = ", ".join(sorted({device.ep_name for device in devices}))
        raise InputError(f"the provider library {library} offers several providers: {names}. Ask for one of them by its name.")
    chosen = _chosen(same or devices, target)
    return Provider(chosen.ep_name, (chosen,))


def _register(name: str, library: Path) -> frozenset[str]:
    """Registers a plug-in library for the rest of the process; the names of the providers that it adds."""
    import onnxruntime as ort

    if not hasattr(ort, "register_execution_provider_library"):
        raise ProviderUnfit(f"onnxruntime {ort.__version__} takes no plug-in providers (BNF031). Upgrade it to 1.23 or later.")
    before = {device.ep_name for device in ep_devices()}
    try:
        ort.register_execution_provider_library(name, str(library))
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        reason = " ".join(str(error).split()).rpartition(" : ")[2]
        raise ProviderUnfit(f"onnxruntime {ort.__version__} cannot load {library} as a provider (BNF031): {reason}") from None
    _registered[library] = frozenset(device.ep_name for device in ep_devices() if device.ep_name not in before)
    return _registered[library]


def _chosen(devices: Sequence[Any], target: Target) -> Any:
    number = target.options.get("device_id", "0")
    if not (number.isascii() and number.isdigit() and int(number) < len(devices)):
        raise InputError(f"device_id={number}: the {target.label} provider has {len(devices)} devices, counted from 0.")
    return devices[int(number)]
