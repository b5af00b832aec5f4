"""The linter: what is left to fold or to mend in model files. Reads and decides; runs and writes nothing."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from bnfold.codes import CODES
from bnfold.errors import BnfoldError, InputError
from bnfold.model_files import model_files
from bnfold.report.findings import Check, Finding, Unreadable, level_of, plan_findings

ALL = "ALL"
"""Selects every code, those that only explain why a normalization stays among them."""

_FOLDABLE = "BNF003"


def check(models: Sequence[str], *, select: Sequence[str] = (), ignore: Sequence[str] = (), fix: bool = False) -> Check:
    """Looks for foldable normalizations and for signs of a model that is not fit for deployment.

    Args:
        models: files, folders and glob patterns.
        select: codes, or their beginnings, or "ALL". Without any: the codes of level error and warning. The others only say
            why a normalization has to stay.
        ignore: codes or beginnings that are not reported; stronger than `select`.
        fix: fold what can be folded in place, once each result is verified, and report what is left. Where BNF003 is not
            among the codes, nothing is folded.

    Raises:
        InputError: a name in `models` stands for no file, or a pattern for no code.
    """
    chosen = _codes(select, "select") if select else {code for code in CODES if level_of(code) != "note"}
    chosen -= _codes(ignore, "ignore")
    files = model_files(models)
    findings: list[Finding] = []
    unreadable: list[Unreadable] = []
    for file in files:
        left: list[Finding] = []
        try:
            left = _found(file)
            if fix and _FOLDABLE in chosen:
                left = _fixed(file, left)
        except BnfoldError as error:
            unreadable.append(Unreadable(str(file), str(error), error.exit_code))
        findings += [one for one in left if one.code in chosen]
    return Check(tuple(map(str, files)), tuple(findings), tuple(unreadable))


def _found(file: Path) -> list[Finding]:
    from bnfold.pipeline import inspect

    return list(plan_findings(str(file), inspect(file).plan))


def _fixed(file: Path, before: list[Finding]) -> list[Finding]:
    from bnfold.pipeline import optimize

    if all(one.code != _FOLDABLE for one in before):
        return before
    report = optimize(file, file)
    if report.verification is None or report.verification.ok:
        return _found(file)
    return [*before, *(Finding(str(file), "BNF040", "", "", sentence) for sentence in report.verification.failures)]


def _codes(patterns: Sequence[str], option: str) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        wanted = pattern.strip().upper()
        codes = {code for code in CODES if wanted in (ALL, "") or code.startswith(wanted)}
        if not codes or not wanted:
            near = difflib.get_close_matches(wanted, CODES, 1)
            raise InputError(f"--{option} {pattern!r} is no code of bnfold.{f' Did you mean {near[0]}?' if near else ''}")
        found |= codes
    return found
