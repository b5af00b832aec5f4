"""On an NVIDIA GPU: strict sessions, verification across providers, benchmarks that stay on the device. Skipped elsewhere.

pytest -m gpu -rs
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser
import onnxruntime as ort
import pytest

import bnfold
from bnfold.errors import EnvironmentUnfit
from bnfold.runtime.environment import examine
from bnfold.runtime.providers import CPU, ProviderUnfit, Target
from bnfold.runtime.run import run_model
from bnfold.runtime.session import LEVELS, Level, Session
from bnfold.runtime.source import read_source

pytestmark = pytest.mark.gpu
LENET = Path(__file__).resolve().parent.parent / "models" / "lenet.onnx"
CUDA = Target("cuda")
TF32 = Target("cuda", {"use_tf32": "1"})


@pytest.fixture(scope="module", autouse=True)
def cuda() -> None:
    """Skips, with the reason, where CUDA cannot be used."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        pytest.skip(f"onnxruntime {ort.__version__} is built without CUDA: pip install 'onnxruntime-gpu[cuda,cudnn]'")
    state = next(state for state in examine().providers if state.short == "cuda")
    if not state.loads:
        pytest.skip(f"CUDA does not start here: {state.missing}")


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gpu") / "lenet.folded.onnx"
    bnfold.optimize(LENET, path).raise_for_status()
    return path


@pytest.mark.parametrize("level", LEVELS)
def test_every_compute_node_is_on_the_gpu(level: Level) -> None:
    placement = Session(read_source(LENET, "original"), level, CUDA).placement
    assert placement.proved
    assert placement.nodes is not None
    assert placement.nodes["CUDAExecutionProvider"] > 0
    facts = placement.facts()
    assert (facts["use_tf32"], facts["tf32"], facts["cudnn_conv_algo_search"]) == ("0", "no", "HEURISTIC")


def test_an_operator_without_a_cuda_kernel_is_found_out() -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]>\nagraph (float[N,3,3] x) => (float[N] y) { r = Relu (x) y = Det (r) }'
    source = read_source(onnx.parser.parse_model(text), "original")
    with pytest.raises(ProviderUnfit, match=r"Det 1"):
        Session(source, "disabled", CUDA)
    mixed = Session(source, "disabled", Target("cuda", allow_fallback=True)).placement
    assert mixed.elsewhere == {"Det": 1}
    assert mixed.share == pytest.approx(0.5)


def test_sizes_may_stay_on_the_cpu() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    agraph (float[N,4,2,2] x) => (float[N,M] y) {
      [relu] r = Relu (x)
      [shape] s = Shape (r)
      [zero] zero = Constant <value_ints = [0]> ()
      [rows] n = Gather (s, zero)
      [rest] rest = Constant <value_ints = [-1]> ()
      [both] both = Concat <axis = 0> (n, rest)
      [flat] y = Reshape (r, both)
    }"""
    placement = Session(read_source(onnx.parser.parse_model(text), "original"), "disabled", CUDA).placement
    assert placement.proved
    assert placement.nodes is not None
    assert placement.nodes.get("CPUExecutionProvider", 0) > 0


def test_both_providers_give_the_same_answer() -> None:
    there, here = (next(run_model(LENET, target=target).answers).outputs["logits"] for target in (CUDA, CPU))
    np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("target", [CUDA, TF32], ids=["float32", "TF32"])
def test_the_folded_model_on_the_gpu_is_the_original_on_the_cpu(folded: Path, target: Target) -> None:
    bnfold.verify(LENET, folded, target=CPU, candidate_target=target).raise_for_status()


def test_both_models_on_the_gpu(folded: Path) -> None:
    bnfold.verify(LENET, folded, target=CUDA).raise_for_status()


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(EnvironmentUnfit):
        Session(read_source(LENET, "original"), "default", Target("cuda", {"device_id": "99"}))


@pytest.mark.parametrize("io_binding", [True, False], ids=["on the device", "with copies"])
def test_a_benchmark_runs_where_it_says(folded: Path, io_binding: bool) -> None:
    found = bnfold.bench(LENET, folded, target=CUDA, duration=0.3, blocks=2, batch=8, io_binding=io_binding)
    assert found.on_device is io_binding
    for row in found.rows:
        assert row.candidate is not None
        for timing in (row.original, row.candidate):
            assert timing.placement.proved
            assert {each.provider for each in timing.operators} >= {"CUDAExecutionProvider"}
            assert timing.placement.tf32  # a benchmark leaves onnxruntime's defaults alone
