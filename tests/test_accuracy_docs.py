"""What docs/accuracy.md shows is what happens: its commands and its Python run, and the screen in it is the screen that comes."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from bnfold.cli.main import cli
from bnfold.data import FORMATS
from bnfold.data.preprocess import PRESETS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "accuracy.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.M | re.S)
SHARED = ROOT.parent / "shared" / "data" / "fashion_mnist"


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "models").mkdir()
    shutil.copy(ROOT / "models" / "fashion_mnist_sample.npz", tmp_path / "models")
    shutil.copy(ROOT / "models" / "lenet.onnx", tmp_path)
    shutil.copy(ROOT / "models" / "lenet_by_hand.onnx", tmp_path / "other.onnx")
    for text in blocks("python"):
        if text.startswith("# "):
            (tmp_path / text.split()[1]).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def steady(screen: str) -> str:
    """Measured differences and times depend on the processor; everything else does not."""
    return re.sub(r"\s+", " ", re.sub(r"^  verified .*?(?=^  accuracy )|^  wrote .*", "", screen, flags=re.M | re.S)).strip()


def test_the_first_command_prints_the_screen(workplace: Path) -> None:
    if not SHARED.is_dir():
        pytest.skip("Fashion-MNIST is not in shared/data/fashion_mnist beside the repository")
    (workplace / "fashion_mnist").symlink_to(SHARED)
    result = CliRunner().invoke(cli, shlex.split(blocks("sh")[0])[1:])
    assert result.exit_code == 0, result.output
    assert steady(result.stdout) == steady(blocks("")[0])


@pytest.mark.parametrize("command", blocks("sh")[1].splitlines())
def test_the_other_commands_run(command: str, workplace: Path) -> None:
    result = CliRunner().invoke(cli, shlex.split(command, comments=True)[1:])
    assert result.exit_code == 0, result.output
    assert result.stdout


def test_the_python_example_runs(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = next(text for text in blocks("python") if not text.startswith("# "))
    exec(compile(example, "accuracy.md", "exec"), {})
    assert capsys.readouterr().out.startswith("0.87 5 (")


def test_the_preprocessing_example_runs() -> None:
    import numpy as np

    names: dict[str, object] = {}
    exec(compile(next(text for text in blocks("python") if "def prepare" in text), "accuracy.md", "exec"), names)
    image = names["prepare"](np.full((32, 32, 3), 255, np.uint8))  # type: ignore[operator]
    assert image.shape == (3, 32, 32)
    assert image.dtype == np.float32
    assert (image == 1).all()


def test_the_page_knows_every_format_and_preset() -> None:
    shown = [form for form in FORMATS if form not in ("npz", "images", "csv", "jsonl", "INPUT=ARRAY,label=ARRAY")]
    assert [form for form in shown if f":{form}`" not in PAGE] == []
    assert [name for name in PRESETS if f"| `{name}` |" not in PAGE] == []
