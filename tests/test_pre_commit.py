"""The hooks of .pre-commit-hooks.yaml, run by pre-commit itself in a scratch repository, from a clone of this one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
    pytest.mark.skipif(find_spec("pre_commit") is None, reason="pre-commit is not installed (pip install '.[test]')"),
]


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main", "-c", "core.hooksPath=")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=False, env=clean())
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def clean() -> dict[str, str]:
    """The environment without what git sets inside its own hooks."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "BNFOLD_", "PYTHON"))}


@pytest.fixture(scope="module")
def hooks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A repository with these very sources, committed or not, and its revision."""
    folder = tmp_path_factory.mktemp("hooks")
    for name in ("pyproject.toml", "README.md", "LICENSE", ".pre-commit-hooks.yaml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "bnfold", folder / "bnfold", ignore=shutil.ignore_patterns("__pycache__"))
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "hooks")
    return folder, git(folder, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pre-commit builds the hooks' environment, once for all tests."""
    return tmp_path_factory.mktemp("pre-commit")


@pytest.fixture
def repository(tmp_path: Path, hooks: tuple[Path, str]) -> Path:
    """A repository that holds models and uses the hooks."""
    git(tmp_path, "init", "-q")
    (tmp_path / ".pre-commit-config.yaml").write_text(
        f"repos:\n  - repo: {hooks[0]}\n    rev: {hooks[1]}\n    hooks: [{{ id: bnfold-check }}, {{ id: bnfold-fix }}]\n"
    )
    (tmp_path / "models").mkdir()
    shutil.copy(ROOT / "models" / "lenet.onnx", tmp_path / "models" / "le net.onnx")
    (tmp_path / "notes.txt").write_text("not a model")
    git(tmp_path, "add", "-A")
    return tmp_path


def run(repository: Path, home: Path, hook: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "run", hook, "--all-files", "--color=never"],
        cwd=repository,
        env={**clean(), "PRE_COMMIT_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=900,
    )
    if "No matching distribution found" in done.stdout:
        pytest.skip("pip finds no index with what bnfold needs")
    assert done.returncode in (0, 1), done.stdout
    assert "An unexpected error has occurred" not in done.stdout
    return done


def test_what_could_be_folded_fails_the_check_until_it_is_fixed(repository: Path, home: Path) -> None:
    model = repository / "models" / "le net.onnx"
    before = model.read_bytes()
    found = run(repository, home, "bnfold-check")
    assert found.returncode == 1
    assert "BNF003" in found.stdout
    assert "le net.onnx" in found.stdout
    assert model.read_bytes() == before

    fixed = run(repository, home, "bnfold-fix")
    assert fixed.returncode == 1, "pre-commit fails when a hook changes files"
    assert "files were modified by this hook" in fixed.stdout
    assert "BatchNormalization" not in [node.op_type for node in onnx.load(model).graph.node]

    git(repository, "add", "-A")
    for hook in ("bnfold-check", "bnfold-fix"):
        clean_run = run(repository, home, hook)
        assert clean_run.returncode == 0, clean_run.stdout
        assert "Passed" in clean_run.stdout


def test_files_that_are_no_models_are_left_alone(repository: Path, home: Path) -> None:
    git(repository, "rm", "-qf", "models/le net.onnx")
    for hook in ("bnfold-check", "bnfold-fix"):
        found = run(repository, home, hook)
        assert found.returncode == 0
        assert "(no files to check)" in found.stdout


def test_a_file_that_is_no_model_fails(repository: Path, home: Path) -> None:
    (repository / "broken.onnx").write_text("not a model")
    git(repository, "add", "-A")
    found = run(repository, home, "bnfold-check")
    assert found.returncode == 1
    assert "broken.onnx" in found.stdout
