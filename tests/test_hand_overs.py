"""docs/deploy.md and docs/quantization.md: what they hand a folded model to is really there and takes it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import bnfold

ROOT = Path(__file__).resolve().parent.parent
OLIVE = os.environ.get("BNFOLD_TEST_OLIVE", "")


def blocks(page: str, section: str = "") -> list[tuple[str, str]]:
    """The code blocks of a page, or of one of its sections: (language, text)."""
    text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    if section:
        text = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    assert found, f"{page}.md has no code in the section {section!r}"
    return found


def block(page: str, section: str, language: str) -> str:
    return next(text for kind, text in blocks(page, section) if kind == language)


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command with a `bnfold` and a `python` that are those under test."""
    places = folder / "bin"
    if not places.exists():
        places.mkdir()
        for name, words in (("bnfold", f'"{sys.executable}" -m bnfold'), ("python", f'"{sys.executable}"')):
            (places / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
            (places / name).chmod(0o755)
    path = os.pathsep.join([environment.pop("PATH", ""), str(places), os.environ["PATH"]]).lstrip(os.pathsep)
    whole = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **environment, "PATH": path}
    return subprocess.run(
        ["bash", "-ec", command], cwd=folder, env=whole, capture_output=True, text=True, check=False, timeout=600
    )


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with the LeNet and the sample of its data."""
    (tmp_path / "models").mkdir()
    for name in ("lenet.onnx", "fashion_mnist_sample.npz"):
        shutil.copy(ROOT / "models" / name, tmp_path / "models")
    return tmp_path


def environment_of(home: Path, *packages: str) -> Path:
    """An environment of its own that sees these tests' packages and has some more; skips where they cannot be had."""
    venv.create(home, with_pip=True)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "needs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = home / "bin" / "python"
    install(python, *packages)
    return python


def install(python: Path, *packages: str) -> None:
    done = subprocess.run(
        [python, "-m", "pip", "install", "-q", *packages], capture_output=True, text=True, check=False, timeout=1800
    )
    if done.returncode:
        pytest.skip(f"{' '.join(packages)} cannot be installed: {done.stderr[-300:]}")


def steady(screen: str) -> str:
    return re.sub(r"\s+", " ", screen).strip()


