"""`bnfold doctor`: what it finds is tried, so the tests look at what the installed packages themselves say."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner

from bnfold.cli.main import cli
from bnfold.report.doctor_text import doctor_document, doctor_text
from bnfold.runtime import environment
from bnfold.runtime.environment import Environment, ProviderState, examine

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def here() -> Environment:
    return examine()


def relu(ir_version: int, opset: int) -> bytes:
    return environment._probe(ir_version, opset)


def test_versions_are_those_installed(here: Environment) -> None:
    assert here.versions["python"] == sys.version.split()[0]
    assert here.versions["onnx"] == onnx.__version__
    assert here.versions["numpy"] == np.__version__
    runtime = next(version for name, version in here.versions.items() if name.startswith("onnxruntime"))
    assert runtime == ort.__version__


def test_the_newest_versions_load_and_the_next_ones_do_not(here: Environment) -> None:
    assert here.highest_ir is not None
    assert here.highest_opset is not None
    options = ort.SessionOptions()
    options.log_severity_level = 4

    def load(ir_version: int, opset: int) -> None:
        ort.InferenceSession(relu(ir_version, opset), options, providers=["CPUExecutionProvider"])

    load(here.highest_ir, 13)
    load(8, here.highest_opset)
    with pytest.raises(Exception, match="IR version"):
        load(here.highest_ir + 1, 13)
    with pytest.raises(Exception, match="pset"):
        load(8, here.highest_opset + 1)


def test_every_provider_is_listed_once(here: Environment) -> None:
    names = [state.name for state in here.providers]
    assert sorted(names) == sorted({*ort.get_all_providers(), *ort.get_available_providers(), *names})
    assert len(set(names)) == len(names)
    assert sorted(state.name for state in here.providers if state.compiled_in) == sorted(ort.get_available_providers())
    cpu = here.providers[0]
    assert (cpu.name, cpu.compiled_in, cpu.loads, cpu.missing) == ("CPUExecutionProvider", True, True, "")
    for state in here.providers:
        assert bool(state.missing) == (state.loads is False)


def test_this_machine_is_fit(here: Environment) -> None:
    assert here.ok, here.problems
    assert here.cores >= 1
    assert here.assignment == hasattr(ort.InferenceSession, "get_provider_graph_assignment_info")
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 0
    assert f"IR up to {here.highest_ir} · opset up to {here.highest_opset}" in result.stdout
    assert "cpu" in result.stdout
    assert "lacks" not in result.stdout
    assert "lacks" in CliRunner().invoke(cli, ["doctor", "-v"]).stdout


def test_the_document_holds_everything(here: Environment) -> None:
    result = CliRunner().invoke(cli, ["doctor", "--json"])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["ok"]
    assert document == json.loads(json.dumps(doctor_document(here)))


def test_what_is_broken_exits_3(monkeypatch: pytest.MonkeyPatch) -> None:
    import_module = environment.import_module

    def broken(name: str) -> object:
        if name == "onnxruntime":
            raise ImportError("libonnxruntime.so: cannot open shared object file")
        return import_module(name)

    monkeypatch.setattr(environment, "import_module", broken)
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 3
    assert "onnxruntime cannot be imported: libonnxruntime.so" in result.stdout
    assert "everything that bnfold needs works" not in result.stdout
    document = json.loads(CliRunner().invoke(cli, ["doctor", "--json"]).stdout)
    assert document["error"]["exit_code"] == 3
    assert not document["ok"]


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = environment.importlib.util.find_spec
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: None if "surgeon" in name else find_spec(name))
    found = examine()
    assert found.problems == ("onnx_graphsurgeon is not installed. Install bnfold again, with what it depends on.",)
    assert found.highest_ir is not None  # the rest is looked at all the same


def test_a_runtime_that_cannot_run_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_try", lambda provider, model, device=None: "no kernel")
    found = examine()
    assert not found.ok
    assert found.highest_ir is None
    assert "does not run a model on the CPU" in found.problems[0]


def test_a_provider_that_does_not_start_is_told_apart_from_a_broken_machine(here: Environment) -> None:
    states = (
        ProviderState("CPUExecutionProvider", True, True, ("CPU Someone",), ""),
        ProviderState("CUDAExecutionProvider", True, False, (), "libcublasLt.so.13: cannot open shared object file"),
        ProviderState("MineExecutionProvider", False, True, ("NPU Mine",), ""),
        ProviderState("QNNExecutionProvider", False, None, (), ""),
    )
    text = doctor_text(dataclasses.replace(here, providers=states, assignment=False), verbose=True)
    assert "cuda   compiled in, does not start: libcublasLt.so.13" in text
    assert "mine   starts · plug-in · NPU Mine" in text
    assert "lacks    qnn" in text
    assert "1.24 or later (BNF031)" in " ".join(text.split())
    assert "everything that bnfold needs works" in text


def test_torch_is_not_imported() -> None:
    code = "import sys; from bnfold.runtime.environment import examine; examine(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
