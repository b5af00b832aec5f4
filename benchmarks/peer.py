"""Lets one tool fold one model file and write another, by the tool's defaults, with external data where the model has it.

python benchmarks/peer.py TOOL SOURCE TARGET
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx


def _load_and_save(source: Path, target: Path, external: bool) -> None:
    _save(onnx.load(source), target, external)


def _onnxruntime(source: Path, target: Path, external: bool) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 4
    if external:
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", f"{target.name}.data")
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def _onnxsim(source: Path, target: Path, external: bool) -> None:
    import onnxsim

    _save(onnxsim.simplify(str(source))[0], target, external)


def _onnxslim(source: Path, target: Path, external: bool) -> None:
    import onnxslim

    onnxslim.slim(str(source), str(target), save_as_external_data=external)


def _onnxoptimizer(source: Path, target: Path, external: bool) -> None:
    import onnxoptimizer

    _save(onnxoptimizer.optimize(onnx.load(source)), target, external)


def _onnxscript(source: Path, target: Path, external: bool) -> None:
    import onnx_ir
    from onnxscript import optimizer, rewriter

    model = onnx_ir.load(source)
    optimizer.optimize(model)
    model = rewriter.rewrite(model)
    onnx_ir.save(model, target, external_data=f"{target.name}.data" if external else None)


def _save(model: onnx.ModelProto, target: Path, external: bool) -> None:
    onnx.save(model, target, save_as_external_data=external, location=f"{target.name}.data" if external else None)


TOOLS = {
    "onnx.load + onnx.save": _load_and_save,
    "onnxruntime": _onnxruntime,
    "onnxsim": _onnxsim,
    "onnxslim": _onnxslim,
    "onnxoptimizer": _onnxoptimizer,
    "onnxscript": _onnxscript,
}


if __name__ == "__main__":
    tool, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    sys.path.pop(0)
    TOOLS[tool](source, target, source.with_name(f"{source.name}.data").exists())
    written = onnx.load(target, load_external_data=False).graph.node
    left = sum(node.op_type == "BatchNormalization" for node in written)
    if left and tool != "onnx.load + onnx.save":
        sys.exit(f"{left} of its BatchNormalizations are left")
