"""The screen and the document of `bnfold doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnfold.errors import EnvironmentUnfit
from bnfold.report.page import TIED, Page, Style, plain
from bnfold.report.report import document

if TYPE_CHECKING:
    from bnfold.runtime.environment import Environment, ProviderState


def doctor_text(environment: Environment, *, style: Style = plain, width: int = 100, verbose: bool = False) -> str:
    """The screen of `bnfold doctor`; with `verbose` also the providers that this build of onnxruntime does not have."""
    page = Page(style, width)
    versions = " · ".join(f"{name} {version}" for name, version in environment.versions.items() if version)
    lines = page.entry("versions", versions)
    absent = [name for name, version in environment.versions.items() if version is None]
    if absent:
        lines += page.entry("", f"not installed: {', '.join(absent)}")
    features = f" · {' '.join(environment.features)}" if environment.features else ""
    lines += page.entry("machine", f"{environment.platform} · {environment.cores} logical CPUs · {environment.cpu}{features}")
    lines += _loads(page, environment)
    lines += _providers(page, environment, verbose)
    for problem in environment.problems:
        lines += page.entry("BROKEN", problem, "bad")
    if environment.ok:
        lines += page.entry("ok", "everything that bnfold needs works", "good")
    return "\n".join(lines)


def doctor_document(environment: Environment) -> dict[str, Any]:
    """The JSON document of `bnfold doctor`."""
    return document(" ".join(environment.problems), EnvironmentUnfit.exit_code, **environment.to_dict())


def _loads(page: Page, environment: Environment) -> list[str]:
    if environment.highest_ir is None or environment.highest_opset is None:
        return []
    lines = page.entry("loads", f"IR up to {environment.highest_ir} · opset up to {environment.highest_opset}")
    newer = []
    if (environment.written_ir or 0) > environment.highest_ir:
        newer.append(f"IR {environment.written_ir}")
    if (environment.written_opset or 0) > environment.highest_opset:
        newer.append(f"opset {environment.written_opset}")
    if newer:
        text = f"the installed onnx writes {' and '.join(newer)} by default, which this onnxruntime does not load (BNF030)"
        lines += page.entry("", text, "warn")
    return lines


def _providers(page: Page, environment: Environment, verbose: bool) -> list[str]:
    lines: list[str] = []
    here = [state for state in environment.providers if state.compiled_in or state.devices]
    column = max((len(state.short) for state in here), default=0) + 3
    for state in here:
        label = "" if lines else "runs on"
        entry = f"{state.short:{column}}".replace(" ", TIED) + _told(state)
        lines += page.entry(label, entry, "good" if state.loads else "warn", column)
    if here and not environment.assignment:
        text = "this onnxruntime does not tell which provider runs a node: --provider needs 1.24 or later (BNF031)"
        lines += page.entry("", text, "warn")
    others = [state.short for state in environment.providers if state not in here]
    if verbose and others:
        lines += page.entry("lacks", ", ".join(others))
    return lines


def _told(state: ProviderState) -> str:
    where = "compiled in" if state.compiled_in else "plug-in"
    if not state.loads:
        return f"{where}, does not start: {state.missing}"
    return " · ".join(["starts", where, *state.devices])
