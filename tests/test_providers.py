"""Execution providers: an absent one is refused, a partial one is found out, and what ran where is proved and stated.

The partial provider is real: tests/plugin/relu_provider.c, compiled here, takes Relu and leaves the rest to the CPU.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
from click.testing import CliRunner, Result

from bnfold import pipeline
from bnfold.cli.main import cli
from bnfold.errors import EnvironmentUnfit, InputError
from bnfold.runtime.placement import Placed, Placement, bookkeeping, check, recorded, strayed
from bnfold.runtime.providers import CPU, ProviderUnfit, Target, resolve, short_name, why_not_loaded
from bnfold.runtime.session import Session
from bnfold.runtime.source import read_source

ROOT = Path(__file__).resolve().parent.parent
LENET = ROOT / "models" / "lenet.onnx"
RELU = Path(__file__).parent / "plugin" / "relu_provider.c"

MIXED = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[N,4,8,8] x) => (float[N,M] y) {
  [abs] a = Abs (x)
  [relu] r = Relu (a)
  [shape] s = Shape (r)
  [zero] zero = Constant <value_ints = [0]> ()
  [rows] n = Gather (s, zero)
  [rest] rest = Constant <value_ints = [-1]> ()
  [both] both = Concat <axis = 0> (n, rest)
  [flat] y = Reshape (r, both)
}"""
ONLY_RELU = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[N,4] x) => (float[N,4] y) {
  [first] a = Relu (x)
  [second] y = Relu (a)
}"""


def model(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def save(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "m.onnx"
        path.write_bytes(model(text).SerializeToString())
        return path

    return write


@pytest.fixture(scope="session")
def relu(tmp_path_factory: pytest.TempPathFactory) -> Target:
    """A plug-in provider that runs Relu only."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("the plug-in provider needs a C compiler on Linux")
    if not hasattr(ort.InferenceSession, "get_provider_graph_assignment_info"):
        pytest.skip("onnxruntime before 1.24 does not record which provider runs a node")
    library = tmp_path_factory.mktemp("plugin") / "librelu.so"
    subprocess.run([compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, RELU], check=True)
    return Target("relu", library=library)


# -- names, options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cuda", "CUDA", "Cuda", "CUDAExecutionProvider", "cudaexecutionprovider"])
def test_every_spelling_names_the_same_provider(name: str) -> None:
    assert Target(name).short == "cuda"
    assert Target(name).label == "CUDA"
    assert Target(name).full == "CUDAExecutionProvider"


def test_every_provider_of_onnxruntime_has_a_short_name() -> None:
    names = [short_name(name) for name in ort.get_all_providers()]
    assert len(set(names)) == len(names) > 10
    assert all(name.islower() and "executionprovider" not in name for name in names)


@dataclass(frozen=True)
class Tf32:
    name: str
    target: Target
    exact: bool
    expected: bool
    override: str | None = None


