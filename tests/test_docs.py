"""The pages under docs/ tell the truth: their shell and Python blocks run in order, with the exit codes that they state."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("bench", "ci", "providers", "reports")
"""Pages whose blocks run in a folder that holds only models/lenet.onnx."""


def blocks(page: str, *languages: str) -> list[tuple[str, str]]:
    text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    return [(kind, body) for kind, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S) if kind in languages]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with the LeNet in it, and a `bnfold` that is the one under test."""
    (tmp_path / "models").mkdir()
    shutil.copy(ROOT / "models" / "lenet.onnx", tmp_path / "models")
    (tmp_path / "bin").mkdir()
    for name, words in (("bnfold", f'"{sys.executable}" -m bnfold'), ("python", f'"{sys.executable}"')):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    return subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run(page: str, workplace: Path) -> None:
    ran = 0
    for language, body in blocks(page, "sh", "python"):
        if language == "python":
            (workplace / "example.py").write_text(body)
            body = "python example.py"
        for line in body.replace("\\\n", " ").splitlines():
            stated = re.search(r"# exit (\d+)", line)
            result = run(line, workplace)
            assert result.returncode == int(stated[1] if stated else 0), f"{line}\n{result.stdout}{result.stderr}"
            ran += 1
    assert ran


@pytest.mark.parametrize("page", sorted(path.stem for path in (ROOT / "docs").glob("*.md")))
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", (ROOT / "docs" / f"{page}.md").read_text("utf-8")):
        assert target.startswith("http") or (ROOT / "docs" / target).exists(), target
