"""What a report says about where it was made: versions, the machine, and each file with its hash."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bnfold import __version__
from bnfold.report import figures
from bnfold.report.html.parts import Block, Column, Command, Facts, Section, Table, text_rows

_PACKAGES = ("numpy", "onnx", "onnx-graphsurgeon")
_RUNTIMES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-directml",
    "onnxruntime-rocm",
    "onnxruntime-qnn",
)


def evidence(command: str, files: list[tuple[str, str]]) -> Section:
    """The section that lets somebody else do it again.

    Args:
        command: the command line; "" where there was none.
        files: (what it is, path) of each file that took part.
    """
    rows = [row for role, path in files if (row := _file(role, Path(path)))]
    table = Table(
        "Files",
        (Column("file"), Column("path"), Column("size"), Column("sha256")),
        text_rows(rows, ("text", "code", "text", "code")),
        "file",
    )
    blocks: list[Block] = [*([Command(command)] if command else []), *([table] if rows else []), Facts(_environment())]
    return Section("evidence", "How it was made", tuple(blocks))


def _file(role: str, path: Path) -> tuple[str, str, str, str] | None:
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return role, str(path), figures.size(path.stat().st_size), digest
    except OSError:
        return None


def _environment() -> tuple[tuple[str, str], ...]:
    installed = ((name, _version(name)) for name in (*_PACKAGES, *_RUNTIMES))
    versions = [
        ("bnfold", __version__),
        ("Python", platform.python_version()),
        *((name, found) for name, found in installed if found),
    ]
    machine = (
        f"{platform.system()} {platform.release()}, {platform.machine()}, {figures.count(os.cpu_count() or 1, 'logical CPU')}"
    )
    return (*versions, ("machine", machine))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
