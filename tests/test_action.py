"""action.yml: its shell steps run in a workspace of their own as GitHub's runner would run them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed (pip install '.[test]')")

ROOT = Path(__file__).resolve().parent.parent
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
INSTALL, FOLD = ACTION["runs"]["steps"]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("bash") is None, reason="the action's steps need bash")]


@dataclass(frozen=True)
class Ran:
    """What a step did."""

    code: int
    log: str
    outputs: dict[str, str]
    summary: str


def substituted(text: str, values: dict[str, str]) -> str:
    """`${{ inputs.x }}` and `${{ steps.s.outputs.x }}` with their values."""
    return re.sub(r"\$\{\{ *([\w.-]+) *\}\}", lambda found: values[found[1]], text)


def run(step: dict[str, Any], folder: Path, environment: dict[str, str], **inputs: str) -> Ran:
    """Runs one step as the runner does: https://docs.github.com/actions/reference/workflow-syntax#jobsjob_idstepsshell."""
    assert step["shell"] == "bash"
    assert inputs.keys() <= ACTION["inputs"].keys(), "inputs that the action does not have"
    given = {f"inputs.{name}": inputs.get(name, row.get("default", "")) for name, row in ACTION["inputs"].items()}
    temporary = folder / "temp"
    temporary.mkdir(exist_ok=True)
    script, output, summary = (temporary / name for name in ("step.sh", "output", "summary.md"))
    script.write_text(substituted(step["run"], given))
    output.write_text("")
    summary.write_text("")
    result = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
        cwd=folder / "workspace",
        env={
            **environment,
            "GITHUB_ACTIONS": "true",
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(summary),
            "GITHUB_WORKSPACE": str(folder / "workspace"),
            "RUNNER_TEMP": str(temporary),
            **{name: substituted(value, given) for name, value in step["env"].items()},
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )
    lines = output.read_text().splitlines()
    return Ran(result.returncode, result.stdout, dict(line.split("=", 1) for line in lines), summary.read_text())


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment after the first step, which installs into a place of its own that sees these tests' packages."""
    folder = tmp_path_factory.mktemp("install")
    (folder / "workspace").mkdir()
    source, home = folder / "action", folder / "venv"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "action.yml"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "bnfold", source / "bnfold", ignore=shutil.ignore_patterns("__pycache__"))
    venv.create(home, with_pip=True)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "needs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "PYTHON", "BNFOLD_"))}
    environment["PATH"] = os.pathsep.join([str(home / "bin"), environment["PATH"]])
    ran = run(INSTALL, folder, {**environment, "GITHUB_ACTION_PATH": str(source), "PIP_NO_DEPS": "1"})
    if "No matching distribution found for setuptools" in ran.log:
        pytest.skip("pip finds no index with setuptools to build bnfold with")
    assert ran.code == 0, ran.log
    assert (packages / "bnfold" / "cli" / "main.py").exists()
    return environment


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with a folder of models, one of them with a space in its name."""
    models = tmp_path / "workspace" / "models"
    (models / "deep").mkdir(parents=True)
    shutil.copy(ROOT / "models" / "lenet.onnx", models)
    shutil.copy(ROOT / "models" / "lenet.onnx", models / "deep" / "le net.onnx")
    shutil.copy(ROOT / "models" / "fashion_mnist_sample.npz", tmp_path / "workspace" / "test.npz")
    (models / "notes.txt").write_text("not a model")
    return tmp_path / "workspace"


def normalizations(path: Path) -> int:
    return sum(node.op_type == "BatchNormalization" for node in onnx.load(path).graph.node)


def test_outputs_are_those_of_the_step() -> None:
    assert FOLD["id"] == "fold"
    for name, output in ACTION["outputs"].items():
        assert output["value"] == f"${{{{ steps.fold.outputs.{name} }}}}"


def test_only_the_environment_carries_inputs_into_a_script() -> None:
    """An input that is pasted into a script could run anything."""
    assert not [step["name"] for step in ACTION["runs"]["steps"] if "${{" in step["run"]]


@pytest.mark.parametrize(
    ("models", "written"),
    [
        ("models", ["models/deep/le net.onnx", "models/lenet.onnx"]),
        ("models/", ["models/deep/le net.onnx", "models/lenet.onnx"]),
        ("models/**/*.onnx", ["models/deep/le net.onnx", "models/lenet.onnx"]),
        ("models/*.onnx\n  models/deep/*", ["models/deep/le net.onnx", "models/lenet.onnx"]),
        ("{workspace}/models/lenet.onnx", ["models/lenet.onnx"]),
    ],
)
def test_files_folders_and_patterns(workspace: Path, installed: dict[str, str], models: str, written: list[str]) -> None:
    ran = run(FOLD, workspace.parent, installed, models=models.format(workspace=workspace))
    assert ran.code == 0, ran.log
    assert ran.outputs == {"folded": "folded", "report": "bnfold-report"}
    folded = workspace / "folded"
    assert sorted(str(path.relative_to(folded)) for path in folded.rglob("*.onnx")) == written
    assert [normalizations(folded / name) for name in written] == [0] * len(written)
    assert ran.summary.count("# bnfold:") == len(written)
    reports = workspace / "bnfold-report"
    assert json.loads((reports / written[0].replace(".onnx", ".json")).read_text())["ok"] is True
    assert "::error" not in ran.log


def test_a_second_run_does_not_fold_what_it_wrote(workspace: Path, installed: dict[str, str]) -> None:
    for _ in range(2):
        ran = run(FOLD, workspace.parent, installed, models="**/*.onnx", output="out", report="reports")
        assert ran.code == 0, ran.log
    assert ran.outputs == {"folded": "out", "report": "reports"}
    assert not (workspace / "out" / "out").exists()


@pytest.mark.parametrize("flips", ["0", "3"])
def test_a_gate_on_data(workspace: Path, installed: dict[str, str], flips: str) -> None:
    ran = run(FOLD, workspace.parent, installed, models="models/lenet.onnx", data="test.npz", **{"max-flips": flips})
    assert ran.code == 0, ran.log
    assert f"0 of 100 answers changed; {flips} may" in ran.summary
    document = json.loads((workspace / "bnfold-report" / "models" / "lenet.json").read_text())
    assert document["accuracy"] is not None


def test_data_that_cannot_be_read_fail_the_job(workspace: Path, installed: dict[str, str]) -> None:
    ran = run(FOLD, workspace.parent, installed, models="models/lenet.onnx", data="absent.npz")
    assert ran.code == 2
    assert "::error" in ran.log
    assert "absent.npz" in ran.log
    assert not (workspace / "folded" / "models" / "lenet.onnx").exists()


def test_a_broken_model_fails_the_job_and_stops_no_other(workspace: Path, installed: dict[str, str]) -> None:
    (workspace / "models" / "broken.onnx").write_bytes(b"not a model")
    ran = run(FOLD, workspace.parent, installed, models="models")
    assert ran.code == 2
    assert any(line.startswith("::error") and "broken.onnx" in line for line in ran.log.splitlines()), ran.log
    assert "`models/broken.onnx` failed" in ran.summary
    folded = workspace / "folded" / "models"
    assert sorted(path.name for path in folded.rglob("*") if path.is_file()) == ["le net.onnx", "lenet.onnx"]


@pytest.mark.parametrize("models", ["absent/*.onnx", "absent.onnx", "models/notes", "models/lenet.onnx absent.onnx", ""])
def test_what_matches_nothing_fails_the_job(workspace: Path, installed: dict[str, str], models: str) -> None:
    ran = run(FOLD, workspace.parent, installed, models=models)
    assert ran.code == 2
    assert "::error title=bnfold::no model" in ran.log
    assert (workspace / "folded" / "models" / "lenet.onnx").exists() is models.startswith("models/lenet")


def test_a_model_outside_the_workspace_has_no_place(workspace: Path, installed: dict[str, str]) -> None:
    shutil.copy(ROOT / "models" / "lenet.onnx", workspace.parent / "other.onnx")
    ran = run(FOLD, workspace.parent, installed, models=f"../other.onnx {workspace.parent}/other.onnx")
    assert ran.code == 2
    assert ran.log.count("is outside the workspace") == 2
    assert not list(workspace.rglob("other.onnx"))
