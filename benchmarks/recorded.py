"""Where outcomes are kept: full measurements in `benchmarks/`, all that is quick or a part in `benchmarks/.quick`, out of git.

So nothing quick ever takes the place of a full outcome, and each folder has a page of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FULL = Path(__file__).resolve().parent
QUICK = FULL / ".quick"


def folder(quick: bool) -> Path:
    """Where outcomes of this kind, their page and its pictures go."""
    return QUICK if quick else FULL


def load(path: Path) -> dict[str, Any]:
    """One outcome file."""
    document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return document


def save(name: str, document: dict[str, Any]) -> None:
    """Writes one outcome file, to where its own `quick` says."""
    home = folder(document["quick"])
    home.mkdir(exist_ok=True)
    (home / name).write_text(json.dumps(document, indent=1) + "\n", "utf-8")
