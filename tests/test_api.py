"""The Python interface: what is there, what it takes, what it gives back, and that it leaves its arguments alone."""

from __future__ import annotations

import dataclasses
import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnfold

ROOT = Path(__file__).resolve().parents[1]
FUNCTIONS = ("fold", "inspect", "optimize", "plan", "verify")
ERRORS = {"BnfoldError": 4, "GateFailed": 1, "InputError": 2, "EnvironmentUnfit": 3}


@pytest.fixture
def model(network):
    return network()


@pytest.fixture
def path(model, tmp_path):
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def plain():
    """x → Conv → BatchNormalization → y, all that onnx-graphsurgeon can carry."""
    rng = np.random.default_rng(2)
    values = {
        "W": rng.normal(size=(4, 3, 1, 1)),
        "gamma": rng.normal(size=4),
        "beta": rng.normal(size=4),
        "mean": rng.normal(size=4),
    }
    values["var"] = rng.uniform(0.5, 2, 4)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "W"], ["c"], name="conv"),
            helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["y"], name="bn"),
        ],
        "plain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 4, 4])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


# -- what is there --------------------------------------------------------------------------------------------------------


def test_the_public_names_are_the_ones_that_can_be_imported():
    assert list(bnfold.__all__) == sorted(set(bnfold.__all__))
    assert {*FUNCTIONS, *ERRORS, "Plan", "Fold", "Refusal", "FoldResult", "Report", "Verification"} <= set(bnfold.__all__)
    for name in bnfold.__all__:
        assert getattr(bnfold, name).__name__ == name
    visible = {name for name in dir(bnfold) if not name.startswith("_")}
    ours = {name for name in visible if getattr(getattr(bnfold, name), "__module__", "").startswith("bnfold.")}
    assert ours == set(bnfold.__all__)
    assert set(bnfold.__all__) <= set(dir(bnfold))


def test_a_star_import_gives_the_public_names():
    names: dict[str, object] = {}
    exec("from bnfold import *", names)
    assert set(names) - {"__builtins__"} == set(bnfold.__all__)


@pytest.mark.parametrize("first", ["bnfold.fold", "bnfold.optimize", "bnfold.verify", "bnfold.cli.main", "bnfold.pipeline"])
def test_no_public_name_turns_into_a_module_when_something_else_is_imported(first):
    code = f"import importlib, bnfold\nname = {first!r}.removeprefix('bnfold.')\n"
    code += "getattr(bnfold, name, None) or importlib.import_module('bnfold.' + name)\n"
    code += "import pkgutil\nfor found in pkgutil.walk_packages(bnfold.__path__, 'bnfold.'):\n"
    code += "    if not found.name.endswith(('__main__', '.olive')): importlib.import_module(found.name)\n"
    code += "print([n for n in bnfold.__all__ if type(getattr(bnfold, n)).__name__ == 'module'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing"):
        bnfold.nothing  # noqa: B018
    with pytest.raises(ImportError):
        exec("from bnfold import nothing")


def test_every_public_name_has_a_docstring_that_tells_its_arguments():
    assert bnfold.__doc__
    for name in bnfold.__all__:
        thing = getattr(bnfold, name)
        assert thing.__doc__, name
        assert not thing.__doc__.startswith(f"{name}("), f"{name} has the docstring that a dataclass is given"
        for attribute, member in vars(thing).items() if isinstance(thing, type) else ():
            if not attribute.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                assert member.__doc__, f"{name}.{attribute}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_typed_and_what_they_raise_is_said(name):
    function = getattr(bnfold, name)
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(each.annotation is not inspect.Parameter.empty for each in signature.parameters.values())
    assert "Raises:" in function.__doc__
    assert "InputError" in function.__doc__


def test_the_signatures_are_the_promised_ones():
    options = {"freeze_initializers": False, "keep": (), "only": ()}
    measure = {"input_shapes": None, "inputs": None, "atol": None, "rtol": None, "seed": 0}
    promised = {
        "fold": (["model"], options),
        "plan": (["model"], options),
        "optimize": ([], options | measure | {"verify": True, "dry_run": False}),
        "verify": (["reference", "candidate"], measure),
    }
    for name, (positional, keywords) in promised.items():
        parameters = inspect.signature(getattr(bnfold, name)).parameters
        assert [each for each in parameters if parameters[each].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD][
            : len(positional)
        ] == positional
        for keyword, default in keywords.items():
            assert parameters[keyword].kind is inspect.Parameter.KEYWORD_ONLY, f"{name} {keyword}"
            assert parameters[keyword].default == default, f"{name} {keyword}"


