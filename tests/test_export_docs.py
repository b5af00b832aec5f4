"""docs/export.md and docs/recalibrate.md: their commands run, and their screens are the screens that come."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

ROOT = Path(__file__).resolve().parents[1]
FASHION = ROOT.parent / "shared" / "data" / "fashion_mnist"

pytestmark = pytest.mark.slow
needs_torch = pytest.mark.skipif(
    find_spec("torch") is None or find_spec("onnxscript") is None,
    reason="torch and onnxscript are not installed (pip install 'bnfold[torch]')",
)
needs_data = pytest.mark.skipif(not FASHION.is_dir(), reason="Fashion-MNIST is not in shared/data beside the repository")


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [body for kind, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S) if kind == language]


def bnfold(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "100"}
    words = shlex.split(command, comments=True)
    assert words[0] == "bnfold"
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def steady(screen: str) -> str:
    """Measured figures and the version of torch depend on the machine; everything else does not."""
    return re.sub(r"\d[\d.]*(e[-+]\d+)?(\+\w+)?", "#", re.sub(r"\s+", " ", screen)).strip()


@needs_torch
def test_export_page(tmp_path: Path) -> None:
    import torch

    (tmp_path / "net.py").write_text(blocks("export.md", "python")[0])
    scope: dict[str, object] = {}
    exec(compile(blocks("export.md", "python")[0], "net.py", "exec"), scope)
    torch.manual_seed(0)
    net = scope["Net"]()  # type: ignore[operator]
    net.bn.running_mean.normal_()
    net.bn.running_var.uniform_(0.5, 2)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    np.savez(tmp_path / "training.npz", image=np.random.default_rng(0).normal(size=(128, 3, 32, 32)).astype(np.float32))
    screens = []
    for command in (line for block in blocks("export.md", "sh") for line in block.splitlines()):
        done = bnfold(command, tmp_path)
        assert done.returncode == 0, command + done.stdout + done.stderr
        screens.append(done.stdout)
    assert steady(screens[1]) == steady(blocks("export.md", "")[0])
    assert "folded   2 of 2 normalizations" in screens[-1]


@needs_torch
def test_export_page_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scope: dict[str, object] = {}
    code, example = blocks("export.md", "python")
    exec(compile(code, "net.py", "exec"), scope)
    monkeypatch.chdir(tmp_path)
    scope["net"] = scope["Net"]()  # type: ignore[operator]
    exec(compile(example, "export.md", "exec"), scope)
    assert Path("net.onnx").exists()


@needs_data
def test_recalibrate_page(tmp_path: Path) -> None:
    model = onnx.load(ROOT / "models" / "lenet.onnx")
    for tensor in model.graph.initializer:
        if tensor.name.endswith(("running_mean", "running_var")):
            value = np.full(tuple(tensor.dims), float(tensor.name.endswith("var")), np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    onnx.save(model, tmp_path / "wiped.onnx")
    (tmp_path / "fashion_mnist").symlink_to(FASHION)
    screens = []
    for command in blocks("recalibrate.md", "sh")[0].splitlines():
        done = bnfold(command, tmp_path)
        assert done.returncode == 0, command + done.stdout + done.stderr
        screens.append(done.stdout)
    assert steady(screens[0]) == steady(blocks("recalibrate.md", "")[0])
    assert re.search(r"right +1,518 +8,753", screens[1]), screens[1]
