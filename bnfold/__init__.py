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
    from bnfold.exporter.export import export
    from bnfold.folded_names import FoldMap, fold_map
    from bnfold.pipeline import FoldResult, fold, inspect, optimize, plan
    from bnfold.population.recalibrate import recalibrate
    from bnfold.report.exported import ExportReport
    from bnfold.report.recalibrated import Recalibration
    from bnfold.report.report import Report
    from bnfold.runtime.accuracy import Accuracy, accuracy
    from bnfold.runtime.bench import bench
    from bnfold.runtime.bench_result import Benchmark
    from bnfold.runtime.providers import Target
    from bnfold.runtime.verify import Verification, verify
    from bnfold.verdict import Fold, Note, Plan, Refusal

__version__ = "0.1.0"

_HOMES = {
    "Accuracy": "runtime.accuracy",
    "Benchmark": "runtime.bench_result",
    "BnfoldError": "errors",
    "EnvironmentUnfit": "errors",
    "ExportReport": "report.exported",
    "Fold": "verdict",
    "FoldMap": "folded_names",
    "FoldResult": "pipeline",
    "GateFailed": "errors",
    "InputError": "errors",
    "Note": "verdict",
    "Plan": "verdict",
    "Recalibration": "report.recalibrated",
    "Refusal": "verdict",
    "Report": "report.report",
    "Target": "runtime.providers",
    "Verification": "runtime.verify",
    "accuracy": "runtime.accuracy",
    "bench": "runtime.bench",
    "export": "exporter.export",
    "fold": "pipeline",
    "fold_map": "folded_names",
    "inspect": "pipeline",
    "optimize": "pipeline",
    "plan": "pipeline",
    "recalibrate": "population.recalibrate",
    "verify": "runtime.verify",
}

__all__ = [
    "Accuracy",
    "Benchmark",
    "BnfoldError",
    "EnvironmentUnfit",
    "ExportReport",
    "Fold",
    "FoldMap",
    "FoldResult",
    "GateFailed",
    "InputError",
    "Note",
    "Plan",
    "Recalibration",
    "Refusal",
    "Report",
    "Target",
    "Verification",
    "accuracy",
    "bench",
    "export",
    "fold",
    "fold_map",
    "inspect",
    "optimize",
    "plan",
    "recalibrate",
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
