"""A pass for Olive (https://github.com/microsoft/Olive) that folds, and verifies the result before it hands it on.

Olive finds its passes in a package-config file, and one that is named on its command line replaces its own. So `bnfold deploy
olive-config` writes Olive's with the pass added; docs/deploy.md shows a workflow that runs with it.

A workflow names the pass by `"type": "BnFold"`. Source: olive/package_config.py and olive/passes/olive_pass.py of olive-ai 0.13.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bnfold import pipeline
from bnfold.errors import EnvironmentUnfit

try:
    from olive.model import ONNXModelHandler
    from olive.model.utils import resolve_onnx_path
    from olive.package_config import OlivePackageConfig
    from olive.passes import Pass
    from olive.passes.pass_config import PassConfigParam
    from olive.resource_path import LocalFile, LocalFolder
except ImportError as error:
    raise EnvironmentUnfit(
        f"Olive is not there, or not whole ({error}). Install it beside bnfold: pip install olive-ai requests."
    ) from error

_PARAMETERS: dict[str, tuple[Any, Any, str]] = {
    "freeze_initializers": (bool, False, "Make constants of the initializers that callers could override (BNF006)."),
    "keep": (list[str], None, "Glob patterns of normalizations that stay."),
    "only": (list[str], None, "Glob patterns; when given, only matching normalizations fold."),
    "force": (bool, False, "Take folds that do not pay (BNF020), too."),
    "no_batchnorm": (bool, False, "Write BatchNormalizations that stay as primitives."),
    "verify": (bool, True, "Run the result against the model that came in; the pass fails unless they agree."),
    "input_shapes": (dict[str, list[int]], None, "Input name to shape, for inputs whose dimensions the model leaves open."),
    "atol": (float, None, "Absolute part of the tolerance, in units of the output."),
    "rtol": (float, None, "Part of the tolerance that is relative to the largest output value."),
    "seed": (int, 0, "Of the generated inputs."),
}


class BnFold(Pass):  # type: ignore[misc]
    """Folds batch normalizations into the operators around them. Its parameters are arguments of `bnfold.optimize`."""

    @classmethod
    def _default_config(cls, accelerator_spec: Any) -> dict[str, Any]:
        del accelerator_spec
        return {
            name: PassConfigParam(type_=type_, default_value=default, description=description)
            for name, (type_, default, description) in _PARAMETERS.items()
        }

    def _run_for_config(self, model: Any, config: Any, output_model_path: str) -> Any:
        source = Path(model.model_path)
        place = Path(resolve_onnx_path(output_model_path, source.name))
        options = {name: value for name in _PARAMETERS if (value := getattr(config, name)) is not None}
        report = pipeline.optimize(source, place, **options)
        report.raise_for_status()
        alone = [each.name for each in place.parent.iterdir()] == [place.name]
        return ONNXModelHandler(
            model_path=LocalFile({"path": str(place)}) if alone else LocalFolder({"path": str(place.parent)}),
            onnx_file_name=None if alone else place.name,
        )


def package_config() -> dict[str, Any]:
    """Olive's own package config with this pass in it, as it is in the file."""
    with Path(OlivePackageConfig.get_default_config_path()).open(encoding="utf-8") as stream:
        config: dict[str, Any] = json.load(stream)
    config["passes"][BnFold.__name__] = {
        "module_path": "bnfold.integrations.olive.BnFold",
        "supported_providers": ["*"],
        "supported_accelerators": ["*"],
        "supported_precisions": ["*"],
        "supported_algorithms": [],
        "supported_quantization_encodings": [],
        "module_dependencies": ["bnfold"],
    }
    return config