@pytest.mark.slow
def test_quantization_page(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, the Python of the page in one go."""
    monkeypatch.chdir(workplace)
    names: dict[str, object] = {}
    printed, screens = [], []
    for language, text in blocks("quantization"):
        if language == "sh":
            for line in text.splitlines():
                done = shell(line, workplace)
                assert done.returncode == 0, done.stdout + done.stderr
                printed.append(steady(done.stdout))
        elif language == "python":
            exec(compile(text, "quantization.md", "exec"), names)
        else:
            screens.append(steady(text))
    assert screens
    assert set(screens) <= set(printed)


def test_triton_section(workplace: Path) -> None:
    done = shell(block("deploy", "Triton", "sh"), workplace)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (workplace / "repository" / "lenet").rglob("*")) == ["1", "config.pbtxt", "model.onnx"]


@pytest.mark.slow
def test_pytorch_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="torch is not installed (pip install 'bnfold[torch]')")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install 'bnfold[torch]')")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "example.py").write_text(block("deploy", "PyTorch", "python"))
    done = shell("python example.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "BatchNormalization" not in [node.op_type for node in onnx.load(tmp_path / "module.onnx").graph.node]


@pytest.mark.slow
def test_mlflow_section(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    python = environment_of(tmp_path_factory.mktemp("mlflow"), "mlflow-skinny", "pandas")
    script = block("deploy", "MLflow", "python") + '\nprint("uri", logged.model_uri)\n'
    (workplace / "example.py").write_text(script)
    store = {"MLFLOW_TRACKING_URI": (workplace / "mlruns").as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}
    done = shell(f"{python} example.py", workplace, **store)
    assert done.returncode == 0, done.stderr
    (logged,) = (workplace / "mlruns").rglob("artifacts/model.onnx")
    assert "BatchNormalization" not in [node.op_type for node in onnx.load(logged).graph.node]
    (document,) = (workplace / "mlruns").rglob("artifacts/bnfold.json")
    assert json.loads(document.read_text())["folded"] == 4
    assert {float(path.read_text().split()[1]) for path in (workplace / "mlruns").rglob("metrics/folded")} == {4.0}
    uri = re.search(r"^uri (.*)$", done.stdout, re.M)
    assert uri
    predict = f"""
import mlflow, numpy
made = mlflow.pyfunc.load_model("{uri[1]}").predict({{"image": numpy.full((2, 1, 28, 28), 0.5, numpy.float32)}})
numpy.save("made.npy", made["logits"])
"""
    (workplace / "predict.py").write_text(predict)
    served = shell(f"{python} predict.py", workplace, **store)
    assert served.returncode == 0, served.stderr
    session = ort.InferenceSession(workplace / "models" / "lenet.onnx", providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"image": np.full((2, 1, 28, 28), 0.5, np.float32)})
    np.testing.assert_allclose(np.load(workplace / "made.npy"), expected, atol=1e-4)


# -- Olive ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def olive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with Olive: the one that BNFOLD_TEST_OLIVE names, or one that is built."""
    if not OLIVE:
        pytest.skip("Olive needs an environment of its own: BNFOLD_TEST_OLIVE=1 builds it, or names its Python")
    if Path(OLIVE).is_file():
        return Path(OLIVE)
    home = tmp_path_factory.mktemp("olive")
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    # A CPU build of torch comes first, where there is one, so that Olive does not pull in a build for CUDA.
    install(python, "--extra-index-url", "https://download.pytorch.org/whl/cpu", "torch==2.13.0")
    install(python, "olive-ai", "requests", "onnxruntime", "onnx-graphsurgeon", "click", "ml_dtypes")
    return python


def run_olive(olive: Path, folder: Path, workflow: str) -> subprocess.CompletedProcess[str]:
    """The commands of the page, with Olive's Python, and without its telemetry."""
    (folder / "workflow.json").write_text(workflow)
    places = folder / "olive"
    places.mkdir(exist_ok=True)
    for name, module in (("bnfold", "bnfold"), ("olive", "olive")):
        (places / name).write_text(f'#!/bin/sh\nexec "{olive}" -m {module} "$@"\n')
        (places / name).chmod(0o755)
    quiet = {"OLIVE_DISABLE_TELEMETRY": "1", "HOME": str(folder), "PATH": str(places)}
    return shell(block("deploy", "Olive", "sh"), folder, **quiet)


@pytest.mark.slow
@pytest.mark.olive
def test_olive_section(olive: Path, workplace: Path) -> None:
    done = run_olive(olive, workplace, block("deploy", "Olive", "json"))
    assert done.returncode == 0, done.stdout + done.stderr
    made = [node.op_type for node in onnx.load(workplace / "out" / "model.onnx").graph.node]
    assert "BatchNormalization" not in made
    assert "ConvInteger" in made or "MatMulInteger" in made, "the pass behind the fold quantized it"
    default = json.loads((workplace / "olive_config.json").read_text())["passes"]
    assert {"BnFold", "OnnxStaticQuantization"} <= default.keys(), "Olive's own passes are still there"


@pytest.mark.slow
@pytest.mark.olive
def test_olive_hands_the_arguments_on(olive: Path, workplace: Path) -> None:
    workflow = json.loads(block("deploy", "Olive", "json"))
    workflow["passes"] = {"fold": {"type": "BnFold", "keep": ["bn1*"], "verify": False}}
    done = run_olive(olive, workplace, json.dumps(workflow))
    assert done.returncode == 0, done.stdout + done.stderr
    bnfold.optimize(workplace / "models" / "lenet.onnx", workplace / "kept.onnx", keep=["bn1*"], verify=False)
    assert (workplace / "out" / "model.onnx").read_bytes() == (workplace / "kept.onnx").read_bytes()


@pytest.mark.slow
@pytest.mark.olive
def test_olive_takes_external_data_along(olive: Path, workplace: Path) -> None:
    source = workplace / "models" / "lenet.onnx"
    onnx.save(onnx.load(source), source, save_as_external_data=True, location="weights.bin", size_threshold=0)
    workflow = json.loads(block("deploy", "Olive", "json"))
    workflow["passes"] = {"fold": {"type": "BnFold"}}
    done = run_olive(olive, workplace, json.dumps(workflow))
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = (workplace / "out").rglob("*.onnx")
    assert bnfold.verify(source, made).ok


def test_without_olive_the_command_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "olive").mkdir()
    (tmp_path / "olive" / "__init__.py").write_text("raise ImportError('not here')")
    done = shell("bnfold deploy olive-config", tmp_path, PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))
    assert done.returncode == 3
    assert "pip install olive-ai" in done.stderr
    assert done.stdout == ""
