"""`bnfold.export`: what is said about a module, what the file looks like, and that it computes what the module does."""

from __future__ import annotations

import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

import bnfold
from bnfold.errors import GateFailed, InputError

torch = pytest.importorskip("torch", reason="torch is not installed (pip install 'bnfold[torch]')")
if find_spec("onnxscript") is None:
    pytest.skip("onnxscript is not installed (pip install 'bnfold[torch]')", allow_module_level=True)

from torch import nn  # noqa: E402

from bnfold.exporter import torch_calls  # noqa: E402
from bnfold.exporter.examine import norms_of, statistics  # noqa: E402
from bnfold.exporter.export import save  # noqa: E402
from bnfold.exporter.names import tidy  # noqa: E402
from bnfold.exporter.plumbing import remove_plumbing  # noqa: E402

X = torch.zeros(1, 3, 6, 6)


class Net(nn.Module):
    """Conv without bias, a normalization, dropout, and a linear layer without bias behind which a second one stands."""

    def __init__(self, norm=None):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = norm if norm is not None else nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 5, bias=False)
        self.last = nn.BatchNorm1d(5)

    def forward(self, image):
        return self.last(self.head(self.drop(torch.relu(self.norm(self.conv(image))).mean((2, 3)))))


class Frozen(nn.Module):
    """Four buffers and one line of arithmetic, as detection networks freeze their normalizations."""

    def __init__(self, channels):
        super().__init__()
        for name, value in (("weight", 1.5), ("bias", 0.25), ("running_mean", 0.5), ("running_var", 2.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x):
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        bias = self.bias - self.running_mean * scale
        return x * scale.reshape(1, -1, 1, 1) + bias.reshape(1, -1, 1, 1)


def lively(module, seed=0):
    """`module` with statistics and parameters that differ from channel to channel, still in training mode."""
    generator = torch.Generator().manual_seed(seed)
    for each in module.modules():
        if isinstance(each, nn.modules.batchnorm._BatchNorm) and each.running_mean is not None:
            each.running_mean = torch.randn(each.num_features, generator=generator)
            each.running_var = torch.rand(each.num_features, generator=generator) + 0.5
            if each.affine:
                nn.init.normal_(each.weight, generator=generator)
                nn.init.normal_(each.bias, generator=generator)
    return module


def codes(report, fatal=None):
    return [each.code for each in report.diagnostics if fatal is None or each.fatal is fatal]


def counts(path):
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """One network in training mode, exported and folded."""
    folder = tmp_path_factory.mktemp("exported")
    net = lively(Net())
    unfolded = bnfold.export(net, X, folder / "net.onnx")
    folded = bnfold.export(net, X, folder / "folded.onnx", fold=True)
    return SimpleNamespace(net=net, unfolded=unfolded, folded=folded, folder=folder)


class TestFile:
    def test_normalizations_are_kept_under_their_names(self, exported):
        model = onnx.load(exported.folder / "net.onnx")
        norms = {node.name: list(node.input)[1:] for node in model.graph.node if node.op_type == "BatchNormalization"}
        parts = ("weight", "bias", "running_mean", "running_var")
        assert norms == {f"{name}/BatchNormalization": [f"{name}.{part}" for part in parts] for name in ("norm", "last")}
        assert not [a for node in model.graph.node for a in node.attribute if a.name == "training_mode" and a.i]
        assert exported.unfolded.kept == 2

    def test_is_valid_and_for_current_runtimes(self, exported):
        model = onnx.load(exported.folder / "net.onnx")
        onnx.checker.check_model(model, full_check=True)
        assert ([(o.domain, o.version) for o in model.opset_import], model.ir_version) == ([("", 18)], 10)

    def test_no_bias_is_computed_and_no_dropout_left(self, exported):
        found = counts(exported.folder / "net.onnx")
        assert not {"Expand", "CastLike", "Shape", "Dropout"} & found.keys()
        (conv,) = (node for node in onnx.load(exported.folder / "net.onnx").graph.node if node.op_type == "Conv")
        assert len(conv.input) == 2

    def test_batch_is_dynamic_and_names_are_those_of_forward(self, exported):
        (image,), (output,) = (getattr(onnx.load(exported.folder / "net.onnx").graph, part) for part in ("input", "output"))
        assert (image.name, output.name) == ("image", "output")
        assert [dim.dim_param or dim.dim_value for dim in image.type.tensor_type.shape.dim] == ["batch", 3, 6, 6]

    def test_holds_nothing_of_the_machine(self, exported):
        content = (exported.folder / "net.onnx").read_bytes()
        assert b"site-packages" not in content
        assert b"stack_trace" not in content

    def test_same_bytes_again(self, exported):
        bnfold.export(exported.net, X, exported.folder / "again.onnx")
        assert (exported.folder / "again.onnx").read_bytes() == (exported.folder / "net.onnx").read_bytes()

    def test_static(self, exported):
        report = bnfold.export(exported.net, X, exported.folder / "static.onnx", dynamic_batch=False, input_names=["x"])
        (value,) = onnx.load(exported.folder / "static.onnx").graph.input
        assert (value.name, [dim.dim_value for dim in value.type.tensor_type.shape.dim]) == ("x", [1, 3, 6, 6])
        assert not report.dynamic_batch

    def test_another_opset(self, exported):
        report = bnfold.export(exported.net, X, exported.folder / "o.onnx", opset=20)
        assert onnx.load(exported.folder / "o.onnx").opset_import[0].version == report.opset == 20

    @pytest.mark.parametrize("opset", [7, 99])
    def test_an_opset_that_cannot_be_had(self, exported, opset, caplog):
        with pytest.raises(InputError, match=rf"opset {opset}.*--opset"):
            bnfold.export(exported.net, X, exported.folder / "no.onnx", opset=opset)
        assert not [record for record in caplog.records if record.exc_info]
        assert not (exported.folder / "no.onnx").exists()


class TestAgreement:
    def test_the_three_agree(self, exported):
        report = exported.folded
        assert report.ok
        assert [(each.left, each.right) for each in report.agreements] == [
            ("PyTorch", "unfolded"),
            ("PyTorch", "folded"),
            ("unfolded", "folded"),
        ]
        assert all(each.comparisons and each.inputs == 4 for each in report.agreements)
        assert len(report.folded.plan.folds) == 2
        assert not counts(exported.folder / "folded.onnx")["BatchNormalization"]

    def test_only_the_folded_file_is_written(self, exported):
        assert {path.name for path in exported.folder.iterdir()} >= {"net.onnx", "folded.onnx"}
        assert not [path for path in exported.folder.iterdir() if "unfolded" in path.name or path.name.startswith(".")]

    def test_real_inputs(self, exported, tmp_path):
        rng = np.random.default_rng(3)
        np.savez(tmp_path / "in.npz", image=rng.normal(size=(7, 3, 6, 6)).astype(np.float32))
        report = bnfold.export(exported.net, X, tmp_path / "net.onnx", inputs=tmp_path / "in.npz", fold=True)
        assert [each.inputs for each in report.agreements] == [1, 1, 1]
        assert report.agreements[0].comparisons[0][2].argmax_total == 7

    def test_a_file_that_computes_something_else_is_not_written(self, exported, tmp_path, monkeypatch):
        from bnfold.exporter import export as module

        def spoiled(*args):
            model = torch_calls.to_onnx(*args)
            (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "norm.running_mean")
            weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) + 1, weight.name))
            return model

        monkeypatch.setattr(module, "to_onnx", spoiled)
        report = bnfold.export(exported.net, X, tmp_path / "net.onnx", fold=True)
        assert not report.ok
        assert not report.written
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(GateFailed, match="PyTorch and unfolded: Output `output` differs"):
            report.raise_for_status()

    def test_several_outputs_and_inputs(self, tmp_path):
        class Two(nn.Module):
            def __init__(self):
                super().__init__()
                self.norm = nn.BatchNorm1d(4)

            def forward(self, left, right):
                return {"sum": self.norm(left + right), "index": (left * 2, None)}

        report = bnfold.export(lively(Two()), (torch.zeros(2, 4), torch.zeros(2, 4)), tmp_path / "two.onnx")
        graph = onnx.load(tmp_path / "two.onnx").graph
        assert report.ok
        assert [value.name for value in graph.input] == ["left", "right"]
        assert [value.name for value in graph.output] == ["output_0", "output_1"]

    @pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
    def test_other_types(self, dtype, tmp_path):
        net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        report = bnfold.export(lively(net).to(dtype), torch.zeros(2, 3, dtype=dtype), tmp_path / "net.onnx", fold=True)
        assert report.ok
        assert report.folded.plan.folds


