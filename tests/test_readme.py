"""What the README shows is what happens: its commands run, and the screen in it is the screen that comes."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.M | re.S)


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    shutil.copy(ROOT / "models" / "lenet.onnx", tmp_path / "models")
    shutil.copy(ROOT / "models" / "lenet.onnx", tmp_path / "model.onnx")
    shutil.copy(ROOT / "models" / "lenet.onnx", tmp_path / "other.onnx")
    shutil.copy(ROOT / "models" / "fashion_mnist_sample.npz", tmp_path / "samples.npz")
    return tmp_path


def bnfold(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "100"}
    words = shlex.split(command, comments=True)
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def steady(screen: str) -> str:
    """Measured figures depend on the processor; everything else does not."""
    return re.sub(r"\d[\d.]*(e[-+]\d+)?", "#", re.sub(r"\s+", " ", screen)).strip()


def test_the_first_command_prints_the_screen(workplace: Path) -> None:
    command = blocks("sh")[0].strip().split(" && ")[-1]
    assert command.startswith(".venv/bin/bnfold optimize models/lenet.onnx")
    result = bnfold(command.removeprefix(".venv/bin/"), workplace)
    assert result.returncode == 0, result.stderr
    assert steady(result.stdout) == steady(blocks("")[0])


def test_the_second_command_is_the_test_suite() -> None:
    assert blocks("sh")[1].strip() == ".venv/bin/pip install '.[test]' && .venv/bin/python -m pytest"


COMMANDS = [line for line in blocks("sh")[2].splitlines() if line.startswith("bnfold") and "--input-shapes" not in line]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_commands_run(command: str, workplace: Path) -> None:
    result = bnfold(command, workplace)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout


def test_the_example_with_shapes_runs(workplace: Path) -> None:
    line = next(line for line in blocks("sh")[2].splitlines() if "--input-shapes" in line)
    result = bnfold(line.replace("x:1,3,224,224", "image:1,1,28,28"), workplace)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "# " in (workplace / "report.md").read_text()


def test_the_python_example_runs(workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(workplace)
    exec(compile(blocks("python")[0], "README.md", "exec"), {"onnx_model": onnx.load("model.onnx")})
    assert (workplace / "lenet.folded.onnx").exists()
    assert capsys.readouterr().out == ""  # nothing of the LeNet is refused


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