def test_each_error_has_its_exit_code_and_one_base():
    for name, exit_code in ERRORS.items():
        error = getattr(bnfold, name)
        assert error.exit_code == exit_code
        assert issubclass(error, bnfold.BnfoldError)
        assert error.__module__ == "bnfold.errors"


def test_results_cannot_be_changed(path, tmp_path):
    report = bnfold.optimize(path, tmp_path / "out.onnx")
    for result in (report, report.plan, report.verification, report.plan.folds[0], bnfold.fold(path), bnfold.inspect(path)):
        assert dataclasses.is_dataclass(result)
        name = dataclasses.fields(result)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(result, name, None)


# -- fold and plan --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path])
def test_fold_takes_a_path(path, model, kind):
    before = path.read_bytes()
    result = bnfold.fold(kind(path))
    assert isinstance(result, bnfold.FoldResult)
    assert isinstance(result.model, onnx.ModelProto)
    assert len(result.plan.folds) == 3
    assert path.read_bytes() == before
    assert sorted(each.name for each in path.parent.iterdir()) == ["model.onnx"]


def test_fold_takes_a_model_and_leaves_it_alone(model):
    before = model.SerializeToString()
    result = bnfold.fold(model)
    assert isinstance(result.model, onnx.ModelProto)
    assert result.model is not model
    assert model.SerializeToString() == before
    result.model.graph.node[0].name = "mine"
    result.model.graph.initializer[0].raw_data = b""
    assert model.SerializeToString() == before


def test_fold_with_nothing_to_fold_does_not_hand_out_its_argument(model):
    before = model.SerializeToString()
    result = bnfold.fold(model, keep=["*"])
    assert result.model is not model
    assert result.model == model
    result.model.graph.initializer[0].raw_data = b""
    assert model.SerializeToString() == before


def state(graph: gs.Graph) -> tuple[object, ...]:
    """What can be seen of a gs.Graph, and the identity of its parts."""
    nodes = [
        (id(node), node.op, node.name, dict(node.attrs), [id(each) for each in node.inputs], [id(each) for each in node.outputs])
        for node in graph.nodes
    ]
    tensors = graph.tensors()
    values = {name: tensor.values.tobytes() for name, tensor in tensors.items() if isinstance(tensor, gs.Constant)}
    kinds = {name: (id(tensor), type(tensor)) for name, tensor in tensors.items()}
    ends = [[id(each) for each in side] for side in (graph.inputs, graph.outputs)]
    return nodes, kinds, values, ends, graph.name, graph.opset, graph.producer_name, str(graph.import_domains)


def test_fold_takes_a_graphsurgeon_graph_and_leaves_it_alone(plain, capfd):
    graph = gs.import_onnx(plain)
    before = state(graph)
    result = bnfold.fold(graph)
    assert isinstance(result.model, gs.Graph)
    assert result.model is not graph
    assert state(graph) == before
    (conv,) = result.model.nodes
    assert conv.op == "Conv"
    assert [each.name for each in result.model.outputs] == ["y"]
    expected = bnfold.fold(plain).model
    weight = numpy_helper.to_array(expected.graph.initializer[0])
    np.testing.assert_array_equal(conv.inputs[1].values, weight)
    assert gs.export_onnx(result.model).graph.output == expected.graph.output
    assert capfd.readouterr() == ("", "")
    next(iter(conv.inputs[1:])).values[:] = 0
    assert state(graph) == before


def test_a_graphsurgeon_graph_with_an_edit_folds_as_it_is_now(plain):
    graph = gs.import_onnx(plain)
    graph.tensors()["gamma"].values = np.full(4, 2, np.float32)
    edited = onnx.ModelProto()
    edited.CopyFrom(plain)
    edited.graph.initializer[1].raw_data = np.full(4, 2, np.float32).tobytes()
    folded = bnfold.fold(graph).model
    np.testing.assert_array_equal(
        folded.nodes[0].inputs[1].values, gs.import_onnx(bnfold.fold(edited).model).nodes[0].inputs[1].values
    )


def test_a_graphsurgeon_graph_keeps_its_versions(plain):
    graph = gs.import_onnx(plain)
    folded = bnfold.fold(graph).model
    assert folded.opset == graph.opset == 17
    assert gs.export_onnx(folded).ir_version == gs.export_onnx(graph).ir_version


def test_plan_decides_what_fold_does_and_changes_nothing(path, model, plain):
    before = model.SerializeToString()
    plans = [bnfold.plan(model), bnfold.plan(path), bnfold.plan(str(path)), bnfold.fold(model).plan, bnfold.fold(path).plan]
    assert all(isinstance(each, bnfold.Plan) for each in plans)
    assert all(each == plans[0] for each in plans)
    assert model.SerializeToString() == before
    graph = gs.import_onnx(plain)
    before = state(graph)
    assert bnfold.plan(graph).folds == bnfold.plan(plain).folds
    assert state(graph) == before