class TestEval:
    def test_training_mode_is_said_and_given_back(self, exported):
        report = exported.unfolded
        assert report.set_to_eval == 6
        assert codes(report) == ["BNF001", "BNF002"]
        assert report.diagnostics[0].names == ("norm", "last")
        assert report.diagnostics[1].names == ("drop",)
        assert all(each.remedy and not each.fatal for each in report.diagnostics)
        assert all(part.training for part in exported.net.modules())

    def test_a_mixture_of_modes_is_given_back(self, tmp_path):
        net = lively(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)).train())
        net[1].eval()
        report = bnfold.export(net, X, tmp_path / "net.onnx")
        assert [part.training for part in net.modules()] == [True, True, False, True]
        assert report.diagnostics[0].names == ("2",)
        assert report.set_to_eval == 3

    def test_nothing_to_say_in_eval_mode(self, tmp_path):
        report = bnfold.export(lively(nn.BatchNorm2d(3)).eval(), X, tmp_path / "net.onnx")
        assert (report.diagnostics, report.set_to_eval) == ((), 0)

    def test_a_part_that_does_not_listen(self, tmp_path):
        class Deaf(nn.BatchNorm2d):
            def train(self, mode=True):
                return super().train(True)

        report = bnfold.export(lively(nn.Sequential(Deaf(3))), X, tmp_path / "net.onnx")
        assert codes(report, fatal=True) == ["BNF001"]
        assert not (tmp_path / "net.onnx").exists()

    @pytest.mark.parametrize(
        ("call", "code"),
        [
            (lambda self, x: nn.functional.batch_norm(x, self.mean, self.var, training=True), "BNF001"),
            (lambda self, x: nn.functional.batch_norm(x, None, None, training=True), "BNF001"),
            (lambda self, x: nn.functional.dropout(x, 0.5, training=True), "BNF002"),
        ],
        ids=["with statistics", "without", "dropout"],
    )
    def test_training_written_in_the_code(self, call, code, tmp_path):
        class Hard(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("mean", torch.ones(3))
                self.register_buffer("var", torch.ones(3))

            forward = call

        report = bnfold.export(Hard(), X, tmp_path / "net.onnx")
        assert codes(report, fatal=True) == [code]
        assert not (tmp_path / "net.onnx").exists()

    def test_a_program_traced_in_training_mode(self, tmp_path):
        net = lively(Net()).train()
        program = torch.export.export(net, (torch.randn(4, 3, 6, 6),))
        report = bnfold.export(program, (), tmp_path / "net.onnx")
        assert codes(report, fatal=True) == ["BNF001", "BNF002"]
        assert report.diagnostics[-2].names == ("norm", "last")
        assert not (tmp_path / "net.onnx").exists()

    def test_a_program_traced_in_eval_mode(self, tmp_path):
        program = torch.export.export(lively(Net()).eval(), (torch.randn(4, 3, 6, 6),))
        report = bnfold.export(program, (), tmp_path / "net.onnx", fold=True)
        assert report.ok
        assert report.normalizations == {"batch_norm": 2}
        assert len(report.folded.plan.folds) == 2


def spoiled_norm(mean=0.5, var=1.5, batches=7):
    norm = nn.BatchNorm2d(4)
    norm.running_mean.fill_(mean)
    norm.running_var.fill_(var)
    norm.num_batches_tracked.fill_(batches)
    return norm


@pytest.mark.parametrize(
    ("norm", "code", "fatal", "words"),
    [
        (nn.BatchNorm2d(4, track_running_stats=False), "BNF024", True, "no running statistics"),
        (spoiled_norm(var=float("nan")), "BNF007", True, "NaN"),
        (spoiled_norm(mean=float("inf")), "BNF007", True, "infinite"),
        (spoiled_norm(var=-1.0), "BNF007", True, "below zero"),
        (spoiled_norm(var=-1e-6), "BNF007", False, "negative"),
        (nn.BatchNorm2d(4), "BNF017", False, "no batch was counted"),
        (spoiled_norm(0.0, 1.0), "BNF017", False, "mean 0 and variance 1 everywhere"),
        (spoiled_norm(0.5, 0.0), "BNF017", False, "variance 0 everywhere"),
    ],
    ids=["absent", "nan", "inf", "negative", "slightly negative", "never updated", "untrained", "empty"],
)
def test_statistics(norm, code, fatal, words):
    (found,) = statistics(norms_of(nn.Sequential(nn.Conv2d(3, 4, 3), norm)))
    assert (found.code, found.fatal, found.names) == (code, fatal, ("1",))
    assert words in found.sentence
    assert "recalibrate" in found.remedy


def test_good_statistics_get_no_diagnostic():
    assert statistics(norms_of(nn.Sequential(spoiled_norm(), spoiled_norm(0.0, 2.0, 0)))) == []


def test_fatal_statistics_write_nothing(tmp_path):
    report = bnfold.export(Net(nn.BatchNorm2d(4, track_running_stats=False)), X, tmp_path / "net.onnx")
    assert codes(report, fatal=True) == ["BNF024"]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(GateFailed, match="BNF024: norm"):
        report.raise_for_status()


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(4, track_running_stats=False, affine=False), spoiled_norm(var=float("nan"))])
def test_placeholders(norm, tmp_path):
    net = lively(Net(norm)) if norm.running_mean is None else Net(norm)
    report = bnfold.export(net, X, tmp_path / "net.onnx", placeholder_statistics=True)
    assert report.ok
    assert "BNF017" in codes(report)
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(tmp_path / "net.onnx").graph.initializer}
    assert not tensors["norm.running_mean"].any()
    assert (tensors["norm.running_var"] == 1).all()
    assert net.norm.running_mean is None or torch.isnan(net.norm.running_var).all()  # the module itself stays as it was