@pytest.mark.parametrize(
    "case",
    [
        Tf32("the CPU has none", CPU, exact=False, expected=False),
        Tf32("CUDA when numbers are measured", Target("cuda"), exact=True, expected=False),
        Tf32("CUDA when time is measured", Target("cuda"), exact=False, expected=True),
        Tf32("CUDA when asked for", Target("cuda", {"use_tf32": "1"}), exact=True, expected=True),
        Tf32("CUDA when asked not to", Target("cuda", {"use_tf32": "0"}), exact=False, expected=False),
        Tf32("TensorRT has no such option", Target("tensorrt"), exact=True, expected=True),
        Tf32("the driver's own switch", Target("tensorrt"), exact=True, expected=False, override="0"),
        Tf32("another vendor", Target("openvino"), exact=False, expected=False),
    ],
    ids=lambda case: case.name,
)
def test_tf32_is_known(case: Tf32, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    if case.override is not None:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", case.override)
    assert case.target.uses_tf32(exact=case.exact) is case.expected


def test_the_callers_options_win() -> None:
    target = Target("CUDAExecutionProvider", {"cudnn_conv_algo_search": "EXHAUSTIVE", "device_id": "1"})
    assert target.settings(exact=True) == {"use_tf32": "0", "cudnn_conv_algo_search": "EXHAUSTIVE", "device_id": "1"}
    assert target.settings(exact=False) == target.options


# -- absent providers -----------------------------------------------------------------------------------------------------

ABSENT = next(name for name in ("cuda", "openvino") if name not in map(short_name, ort.get_available_providers()))


def test_an_absent_provider_is_refused_with_what_to_do() -> None:
    with pytest.raises(EnvironmentUnfit) as caught:
        Session(read_source(LENET, "original"), "default", Target(ABSENT, allow_fallback=True))
    for part in ("BNF031", Target(ABSENT).label, ort.__version__, "cpu", "Install onnxruntime-", "leave out --provider"):
        assert part in str(caught.value)


def test_an_unknown_provider_is_refused() -> None:
    with pytest.raises(ProviderUnfit, match=r"knows no execution provider 'cdua'.*--provider-library cdua=PATH"):
        resolve(Target("cdua"))


@pytest.mark.parametrize("command", [["run"], ["bench", "--duration", "0.01"]], ids=" ".join)
def test_asking_for_an_absent_provider_exits_3_and_runs_nothing(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "InferenceSession", lambda *_, **__: pytest.fail("a session was opened"))
    name, *options = command
    extra = ["-o", tmp_path / "y.npz"] if name == "run" else []
    result = run(name, LENET, "--provider", ABSENT, *options, *extra)
    assert result.exit_code == 3
    assert "BNF031" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_compiled_in_provider_that_takes_nothing_is_found_out() -> None:
    if "AzureExecutionProvider" not in ort.get_available_providers():
        pytest.skip("this onnxruntime is built without the Azure provider, which takes no ordinary operator")
    source = read_source(LENET, "original")
    with pytest.raises(ProviderUnfit, match=r"AzureExecutionProvider takes 0 of \d+ nodes \(BNF031\).*Conv 2"):
        Session(source, "disabled", Target("azure"))
    session = Session(source, "disabled", Target("azure", allow_fallback=True))
    assert session.placement.share == 0
    assert [note.code for note in session.placement.notes()] == ["BNF031"]


def test_nothing_is_printed_by_onnxruntime(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ProviderUnfit):
        Session(read_source(LENET, "original"), "default", Target("azure"))
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_the_library_of_a_provider_inside_onnxruntime_lacks_nothing() -> None:
    assert why_not_loaded("CPUExecutionProvider") == ""


# -- a partial provider ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["disabled", "default"])
def test_a_partial_provider_is_refused_and_its_gaps_are_named(relu: Target, level: str) -> None:
    with pytest.raises(ProviderUnfit) as caught:
        Session(read_source(model(MIXED), "original"), level, relu)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "ReluExecutionProvider takes 1 of" in text
    assert "Abs 1, Reshape 1" in text
    assert "`abs`" in text
    assert "Gather" not in text  # it computes with sizes only
    assert "--allow-fallback" in text


def test_with_fallback_the_share_is_reported_and_the_answer_is_right(relu: Target) -> None:
    source = read_source(model(MIXED), "original")
    session = Session(source, "disabled", Target("relu", allow_fallback=True, library=relu.library))
    x = np.random.default_rng(0).standard_normal((3, 4, 8, 8)).astype(np.float32)
    assert np.array_equal(session.run({"x": x})[0], Session(source, "disabled").run({"x": x})[0])
    nodes = session.placement.nodes
    assert nodes is not None
    assert nodes["ReluExecutionProvider"] == 1
    assert session.placement.share == pytest.approx(1 / sum(nodes.values()))
    assert session.placement.elsewhere == {"Abs": 1, "Reshape": 1}
    assert not session.placement.proved
    assert "BNF031" in session.placement.notes()[0].sentence


def test_a_plug_in_that_takes_everything_passes_strictly(relu: Target) -> None:
    source = read_source(model(ONLY_RELU), "original")
    session = Session(source, "disabled", relu)
    assert session.placement.proved
    assert session.placement.notes() == ()
    assert session.placement.facts()["provider"] == "ReluExecutionProvider"
    assert session.placement.nodes == {"ReluExecutionProvider": 2}
    x = np.float32([[-1, 0, 1, 2]])
    assert np.array_equal(session.run({"x": x})[0], np.maximum(x, 0))


def test_the_command_line_takes_a_plug_in(relu: Target, save: Callable[[str], Path], tmp_path: Path) -> None:
    library = f"relu={relu.library}"
    path = save(MIXED)
    refused = run("run", path, "--provider", "relu", "--provider-library", library, "-o", tmp_path / "y.npz")
    assert refused.exit_code == 3
    assert not (tmp_path / "y.npz").exists()
    mixed = run("run", path, "--provider", "relu", "--provider-library", library, "--allow-fallback", "--json")
    assert mixed.exit_code == 0
    document = json.loads(mixed.stdout)
    assert document["provider"]["nodes"]["ReluExecutionProvider"] == 1
    assert document["notes"][0]["code"] == "BNF031"
    assert run("run", save(ONLY_RELU), "--provider", "ReLU", "--provider-library", library).exit_code == 0


def test_the_doctor_tries_a_plug_in(relu: Target) -> None:
    result = run("doctor", "--provider-library", f"relu={relu.library}", "--json")
    assert result.exit_code == 0, result.output
    state = next(each for each in json.loads(result.stdout)["providers"] if each["name"] == "ReluExecutionProvider")
    assert (state["compiled_in"], state["loads"], state["missing"]) == (False, True, "")
    assert state["devices"][0].startswith("CPU")


def test_a_device_that_is_not_there_is_refused(relu: Target) -> None:
    with pytest.raises(InputError, match=r"device_id=7.*1 devices, counted from 0"):
        resolve(Target("relu", {"device_id": "7"}, library=relu.library))


def test_a_file_that_is_no_provider_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "libx.so"
    with pytest.raises(InputError, match="does not exist"):
        resolve(Target("x", library=path))
    path.write_bytes(b"no library")
    with pytest.raises(ProviderUnfit, match=r"cannot load .*libx.so as a provider \(BNF031\)"):
        resolve(Target("x", library=path))


# -- the definition of a compute node -------------------------------------------------------------------------------------


def test_nodes_that_only_sizes_reach_are_bookkeeping() -> None:
    found = bookkeeping(model(MIXED))
    assert found == {("shape", "Shape"), ("zero", "Constant"), ("rows", "Gather"), ("rest", "Constant"), ("both", "Concat")}


@pytest.mark.parametrize(
    ("name", "text", "compute"),
    [
        ("a gather from values", "[g] y = Gather (x, i)", {"g"}),
        ("an initializer is a constant", "[n] n = Neg (W)\n[a] y = Add (x, n)", {"a"}),
        ("random numbers are computed", "[r] r = RandomNormal <shape = [2]> ()\n[a] y = Add (x, r)", {"r", "a"}),
        ("sizes of a computed value", "[r] r = Relu (x)\n[s] y = Shape (r)", {"r"}),
        (
            "a body that captures a value",
            "[s] s = Shape (x)\n[if] y = If (c) <then_branch = t () => (float[N] a) {[neg] a = Neg (x)}, "
            "else_branch = e () => (float[N] b) {[id] b = Identity (W)}>",
            {"if", "neg"},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and "=" not in value else "",
)
def test_what_a_value_reaches_is_compute(name: str, text: str, compute: set[str]) -> None:
    proto = model(
        f'<ir_version: 8, opset_import: ["" : 17]>\nagraph (float[N] x) => (float[N] y)\n'
        f"<float[2] W = {{1, 2}}, int64[1] i = {{0}}, bool c = {{1}}> {{\n{text}\n}}"
    )
    assert every_name(proto.graph) - {key for key, _ in bookkeeping(proto)} == compute


def every_name(graph: onnx.GraphProto) -> set[str]:
    names = {node.name for node in graph.node}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                names |= every_name(attribute.g)
    return names


def test_a_name_that_two_nodes_share_counts_as_bookkeeping_only_if_both_are() -> None:
    proto = model(MIXED)
    for node in proto.graph.node:
        node.name = ""
    proto.graph.node.add(op_type="Gather", input=["x", "zero"], output=["z"])
    assert ("", "Shape") in bookkeeping(proto)
    assert ("", "Gather") not in bookkeeping(proto)


@pytest.mark.parametrize(
    ("placed", "expected"),
    [
        ([Placed("A", "conv", "Conv")], []),
        ([Placed("B", "conv", "Conv")], ["conv"]),
        ([Placed("B", "rows", "Gather"), Placed("B", "shape", "Shape"), Placed("B", "new", "MemcpyToHost")], []),
        ([Placed("B", "rows", "Conv")], ["rows"]),  # the name of a bookkeeping node on another operator
        ([Placed("B", "InsertedCast_x", "Cast")], ["InsertedCast_x"]),
        ([Placed("A", "conv", "Conv"), Placed("C", "relu", "Relu")], ["relu"]),
    ],
)
def test_what_another_provider_took_is_found(placed: list[Placed], expected: list[str]) -> None:
    assert [node.name for node in strayed(placed, "A", frozenset({("rows", "Gather")}))] == expected


# -- proof ----------------------------------------------------------------------------------------------------------------


def test_without_a_record_nothing_is_proved() -> None:
    unknown = Placement("CUDAExecutionProvider")
    assert recorded(object()) is None
    assert unknown.share is None
    assert not unknown.proved
    with pytest.raises(ProviderUnfit, match=r"cannot be proved.*BNF031.*1\.24"):
        check(unknown, Target("cuda"), "m.onnx")
    check(unknown, Target("cuda", allow_fallback=True), "m.onnx")
    assert "cannot be proved" in unknown.notes()[0].sentence


def test_an_onnxruntime_that_records_nothing_is_refused(relu: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ort.InferenceSession.__mro__[1], "get_provider_graph_assignment_info")
    source = read_source(model(ONLY_RELU), "original")
    with pytest.raises(ProviderUnfit, match="cannot be proved"):
        Session(source, "default", relu)
    Session(source, "default")  # the CPU needs no proof


def test_the_cpu_needs_no_proof() -> None:
    session = Session(read_source(LENET, "original"), "default")
    assert session.placement == Placement("CPUExecutionProvider")
    assert session.placement.proved


def test_facts_state_what_bears_on_the_numbers() -> None:
    target = Target("cuda", {"device_id": "1"})
    placement = Placement("CUDAExecutionProvider", target.settings(exact=True), tf32=target.uses_tf32(), nodes={"A": 1})
    assert placement.facts() == {
        "provider": "CUDAExecutionProvider",
        "cudnn_conv_algo_search": "HEURISTIC",
        "device_id": "1",
        "use_tf32": "0",
        "deterministic": "yes",
        "tf32": "no",
        "nodes": "A 1",
    }
    assert json.dumps(placement.to_dict())


# -- options of the command line ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--provider-option", "device_id=1"], "needs another --provider than cpu"),
        (["--allow-fallback"], "needs another --provider than cpu"),
        (["--provider", "cuda", "--provider-option", "device_id"], "is not KEY=VALUE"),
        (["--provider", "cuda", "--provider-option", "a=1", "--provider-option", "a=2"], "given twice"),
        (["--provider", "cuda", "--provider-library", "libx.so"], "is not NAME=PATH"),
        (["--provider", "cuda", "--provider-library", "mine=libx.so"], "is for --provider mine"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_exits_2(options: list[str], says: str) -> None:
    result = run("run", LENET, *options)
    assert result.exit_code == 2
    assert says in result.stderr


# -- other builds of onnxruntime ------------------------------------------------------------------------------------------


def with_runtime(variable: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs bnfold with the onnxruntime in the folder that an environment variable names."""
    folder = os.environ.get(variable)
    if not folder:
        pytest.skip(f"{variable} names no folder with another onnxruntime (see docs/providers.md)")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, str(ROOT)])}
    command = [sys.executable, "-m", "bnfold", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_openvino_runs_all_of_a_network(tmp_path: Path) -> None:
    done = with_runtime("BNFOLD_TEST_OPENVINO", "run", str(LENET), "--provider", "openvino", "--json")
    assert done.returncode == 0, done.stderr
    provider = json.loads(done.stdout)["provider"]
    assert provider["proved"]
    assert set(provider["nodes"]) == {"OpenVINOExecutionProvider"}
    partial = tmp_path / "partial.onnx"
    partial.write_bytes(model(MIXED.replace("float[N,4,8,8]", "float[N,4,8,3,3]").replace("Abs", "Det")).SerializeToString())
    refused = with_runtime("BNFOLD_TEST_OPENVINO", "run", str(partial), "--provider", "openvino")
    assert refused.returncode == 3
    assert "Det 1" in refused.stderr


@pytest.mark.slow
def test_a_gpu_build_without_its_libraries_says_which_one_is_missing() -> None:
    done = with_runtime("BNFOLD_TEST_ONNXRUNTIME_GPU", "run", str(LENET), "--provider", "cuda")
    if done.returncode == 0:
        pytest.skip("CUDA works here: tests/test_gpu.py tries it")
    assert done.returncode == 3
    assert "BNF031" in done.stderr
    assert ".so" in done.stderr
    doctor = with_runtime("BNFOLD_TEST_ONNXRUNTIME_GPU", "doctor", "--json")
    assert doctor.returncode == 0, doctor.stderr
    cuda = next(each for each in json.loads(doctor.stdout)["providers"] if each["name"] == "CUDAExecutionProvider")
    assert cuda["compiled_in"]
    assert not cuda["loads"]
    assert ".so" in cuda["missing"]


# -- commands that compare ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ["optimize", LENET, "-o", "folded.onnx"],
        ["verify", LENET, LENET],
        ["verify", LENET, LENET, "--reference-provider", "cpu"],
    ],
    ids=["optimize", "verify", "verify across providers"],
)
def test_a_comparison_on_an_absent_provider_exits_3(
    command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*command, "--provider", ABSENT)
    assert result.exit_code == 3
    assert "BNF031" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_fold_is_verified_on_the_provider_that_was_asked_for(relu: Target, tmp_path: Path) -> None:
    folded = tmp_path / "folded.onnx"
    with pytest.raises(ProviderUnfit, match="ReluExecutionProvider takes 0 of"):
        pipeline.optimize(LENET, folded, target=relu)
    assert not folded.exists()
    report = pipeline.optimize(LENET, folded, target=Target("relu", allow_fallback=True, library=relu.library))
    assert report.written
    assert report.verification is not None
    assert "BNF031" in {note.code for note in report.verification.notes}
