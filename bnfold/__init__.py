"""Folds inference-mode batch normalization into the operators around it, proves that nothing changed, and says why
about everything it left alone.

    import bnfold
    report = bnfold.optimize("model.onnx", "model.folded.onnx")
    report.raise_for_status()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnfold.errors import BnfoldError, EnvironmentUnfit, GateFailed, InputError
    from bnfold.pipeline import FoldResult, fold, inspect, optimize, plan
    from bnfold.report.report import Report
    from bnfold.runtime.verify import Verification, verify
    from bnfold.verdict import Fold, Note, Plan, Refusal

__version__ = "0.1.0"

_HOMES = {
    "BnfoldError": "errors",
    "EnvironmentUnfit": "errors",
    "Fold": "verdict",
    "FoldResult": "pipeline",
    "GateFailed": "errors",
    "InputError": "errors",
    "Note": "verdict",
    "Plan": "verdict",
    "Refusal": "verdict",
    "Report": "report.report",
    "Verification": "runtime.verify",
    "fold": "pipeline",
    "inspect": "pipeline",
    "optimize": "pipeline",
    "plan": "pipeline",
    "verify": "runtime.verify",
}

__all__ = [
    "BnfoldError",
    "EnvironmentUnfit",
    "Fold",
    "FoldResult",
    "GateFailed",
    "InputError",
    "Note",
    "Plan",
    "Refusal",
    "Report",
    "Verification",
    "fold",
    "inspect",
    "optimize",
    "plan",
    "verify",
]


def __getattr__(name: str) -> Any:
    # Looked up on first use (PEP 562), so that `bnfold --help` loads neither onnx nor onnxruntime.
    if name not in _HOMES:
        raise AttributeError(f"module 'bnfold' has no attribute {name!r}")
    value = getattr(import_module(f"bnfold.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
