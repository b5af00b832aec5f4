"""Prints docs/report.schema.json: what every JSON document of bnfold holds, read from the dataclasses that it is made of.

    python docs/report_schema.py > docs/report.schema.json

The descriptions are those of the dataclasses' docstrings. What a document holds beside their fields stands in `SPECIAL`.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bnfold import provenance, verdict
from bnfold.ranges import WeightRange
from bnfold.report import exported, findings, folder, recalibrated
from bnfold.report import report as reports
from bnfold.runtime import (
    against_truth,
    bench_profile,
    bench_result,
    bench_statistics,
    compare,
    deviation,
    environment,
    layers,
    placement,
    verification,
)
from bnfold.runtime.accuracy import result as accuracy
from bnfold.runtime.accuracy import tally

MODULES = (
    provenance,
    verdict,
    exported,
    findings,
    folder,
    recalibrated,
    reports,
    against_truth,
    bench_profile,
    bench_result,
    bench_statistics,
    compare,
    deviation,
    environment,
    layers,
    placement,
    verification,
    tally,
    accuracy,
)

Schema = dict[str, Any]
Field = tuple[Any, str]
"""A type, or a ready schema, and a description."""


MODEL_PATH = (str, "The model file.")
NOTES = (list[verdict.Note], "Remarks.")

OPTIMIZE: Schema = {"anyOf": [{"$ref": "#/$defs/optimize"}, {"type": "null"}]}
AGREED: Schema = {"type": "array", "items": {"$ref": "#/$defs/AgreedOutput"}}
SUMMARIES: Schema = {"type": "object", "additionalProperties": {"$ref": "#/$defs/Summary"}}

SPECIAL: dict[type, tuple[frozenset[str], dict[str, Field]]] = {
    verdict.Fold: (frozenset(), {"kind": (Literal["fold"], "What the verdict is.")}),
    verdict.Refusal: (frozenset(), {"kind": (Literal["refusal"], "What the verdict is.")}),
    deviation.Deviation: (
        frozenset({"max_abs", "squares", "signal", "elements"}),
        {
            "max": (float, "The largest magnitude."),
            "rms": (float, "Root of the mean square."),
            "sqnr_db": (float, "Signal to quantization noise ratio in dB; null where there is no difference."),
        },
    ),
    against_truth.AgainstTruth: (
        frozenset(),
        {"ulp_edges": (list[float], "Upper ends of the bins of `ulps`.")},
    ),
    compare.Comparison: (
        frozenset(),
        {"ok": (bool, "Whether the two are equivalent."), "relative": (float, "`max_abs_diff / reference_max`.")},
    ),
    layers.Layer: (frozenset({"affine"}), {}),
    verification.OutputComparison: (frozenset({"worst"}), {}),
    verification.Verification: (
        frozenset(),
        {
            "ok": (bool, "Whether the two models are equivalent on everything that was tried."),
            "argmax_changed": (int, "Rows whose largest value moved, over all outputs and inputs, without optimizations."),
            "argmax_total": (int, "All rows that have a largest value, counted the same way."),
            "argmax_certified": (int, "Rows whose largest value leads by more than twice the largest difference."),
        },
    ),
    accuracy.Score: (
        frozenset(),
        {
            "accuracy": (float | None, "Top-1 accuracy, 0 to 1."),
            "interval": (tuple[float, float] | None, "Wilson's interval."),
        },
    ),
    accuracy.Pairs: (
        frozenset(),
        {
            "flips": (int, "Samples on which the two models answer differently."),
            "agreement": (float, "The share of samples with the same answer, 0 to 1."),
            "agreement_interval": (tuple[float, float], "Wilson's interval for it."),
            "mcnemar_p": (float, "The p-value of McNemar's exact test."),
            "drop": (float, "Accuracy of the reference less that of the candidate."),
            "drop_interval": (tuple[float, float], "Tango's interval for it."),
            "confidence": (float, "Of all the intervals."),
        },
    ),
    accuracy.Accuracy: (
        frozenset({"tally"}),
        {
            "ok": (bool, "Whether every stated condition is met."),
            "samples": (int, "How many were judged."),
            "classes": (int | None, "How many classes there are; null where none were compared."),
            "metric_drop": (float | None, "Mean of the user's metric, reference less candidate."),
            "flips": (list[tally.Flip], "The first samples on which the two models decide differently."),
        },
    ),
    placement.Placement: (
        frozenset({"examples"}),
        {
            "share": (float | None, "The part of all nodes that the requested provider took, 0 to 1."),
            "proved": (bool, "Whether it is certain that the requested provider ran every compute node."),
        },
    ),
    bench_statistics.Difference: (frozenset(), {"sentence": (str, "What may be said, in words.")}),
    bench_result.Timing: (
        frozenset({"latency", "creation", "placement"}),
        {
            "latency_s": (bench_statistics.Interval, "Seconds for one run."),
            "throughput": (float, "Samples per second, one run after the other."),
            "creation_s": (bench_statistics.Interval, "Seconds to create a session."),
            "provider": (placement.Placement, "Where it ran, and how."),
        },
    ),
    findings.Finding: (frozenset(), {"level": (findings.Level, "How much it matters.")}),
    folder.Outcome: (
        frozenset({"report"}),
        {"ok": (bool, "Whether the model came through."), "report": (OPTIMIZE, "What was done; null where it could not be.")},
    ),
    exported.ExportReport: (frozenset({"folded"}), {"folded": (OPTIMIZE, "What folding did; null when it was not asked for.")}),
    exported.Agreement: (
        frozenset({"comparisons"}),
        {
            "ok": (bool, "Whether every output agrees."),
            "outputs": (AGREED, "Each output."),
        },
    ),
    WeightRange: (
        frozenset(),
        {
            "spread_before": (
                float | None,
                "The widest channel over the narrowest one, in the original.",
            ),
            "spread_after": (float, "The same in the folded model."),
            "starved_channels": (int, "Channels that one scale for the whole tensor leaves fewer than 4 of 8 bits."),
            "is_worse": (bool, "Whether folding left a channel with too few bits (BNF060)."),
        },
    ),
}
"""Dataclass → fields that its document leaves out, and what it holds beside the others."""


def documents() -> dict[str, tuple[str, dict[str, Field]]]:
    """Every command: what its document is about, and what it holds beside the head that all have."""
    return {
        "optimize": (
            "What `bnfold optimize MODEL` did.",
            fields(reports.Report)
            | {
                "folded": (int, "How many normalizations fold."),
                "kept": (int, "How many stay."),
            },
        ),
        "folder": (
            "What `bnfold optimize FOLDER` did.",
            {name: field for name, field in fields(folder.FolderReport).items() if name != "outcomes"}
            | {"models": (list[folder.Outcome], "One for each model, sorted by path.")},
        ),
        "inspect": (
            "What `bnfold inspect` found.",
            {"source": (reports.ModelFacts, "The file."), "plan": (verdict.Plan, "One verdict for each normalization.")},
        ),
        "verify": (
            "What `bnfold verify` measured.",
            {
                "reference": (str, "The original's path."),
                "candidate": (str, "The candidate's path."),
                "verification": (verification.Verification, "The measured differences."),
            },
        ),
        "accuracy": (
            "What `bnfold accuracy` counted.",
            fields(accuracy.Accuracy),
        ),
        "bench": ("What `bnfold bench` measured.", fields(bench_result.Benchmark) | {"notes": NOTES}),
        "check": ("What `bnfold check` found.", fields(findings.Check)),
        "run": (
            "What `bnfold run` ran.",
            {
                "model": MODEL_PATH,
                "provider": (placement.Placement, "Where it ran, and how."),
                "notes": NOTES,
                "answers": ({"type": "array", "items": {"$ref": "#/$defs/Answer"}}, "One for each input."),
            },
        ),
        "doctor": ("What `bnfold doctor` found.", fields(environment.Environment)),
        "config": (
            "What `bnfold config` found to be in force.",
            {
                "file": (str | None, "The settings file; null where there is none."),
                "settings": ({"type": "array", "items": {"$ref": "#/$defs/Setting"}}, "Every option of every command."),
                "ignored": (list[str], "Environment variables that no command has as an option."),
            },
        ),
        "ranges": (
            "What `bnfold ranges` measured.",
            {
                "original": (str, "The original's path."),
                "folded": (str, "The folded model's path."),
                "weights": (list[WeightRange], "Every weight."),
                "notes": NOTES,
            },
        ),
        "recalibrate": (
            "What `bnfold recalibrate` did.",
            fields(recalibrated.Recalibration) | {"samples": (int, "How many samples the statistics are of.")},
        ),
        "export": ("What `bnfold export` did.", fields(exported.ExportReport)),
        "error": ("What a command prints that failed before it had anything else to say.", {}),
    }


HEAD: dict[str, Field] = {
    "schema": ({"const": reports.SCHEMA}, "Version of the documents. It rises when a key changes its meaning or goes."),
    "bnfold": (str, "Version of bnfold."),
    "ok": (bool, "Whether nothing speaks against the result."),
    "error": (
        {
            "anyOf": [
                {"type": "null"},
                {
                    "type": "object",
                    "properties": {
                        "message": {"type": "string", "description": "What happened, where, and what to do."},
                        "exit_code": {"type": "integer", "description": "The command's exit code."},
                    },
                    "required": ["message", "exit_code"],
                },
            ]
        },
        "What speaks against it; null where nothing does.",
    ),
}


def others() -> dict[str, tuple[str, dict[str, Field]]]:
    """What is no dataclass of its own."""
    compared = fields(compare.Comparison)
    return {
        "Answer": (
            "The outputs for one input.",
            {
                "input": (str, "What the input is called."),
                "output": (str | None, "The file that was written."),
                "outputs": (
                    {"type": "object", "additionalProperties": {"$ref": "#/$defs/Summary"}},
                    "Output name → what it holds.",
                ),
            },
        ),
        "Setting": (
            "One option.",
            {
                "command": (str, "The command."),
                "option": (str, "Its name as a flag has it, without the dashes."),
                "value": ({}, "What it is set to."),
                "origin": (str, '"default", an environment variable, or a file with its table.'),
            },
        ),
        "AgreedOutput": (
            "One output of two models.",
            {"output": (str, "Its name."), "input": (str, "What the input is called."), **compared},
        ),
        "OutputComparison": (summary(verification.OutputComparison), {**fields(verification.OutputComparison), **compared}),
    }


SUMMARY: Schema = {
    "description": "Type, shape and range of one output.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "description": "numpy's name for it, or sequence, map or absent."},
        "shape": {"type": "array", "items": {"type": "integer"}, "description": "Of an array."},
        "length": {"type": "integer", "description": "Of a sequence or a map."},
        "non_finite": {"type": "integer", "description": "How many values are NaN or inf."},
        **{name: {"type": "number", "description": f"The {name} of the finite values."} for name in ("min", "max", "mean")},
    },
    "required": ["type"],
}
NAMES: dict[type, str] = {recalibrated.Layer: "RecalibratedLayer"}
"""Dataclasses that are not called what they are called; two have one name."""


def summary(cls: type) -> str:
    """The first sentence of a docstring."""
    return " ".join((cls.__doc__ or "").strip().split("\n\n")[0].split())


def described(cls: type) -> dict[str, str]:
    """Field → what the docstring says about it."""
    _, _, attributes = (cls.__doc__ or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    for name, text in re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", attributes, re.M):
        words = " ".join(text.split())
        found[name] = words[:1].upper() + words[1:]
    return found


def fields(cls: type) -> dict[str, Field]:
    """What the document of a dataclass holds, with types and descriptions."""
    known = {name: value for module in MODULES for name, value in vars(module).items() if not name.startswith("__")}
    hints = get_type_hints(cls, localns={**known, **vars(sys.modules[cls.__module__])})
    omitted, added = SPECIAL.get(cls, (frozenset(), {}))
    words = described(cls)
    own = {one.name: (hints[one.name], words[one.name]) for one in dataclasses.fields(cls) if one.name not in omitted}
    return {**own, **added}


def typed(annotation: Any, definitions: dict[str, Schema]) -> Schema:
    """The schema of a type. A float that is NaN or inf is null."""
    plain = {str: "string", int: "integer", bool: "boolean", type(None): "null"}
    if isinstance(annotation, dict):
        return annotation
    if annotation is float:
        return {"type": ["number", "null"]}
    if annotation in plain:
        return {"type": plain[annotation]}
    if dataclasses.is_dataclass(annotation):
        return referred(annotation, definitions)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return united([typed(each, definitions) for each in arguments])
    if origin in (dict, Mapping) or getattr(origin, "__name__", "") == "Mapping":
        return {"type": "object", "additionalProperties": typed(arguments[1], definitions)}
    if origin is tuple and arguments[-1] is not Ellipsis:
        items = [typed(each, definitions) for each in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if origin in (list, tuple, Sequence) or getattr(origin, "__name__", "") == "Sequence":
        return {"type": "array", "items": typed(arguments[0], definitions)}
    raise TypeError(f"no schema for {annotation}")


def united(schemas: list[Schema]) -> Schema:
    """Any of them; one schema where types alone tell them apart."""
    if all(schema.keys() == {"type"} for schema in schemas):
        names = [name for schema in schemas for name in ([schema["type"]] if isinstance(schema["type"], str) else schema["type"])]
        return {"type": list(dict.fromkeys(names))}
    return {"anyOf": schemas}


def referred(cls: type, definitions: dict[str, Schema]) -> Schema:
    """A reference to the definition of a dataclass, which is made where it is missing."""
    name = NAMES.get(cls, cls.__name__)
    if name not in definitions:
        definitions[name] = {}  # some hold themselves
        definitions[name] = record(summary(cls), fields(cls), definitions)
    return {"$ref": f"#/$defs/{name}"}


def record(description: str, content: dict[str, Field], definitions: dict[str, Schema]) -> Schema:
    """An object that has all of these."""
    properties = {name: {**typed(annotation, definitions), "description": words} for name, (annotation, words) in content.items()}
    return {"description": description, "type": "object", "properties": properties, "required": list(properties)}


def schema() -> Schema:
    """The whole schema: one definition for each command, and what they are made of."""
    definitions: dict[str, Schema] = {"Summary": SUMMARY}
    for name, (description, content) in others().items():
        definitions[name] = record(description, content, definitions)
    commands = {name: record(about, {**HEAD, **content}, definitions) for name, (about, content) in documents().items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Documents of bnfold",
        "description": "What `--json` and `--report FILE.json` write, one definition for each command. New keys may come.",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in commands],
        "$defs": {**commands, **dict(sorted(definitions.items()))},
    }


if __name__ == "__main__":
    print(json.dumps(schema(), indent=1, ensure_ascii=False))
