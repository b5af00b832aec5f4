"""Findings as SARIF 2.1.0, which code scanning services read.

Source: OASIS, Static Analysis Results Interchange Format (SARIF) Version 2.1.0,
https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from bnfold import __version__
from bnfold.codes import CODES, Code
from bnfold.report.findings import Finding, level_of

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif_document(findings: Sequence[Finding], failed: Mapping[str, str] | None = None) -> dict[str, Any]:
    """One run of bnfold: every code that occurs is a rule, every finding a result at its node.

    Args:
        findings: what was found.
        failed: file → why it could not be looked at. The run is not called a success then, so that an empty list of results
            is not read as a clean model.
    """
    codes = sorted({one.code for one in findings})
    driver = {
        "name": "bnfold",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [_rule(CODES[code]) for code in codes],
    }
    results = [_result(one, codes.index(one.code)) for one in findings]
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "invocations": [_invocation(failed or {})],
                "columnKind": "unicodeCodePoints",
                "results": results,
            }
        ],
    }


def _invocation(failed: Mapping[str, str]) -> dict[str, Any]:
    notifications = [
        {
            "level": "error",
            "message": {"text": message},
            "locations": [{"physicalLocation": {"artifactLocation": {"uri": _uri(path)}}}],
        }
        for path, message in failed.items()
    ]
    return {"executionSuccessful": not failed, "toolExecutionNotifications": notifications}


def _rule(code: Code) -> dict[str, Any]:
    return {
        "id": code.code,
        "name": re.sub("[^A-Za-z0-9]", "", code.title.title()),
        "shortDescription": {"text": code.title},
        "fullDescription": {"text": code.meaning},
        "help": {"text": f"{code.remedy}\n\nSafe to ignore? {code.ignore}"},
        "defaultConfiguration": {"level": level_of(code.code)},
    }


def _result(one: Finding, rule: int) -> dict[str, Any]:
    # A model is no text; services want a line all the same, and the node is named beside it.
    place: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": _uri(one.path)}, "region": {"startLine": 1}}}
    if one.place:
        place["logicalLocations"] = [{"name": one.node, "fullyQualifiedName": one.place, "kind": "element"}]
    told = " ".join(filter(None, (f"{one.place}:" if one.place else "", one.sentence, one.remedy)))
    key = "\0".join((one.path, one.code, one.place))
    return {
        "ruleId": one.code,
        "ruleIndex": rule,
        "level": one.level,
        "message": {"text": told},
        "locations": [place],
        "partialFingerprints": {"bnfoldFinding/v1": hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()},
    }


def _uri(path: str) -> str:
    """A relative reference for a relative path, so that services find it in the repository; else a file URI."""
    pure = PurePath(path)
    return pure.as_uri() if pure.is_absolute() else quote(pure.as_posix())