def test_a_plan_tells_what_it_found(model):
    plan = bnfold.plan(model, keep=["second.bn"])
    assert [verdict.kind for verdict in plan.verdicts] == ["fold", "refusal", "fold"]
    assert {*plan.folds, *plan.refusals} == set(plan.verdicts)
    first, second, body = plan.verdicts
    assert first.into == ("Conv `first.conv`",)
    assert (second.code, second.normalization.name, second.normalization.output) == ("BNF021", "second.bn", "second.n")
    assert (body.normalization.scope, body.normalization.channels) == ("if/then_branch", 4)
    assert body.normalization.epsilon == pytest.approx(1e-5)
    assert plan.operators_before["BatchNormalization"] == 3
    assert plan.operators_after["BatchNormalization"] == 1
    assert plan.operators_before["Conv"] == plan.operators_after["Conv"] == 3
    assert plan.refused_with("BNF021") == [second]
    assert plan.refused_with("BNF001") == []
    document = json.loads(json.dumps(plan.to_dict(), allow_nan=False))
    assert [each["kind"] for each in document["verdicts"]] == ["fold", "refusal", "fold"]
    assert document["verdicts"][0]["into"] == ["Conv `first.conv`"]
    assert document["verdicts"][1]["code"] == "BNF021"


def batch_normalizations(verdicts):
    return [each for each in verdicts if each.normalization.op_type == "BatchNormalization"]


@pytest.mark.parametrize(
    ("options", "folded"),
    [
        ({}, ["first.bn", "second.bn", "body.bn"]),
        ({"keep": ["first.*"]}, ["second.bn", "body.bn"]),
        ({"keep": ("first.bn", "body.n")}, ["second.bn"]),
        ({"keep": ["nothing"]}, ["first.bn", "second.bn", "body.bn"]),
        ({"only": ["*.n"]}, ["first.bn", "second.bn", "body.bn"]),
        ({"only": ["second.bn"]}, ["second.bn"]),
        ({"only": ["nothing"]}, []),
        ({"only": ["first.bn", "second.bn"], "keep": ["s*"]}, ["first.bn"]),
    ],
)
def test_keep_and_only_are_patterns_of_node_or_output_names(model, options, folded):
    result = bnfold.fold(model, **options)
    assert [fold.normalization.name for fold in result.plan.folds] == folded
    kept = batch_normalizations(result.plan.refusals)
    assert {refusal.code for refusal in kept} <= {"BNF021"}
    assert len(kept) + len(folded) == 3


@pytest.mark.parametrize("option", ["keep", "only"])
@pytest.mark.parametrize("function", [bnfold.fold, bnfold.plan])
def test_a_pattern_that_is_no_list_is_not_taken_letter_by_letter(model, option, function):
    # "*.bn" as a list of letters begins with "*", which matches everything.
    try:
        result = function(model, **{option: "second.*"})
    except (TypeError, bnfold.InputError):
        return
    plan = getattr(result, "plan", result)
    kept = [refusal.normalization.name for refusal in batch_normalizations(plan.refusals)]
    assert kept == (["second.bn"] if option == "keep" else ["first.bn", "body.bn"])


def test_a_weight_that_several_read_is_noted(model):
    model.graph.node.append(helper.make_node("Neg", ["first.weight"], ["negative"], name="reader"))
    model.graph.output.append(helper.make_tensor_value_info("negative", TensorProto.FLOAT, None))
    plan = bnfold.plan(model)
    assert [note.code for note in plan.all_notes] == ["BNF016"]
    assert isinstance(plan.all_notes[0], bnfold.Note)
    assert "first.weight" in plan.all_notes[0].sentence


# -- optimize -------------------------------------------------------------------------------------------------------------


def test_a_report_tells_what_was_done(path, tmp_path):
    out = tmp_path / "out.onnx"
    report = bnfold.optimize(path, out)
    assert isinstance(report, bnfold.Report)
    assert report.ok
    assert report.written
    assert not report.identical
    assert report.destination == str(out)
    assert report.size_after_bytes == out.stat().st_size
    assert report.source.path == str(path)
    assert report.source.size_bytes == path.stat().st_size
    assert (report.source.ir_version, report.source.opsets) == (8, {"": 17})
    assert report.elapsed_s > 0
    assert isinstance(report.plan, bnfold.Plan)
    assert isinstance(report.verification, bnfold.Verification)
    assert report.verification.ok
    assert report.verification.worst.output == "y"
    report.raise_for_status()