@pytest.mark.parametrize(
    ("norm", "folds"),
    [
        (lively(nn.SyncBatchNorm(4)), 2),
        (nn.LazyBatchNorm2d(), 2),
        (lively(nn.BatchNorm2d(4, affine=False)), 2),
        (lively(nn.BatchNorm2d(4, momentum=None)), 2),
        (Frozen(4), 2),
        (torch.nn.utils.fuse_conv_bn_eval, 1),
    ],
    ids=["SyncBatchNorm", "LazyBatchNorm", "affine=False", "momentum=None", "frozen", "none"],
)
def test_kinds_of_normalization(norm, folds, tmp_path):
    net = Net(nn.Identity() if not isinstance(norm, nn.Module) else norm)
    lively(net.last)
    report = bnfold.export(net, X, tmp_path / "net.onnx", fold=True)
    assert report.ok
    assert len(report.folded.plan.folds) == folds
    assert not counts(tmp_path / "net.onnx").keys() & {"BatchNormalization", "Mul", "Sub", "Expand", "CastLike"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
class TestScripted:
    def test_a_script_module_says_why_not(self, tmp_path):
        with pytest.raises(InputError, match=r"it is a ScriptModule.*--weights"):
            bnfold.export(torch.jit.script(nn.Sequential(nn.BatchNorm2d(3)).eval()), X, tmp_path / "net.onnx")

    def test_a_scripted_part_says_which(self, tmp_path):
        with pytest.raises(InputError, match=r"norm is a ScriptModule"):
            bnfold.export(Net(torch.jit.script(lively(nn.BatchNorm2d(4)).eval())), X, tmp_path / "net.onnx")

    def test_a_traced_part_works(self, tmp_path):
        traced = torch.jit.trace(lively(nn.BatchNorm2d(4)).eval(), torch.zeros(2, 4, 5, 5))
        report = bnfold.export(lively(Net(traced)), X, tmp_path / "net.onnx")
        assert report.ok
        assert report.kept == 2
        assert sum(report.normalizations.values()) == 2

    def test_a_part_traced_in_training_mode_is_refused(self, tmp_path):
        traced = torch.jit.trace(lively(nn.BatchNorm2d(4)).train(), torch.randn(2, 4, 5, 5))
        report = bnfold.export(lively(Net(traced)), X, tmp_path / "net.onnx")
        assert "BNF001" in codes(report, fatal=True)
        assert not (tmp_path / "net.onnx").exists()


def test_wrappers_are_taken_off(tmp_path):
    report = bnfold.export(nn.DataParallel(lively(Net())), X, tmp_path / "net.onnx")
    assert report.ok
    assert "norm/BatchNormalization" in {node.name for node in onnx.load(tmp_path / "net.onnx").graph.node}


def test_code_that_fixes_the_batch_says_what_to_do(tmp_path):
    class Fixed(nn.Module):
        def forward(self, x):
            return x.reshape(2, 108).sum(1)

    with pytest.raises(InputError, match=r"--static"):
        bnfold.export(Fixed(), torch.zeros(2, 3, 6, 6), tmp_path / "net.onnx")
    assert bnfold.export(Fixed(), torch.zeros(2, 3, 6, 6), tmp_path / "net.onnx", dynamic_batch=False).ok


def test_example_inputs_that_are_no_tensors(tmp_path):
    with pytest.raises(InputError, match="not all tensors"):
        bnfold.export(Net(), [np.zeros(3)], tmp_path / "net.onnx")


@pytest.fixture(scope="module")
def raw():
    """A module, and what PyTorch's raw exporter writes for it."""

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(2, 4, 3, bias=False)
            self.norm = nn.BatchNorm3d(4, affine=False)
            self.up = nn.ConvTranspose2d(4, 3, 2, bias=False)
            self.act = nn.ReLU6()

        def forward(self, x):
            return self.act(self.up(self.norm(self.conv(x)).mean(2)))

    torch.manual_seed(0)
    net = lively(Deep()).eval()
    example = (torch.zeros(2, 2, 4, 5, 5),)
    shapes = torch_calls.dynamic_shapes(example, True)
    return net, torch_calls.to_onnx(torch_calls.trace(net, example, shapes), shapes, ["x"], ["y"], 18)


class TestCleaning:
    """What PyTorch's raw exporter writes, and what is left of it."""

    def test_the_raw_file_has_a_bias_of_rank_two(self, raw):
        (conv,) = (node for node in raw[1].graph.node if node.op_type == "Conv")
        assert len(conv.input) == 3  # microsoft/onnxscript#2931: no runtime takes it
        with pytest.raises(InputError, match="bias must be a 1D tensor"):
            bnfold.verify(raw[1], raw[1])

    def test_cleaned_it_runs_and_computes_the_same(self, raw, tmp_path):
        import onnxruntime

        net, model = raw
        model = onnx.ModelProto.FromString(model.SerializeToString())
        remove_plumbing(model)
        tidy(model)
        found = Counter(node.op_type for node in model.graph.node)
        assert not found.keys() & {"Expand", "CastLike", "Shape", "Concat", "Reshape"}
        tensors = {tensor.name: onnx.numpy_helper.to_array(tensor).tolist() for tensor in model.graph.initializer}
        assert (tensors["norm.weight"], tensors["norm.bias"]) == ([1.0] * 4, [0.0] * 4)
        (path,) = save(model, tmp_path / "deep.onnx")
        x = torch.randn(3, 2, 4, 5, 5)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        with torch.no_grad():
            np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], net(x).numpy(), atol=1e-5)

    def test_arithmetic_on_constants_stays(self):
        from models.lenet import lenet_by_hand

        example = (torch.zeros(2, 1, 28, 28),)
        shapes = torch_calls.dynamic_shapes(example, True)
        model = torch_calls.to_onnx(torch_calls.trace(lenet_by_hand().eval(), example, shapes), shapes, ["x"], ["y"], 18)
        before = Counter(node.op_type for node in model.graph.node)
        remove_plumbing(model)
        after = Counter(node.op_type for node in model.graph.node)
        assert {name: after[name] for name in ("Sub", "Mul", "Div", "Sqrt", "Add")} == {
            name: before[name] for name in ("Sub", "Mul", "Div", "Sqrt", "Add")
        }
        assert after["Sqrt"] == 4

    def test_large_weights_go_beside_the_model(self, raw, tmp_path):
        model = onnx.ModelProto.FromString(raw[1].SerializeToString())
        remove_plumbing(model)
        big = onnx.numpy_helper.from_array(np.ones((40, 40), np.float32), "unused")
        model.graph.initializer.append(big)
        files = save(model, tmp_path / "big.onnx", limit=100)
        assert [file.name for file in files] == ["big.onnx.data", "big.onnx"]
        onnx.checker.check_model(str(tmp_path / "big.onnx"))


def test_only_the_exporter_loads_torch():
    package = Path(bnfold.__file__).parent
    assert "torch" in sys.modules
    mentions = [path for path in package.rglob("*.py") if "import torch\n" in path.read_text()]
    assert {path.parent.name for path in mentions} == {"exporter"}