def test_a_report_is_json(path, tmp_path):
    report = bnfold.optimize(path, tmp_path / "out.onnx")
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["ok"] is True
    assert document["written"] is True
    assert document["error"] is None
    assert (document["folded"], document["kept"]) == (3, 0)
    assert len(document["plan"]["verdicts"]) == 3
    assert document["verification"]["ok"] is True
    assert document["source"]["path"] == str(path)
    assert document["bnfold"] == bnfold.__version__
    assert isinstance(document["schema"], int)
    for each in (bnfold.inspect(path), bnfold.plan(path), report.verification):
        json.dumps(each.to_dict(), allow_nan=False)


def test_a_failed_verification_is_in_the_report_and_is_raised_on_request(path, tmp_path):
    report = bnfold.optimize(path, tmp_path / "out.onnx", atol=0, rtol=0)
    assert not report.ok
    assert not report.written
    assert not (tmp_path / "out.onnx").exists()
    with pytest.raises(bnfold.GateFailed, match="`y`"):
        report.raise_for_status()
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["ok"] is False
    assert document["error"]["exit_code"] == 1
    assert not document["written"]


@pytest.mark.parametrize("options", [{"verify": False}, {"dry_run": True}, {"keep": ["*"]}])
def test_what_is_not_verified_says_so(path, tmp_path, options):
    report = bnfold.optimize(path, tmp_path / "out.onnx", **options)
    assert report.verification is None
    assert report.ok
    assert report.written == (tmp_path / "out.onnx").exists() == ("dry_run" not in options)
    assert report.identical == ("keep" in options)
    report.raise_for_status()
    assert report.to_dict()["verification"] is None


def test_a_dry_run_needs_no_place_to_write(path, tmp_path):
    report = bnfold.optimize(path, tmp_path / "absent" / "out.onnx", dry_run=True)
    assert len(report.plan.folds) == 3
    assert not report.written
    assert report.size_after_bytes is None


def test_optimize_takes_inputs_and_shapes(path, tmp_path):
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.normal(size=(2, 3, 8, 8)).astype(np.float32), "flag": np.array(flag)} for flag in (True, False)]
    report = bnfold.optimize(path, tmp_path / "out.onnx", inputs=feeds[:1])
    assert report.ok
    assert report.verification.feeds == 1
    np.savez(tmp_path / "feeds.npz", **feeds[1])
    assert bnfold.optimize(path, tmp_path / "out.onnx", inputs=tmp_path / "feeds.npz").ok
    assert bnfold.optimize(path, tmp_path / "out.onnx", input_shapes={"x": (3, 3, 8, 8)}).ok
    for wrong in ({"input_shapes": {"z": (1, 2)}}, {"input_shapes": {"x": (1, 5, 8, 8)}}, {"inputs": [{"x": feeds[0]["x"]}]}):
        with pytest.raises(bnfold.InputError):
            bnfold.optimize(path, tmp_path / "never.onnx", **wrong)
    assert not (tmp_path / "never.onnx").exists()


def test_a_seed_decides_the_inputs(path, tmp_path):
    found = [bnfold.optimize(path, tmp_path / "out.onnx", seed=seed).verification.outputs for seed in (0, 0, 1)]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_optimize_writes_what_fold_gives(path, tmp_path, model):
    bnfold.optimize(path, tmp_path / "out.onnx", metadata=False)
    assert onnx.load(tmp_path / "out.onnx") == bnfold.fold(path).model == bnfold.fold(model).model


def test_nothing_is_printed(path, tmp_path, capfd, plain):
    bnfold.optimize(path, tmp_path / "out.onnx")
    bnfold.verify(path, tmp_path / "out.onnx")
    bnfold.fold(gs.import_onnx(plain))
    bnfold.inspect(path)
    assert capfd.readouterr() == ("", "")


# -- verify and inspect ---------------------------------------------------------------------------------------------------


def test_verify_compares_paths_and_models(path, model, tmp_path):
    folded = bnfold.fold(model).model
    onnx.save(folded, tmp_path / "folded.onnx")
    before = (model.SerializeToString(), folded.SerializeToString())
    for reference in (path, str(path), model):
        for candidate in (tmp_path / "folded.onnx", folded):
            verification = bnfold.verify(reference, candidate)
            assert isinstance(verification, bnfold.Verification)
            assert verification.ok
            assert verification.feeds >= 1
            verification.raise_for_status()
    assert (model.SerializeToString(), folded.SerializeToString()) == before


def test_verify_notices_a_difference(model, network):
    verification = bnfold.verify(model, network(1))
    assert not verification.ok
    assert verification.failures
    with pytest.raises(bnfold.GateFailed):
        verification.raise_for_status()


def test_inspect_gives_facts_and_the_plan(path):
    inspection = bnfold.inspect(path)
    assert inspection.plan == bnfold.plan(path)
    assert inspection.facts.opsets == {"": 17}


# -- what is wrong is said ------------------------------------------------------------------------------------------------

NO_MODELS = (
    None,
    3,
    1.5,
    b"model.onnx",
    ["model.onnx"],
    {"graph": 1},
    object(),
    np.zeros(3),
    onnx.GraphProto(),
    onnx.TensorProto(),
)


@pytest.mark.parametrize("wrong", NO_MODELS, ids=lambda each: type(each).__name__)
def test_what_is_no_model_is_a_type_error(wrong):
    for function in (bnfold.fold, bnfold.plan):
        with pytest.raises(TypeError, match=type(wrong).__name__):
            function(wrong)


@pytest.mark.parametrize("wrong", NO_MODELS, ids=lambda each: type(each).__name__)
def test_what_is_no_path_is_a_type_error(wrong, path, tmp_path):
    with pytest.raises(TypeError):
        bnfold.optimize(wrong, tmp_path / "out.onnx")
    with pytest.raises(TypeError):
        bnfold.inspect(wrong)
    if wrong is not None:  # whether there is a default destination is not decided here
        with pytest.raises(TypeError):
            bnfold.optimize(path, wrong)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.onnx"]


@pytest.mark.parametrize("wrong", NO_MODELS, ids=lambda each: type(each).__name__)
def test_what_is_no_model_cannot_be_verified(wrong, path):
    for arguments in ((wrong, path), (path, wrong)):
        with pytest.raises((TypeError, bnfold.InputError), match=type(wrong).__name__):
            bnfold.verify(*arguments)


def test_options_are_given_by_name(path, tmp_path):
    for call in (
        lambda: bnfold.fold(path, True),
        lambda: bnfold.plan(path, True),
        lambda: bnfold.verify(path, path, {}),
        lambda: bnfold.fold(path, nothing=True),
        lambda: bnfold.fold(),
    ):
        with pytest.raises(TypeError):
            call()


@pytest.mark.parametrize(
    "options",
    [
        {"seed": -1},
        {"seed": "0"},
        {"atol": "1"},
        {"inputs": 3},
        {"inputs": []},
        {"input_shapes": {"x": 3}},
        {"input_shapes": ["x", 3]},
        {"input_shapes": {"x": "1,3,8,8"}},
        {"keep": [3]},
        {"keep": 3},
    ],
    ids=str,
)
def test_an_option_of_the_wrong_kind_is_a_type_error_or_an_input_error(path, tmp_path, options):
    with pytest.raises((TypeError, bnfold.InputError)):
        bnfold.optimize(path, tmp_path / "out.onnx", **options)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.onnx"]


@pytest.mark.parametrize("options", [{"atol": -1.0}, {"rtol": float("nan")}, {"atol": float("inf")}])
def test_a_tolerance_that_decides_nothing_is_refused(path, tmp_path, options):
    with pytest.raises(bnfold.InputError):
        bnfold.optimize(path, tmp_path / "out.onnx", **options)
    with pytest.raises(bnfold.InputError):
        bnfold.verify(path, path, **options)
    assert not (tmp_path / "out.onnx").exists()


def test_an_empty_model_is_an_input_error():
    for function in (bnfold.fold, bnfold.plan, lambda model: bnfold.verify(model, model)):
        with pytest.raises(bnfold.InputError, match="graph"):
            function(onnx.ModelProto())


def test_an_invalid_model_in_memory_is_an_input_error(plain):
    plain.graph.node[0].input[0] = "nowhere"
    before = plain.SerializeToString()
    for function in (bnfold.fold, bnfold.plan):
        with pytest.raises(bnfold.InputError, match="nowhere"):
            function(plain)
    assert plain.SerializeToString() == before


def test_a_graphsurgeon_graph_that_cannot_be_exported_is_an_input_error(capfd):
    graph = gs.Graph(inputs=[gs.Variable("x")], outputs=[gs.Variable("y")])  # without types
    graph.nodes.append(gs.Node("Relu", inputs=list(graph.inputs), outputs=list(graph.outputs)))
    for function in (bnfold.fold, bnfold.plan):
        with pytest.raises(bnfold.InputError, match="type"):
            function(graph)
    assert capfd.readouterr() == ("", "")
