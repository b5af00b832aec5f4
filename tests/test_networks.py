"""The networks that are built when needed: their structure, and what bnfold makes of their exports."""

from collections import Counter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import click.testing
import numpy as np
import onnx
import onnxruntime
import pytest

import bnfold
from models.networks import NETWORKS
from models.trained import TRAINED, path_of

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    find_spec("torch") is None or find_spec("onnxscript") is None,
    reason="torch and onnxscript are not installed (pip install 'bnfold[torch]')",
)

SMALL = {  # normalizations in the size for tests, and which of them stay
    "resnet18": (20, {}),
    "resnet50": (20, {}),
    "resnet152": (26, {}),
    "preact-resnet18": (17, {"BNF004": 8}),
    "mobilenet-v2": (37, {}),
    "efficientnet-b0": (22, {}),
    "densenet121": (16, {"BNF004": 9}),
    "densenet201": (18, {"BNF004": 10}),
    "bn-inception": (69, {}),
    "inception-v3": (94, {}),
    "caffenet": (7, {"BNF010": 4}),
    "repvgg-a0": (19, {"BNF004": 3}),
    "unet": (22, {}),
    "dcgan": (4, {}),
    "levit": (19, {}),
    "mlp": (3, {}),
    "pointnet": (17, {}),
    "r3d18": (20, {}),
}

REAL = {  # class, normalizations and parameters at the paper's width
    "resnet18": ("ResNet18", 20, 11_689_512),  # as torchvision's
    "resnet50": ("ResNet50", 53, 25_557_032),  # as torchvision's
    "resnet152": ("ResNet152", 155, 60_192_808),  # as torchvision's
    "preact-resnet18": ("PreActivationResNet18", 17, 11_687_720),
    "mobilenet-v2": ("MobileNetV2", 52, 3_504_872),  # as torchvision's
    "efficientnet-b0": ("EfficientNet", 49, 5_288_548),  # as torchvision's
    "densenet121": ("DenseNet", 121, 7_978_856),  # as torchvision's
    "densenet201": ("DenseNet201", 201, 20_013_928),  # as torchvision's
    "bn-inception": ("BNInception", 69, 11_194_984),
    "inception-v3": ("InceptionV3", 94, 23_834_568),  # as torchvision's without its auxiliary classifier
    "caffenet": ("CaffeNet", 7, 14_724_136),
    "repvgg-a0": ("RepVGG", 61, 9_108_968),  # 9.11 million in the paper
    "unet": ("UNet", 22, 31_037_506),
    "dcgan": ("Generator", 4, 12_658_432),
    "levit": ("LeViT", 43, 5_999_562),
    "mlp": ("MLP", 3, 100_310),
    "pointnet": ("PointNet", 17, 3_480_049),
    "r3d18": ("R3D18", 20, 33_371_472 + 4_800),  # torchvision's has no biases
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small are slowed down by more."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=NETWORKS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def module(name):
    """The network in the size for tests; built and exported once for all tests here."""
    return NETWORKS[name].build(small=True)


@pytest.fixture(scope="module")
def exports(name, module, tmp_path_factory):
    """Paths of the raw and the clean export."""
    from models.export import save, tidy, to_onnx

    network = NETWORKS[name]
    folder = tmp_path_factory.mktemp(name)
    model = to_onnx(module, network.example(small=True), network.input, network.output)
    save(model, folder / "raw.onnx")
    tidy(model)
    save(model, folder / "clean.onnx")
    return {"raw": folder / "raw.onnx", "clean": folder / "clean.onnx"}


@pytest.fixture(scope="module", params=["raw", "clean"])
def export(request):
    return request.param


@pytest.fixture(scope="module")
def report(exports, export):
    return bnfold.optimize(exports[export], exports[export].with_suffix(".folded.onnx"))


def norms(module):
    from torch.nn.modules.batchnorm import _BatchNorm

    return [each for each in module.modules() if isinstance(each, _BatchNorm)]


def stays(report):
    """The codes of the BatchNormalization nodes that are left, counted."""
    return Counter(each.code for each in report.plan.refusals if each.normalization.op_type == "BatchNormalization")


class TestFolding:
    def test_verified_and_written(self, report):
        assert report.verification.failures == ()
        assert report.written
        onnx.checker.check_model(report.destination, full_check=True)

    def test_all_fold_but_the_documented_rest(self, name, report):
        count, rest = SMALL[name]
        left = Counter(node.op_type for node in onnx.load(report.destination).graph.node)["BatchNormalization"]
        assert report.plan.operators_before["BatchNormalization"] == count
        assert stays(report) == rest
        assert left == sum(rest.values())
        assert set(stays(report)) == set(NETWORKS[name].rest)

    def test_no_bias_is_computed_where_something_was_folded(self, report):
        """The zero computed for an absent bias is gone, with all that computed it. Convs that took nothing keep theirs."""
        nodes = onnx.load(report.destination).graph.node
        taken = {place for fold in report.plan.folds for place in fold.into}
        computed = {name for node in nodes if node.op_type in ("Expand", "CastLike") for name in node.output}
        for node in nodes:
            if f"{node.op_type} `{node.name}`" in taken and len(node.input) > 2:
                assert node.input[2] not in computed, node.name
        read = {name for node in nodes for name in node.input}
        assert not [node.name for node in nodes if node.output[0] not in read and node.op_type in ("CastLike", "Expand", "Shape")]

    def test_folded_model_computes_what_the_module_does(self, name, module, report):
        import torch

        network = NETWORKS[name]
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(1)
            sample = torch.rand(3, *network.small_shape)
            expected = module(sample).numpy()
        session = onnxruntime.InferenceSession(report.destination, providers=["CPUExecutionProvider"])
        found = session.run([network.output], {network.input: sample.numpy()})[0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


class TestBuilding:
    def test_looks_trained_and_is_repeatable(self, name, module):
        import torch

        again = NETWORKS[name].build(small=True)
        torch.testing.assert_close(module.state_dict(), again.state_dict())
        assert not module.training
        for norm in norms(module):
            assert norm.momentum == 0.1
            assert norm.num_batches_tracked == 4
            assert norm.running_var.max() > 1e-4
            assert norm.running_var.max() < 200
            assert norm.weight.min() > 0
            assert norm.weight.std() > 0.05
            assert norm.bias.std() > 0.05
            assert norm.running_mean.abs().max() > 1e-4

    def test_real_size_is_that_of_the_paper(self, name):
        import torch

        class_name, count, parameters = REAL[name]
        with torch.device("meta"):
            module = getattr(import_module(f"models.{NETWORKS[name].module}"), class_name)()
        assert len(norms(module)) == count
        assert sum(each.numel() for each in module.parameters()) == parameters

    def test_module_says_where_it_comes_from(self, name):
        doc = import_module(f"models.{NETWORKS[name].module}").__doc__
        authors, year = NETWORKS[name].paper.rsplit(" ", 1)
        assert year in doc
        assert authors.split(",")[0].removesuffix(" et al.") in doc


class TestCommand:
    @pytest.fixture
    def build(self, tmp_path):
        from models.__main__ import cli

        def run(*options):
            path = tmp_path / "m.onnx"
            result = click.testing.CliRunner().invoke(cli, ["build", "mlp", str(path), *options], catch_exceptions=False)
            assert result.exit_code == 0, result.output
            return onnx.load(path)

        return run

    @pytest.mark.parametrize(
        ("options", "elem_type", "has_metadata"),
        [
            ((), onnx.TensorProto.FLOAT, False),
            (("--raw",), onnx.TensorProto.FLOAT, True),
            (("--half",), onnx.TensorProto.FLOAT16, False),
        ],
        ids=["clean", "raw", "half"],
    )
    def test_build(self, build, options, elem_type, has_metadata):
        model = build(*options)
        assert [node.op_type for node in model.graph.node].count("BatchNormalization") == 3
        values = (*model.graph.input, *model.graph.output)
        assert {value.type.tensor_type.elem_type for value in values} == {elem_type}
        assert {tensor.data_type for tensor in model.graph.initializer} == {elem_type}
        assert any(node.metadata_props for node in model.graph.node) is has_metadata

    def test_list_names_every_network(self):
        from models.__main__ import cli

        lines = click.testing.CliRunner().invoke(cli, ["list"]).output.splitlines()
        assert [line.split()[0] for line in lines if line.startswith("  ")] == [*TRAINED, *NETWORKS]

    @pytest.mark.parametrize(("options", "elem_type"), [((), onnx.TensorProto.FLOAT), (("--half",), onnx.TensorProto.FLOAT16)])
    def test_export_writes_a_trained_network(self, tmp_path, options, elem_type):
        from models.__main__ import cli

        path = tmp_path / "m.onnx"
        result = click.testing.CliRunner().invoke(cli, ["export", "histology", str(path), *options], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        assert {tensor.data_type for tensor in onnx.load(path).graph.initializer} == {elem_type}
        if not options:
            assert path.read_bytes() == path_of("histology").read_bytes()

    def test_plot_is_the_same_each_time(self, tmp_path, monkeypatch):
        pytest.importorskip("matplotlib", reason="matplotlib is not installed (pip install 'bnfold[models]')")
        from models import curves

        for name in ("one.svg", "two.svg"):
            curves.draw(tmp_path / name)
        assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
        assert "with batch normalization" in (tmp_path / "one.svg").read_text(encoding="utf-8")


@pytest.fixture
def rows():
    """Rows as a survey of two networks may give them: one folds alike in all exports, the other does not."""
    from models.survey import Left, Row

    def row(name, export, after=0, left=(), **values):
        facts = {"failure": "", "relative": 1.26e-6, "argmax_changed": 0, "argmax_total": 10}
        facts |= {"computed_biases_before": 0, "computed_biases_after": 0, "error": 2e-7, "folded_error": 3e-7} | values
        return Row(name=name, export=export, parameters=1234567, before=7, after=after, left=left, **facts)

    found = (Left("BNF010", 4, "it says so"),)
    failed = {"failure": "it differs.", "computed_biases_after": 5, "relative": 0.5}
    caffenet = [row("caffenet", export, 4, found) for export in ("clean", "raw", "float16")]
    dcgan = [row("dcgan", "clean", argmax_changed=None), row("dcgan", "raw", argmax_changed=None, **failed)]
    half = row("dcgan", "float16", 1, (Left("BNF004", 1, "so"),), argmax_changed=None, folded_error=float("nan"))
    return [*caffenet, *dcgan, half]


class TestSurvey:
    def test_measures_a_real_network(self, tmp_path):
        from models.survey import EXPORTS, exports, measure

        rows = [measure("mlp", module, path) for module, path in exports(NETWORKS["mlp"], tmp_path)]
        assert tuple(row.export for row in rows) == EXPORTS
        for row, precision in zip(rows, (1e-5, 1e-5, 1e-2), strict=True):
            assert (row.parameters, row.before, row.after, row.left, row.failure) == (100_310, 3, 0, (), "")
            assert (row.argmax_changed, row.computed_biases_before) == (0, 0)
            assert precision / 1e4 < row.error < precision
            assert precision / 1e4 < row.folded_error < precision
            assert precision / 1e4 < row.relative < 10 * precision

    def test_an_output_that_is_not_finite_has_no_error(self, tmp_path):
        from models.survey import errors, exports

        module, path = next(exports(NETWORKS["mlp"], tmp_path))
        model = onnx.load(path)
        last = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [10])
        last.CopyFrom(onnx.numpy_helper.from_array(np.full(10, np.nan, np.float32), last.name))
        onnx.save(model, tmp_path / "nan.onnx")
        found = errors(NETWORKS["mlp"], module, [path, tmp_path / "nan.onnx"])
        assert 0 < found[0] < 1e-5
        assert np.isnan(found[1])

    def test_page(self, rows):
        from models.survey import page

        lines = page(rows).splitlines()
        assert "| 3 × 128 × 128 | 1,234,567 | all three | 7 | 3 | 4 (BNF010: 4) |" in "\n".join(lines)
        assert any(line.endswith("| clean, raw | 7 | 7 | 0 |") for line in lines)
        assert any(line.endswith("| float16 | 7 | 6 | 1 (BNF004: 1) |") for line in lines)
        assert "| **total** | | | | clean | 14 | 10 | 4 |" in lines
        assert any(line.startswith("| CaffeNet, BN after ReLU | BNF010 | 4 | Before it stands a ReLU") for line in lines)
        assert "| DCGAN generator | 1.3e-06 | 5.0e-01 † | 1.3e-06 | – | – | – | 0 | 5 |" in lines
        assert "* DCGAN generator, raw: it differs." in lines
        assert "| DCGAN generator | 2.0e-07 | 3.0e-07 | 2.0e-07 | not finite |" in lines

    def test_every_code_needs_an_explanation(self, rows):
        from dataclasses import replace

        from models.survey import Left, page

        assert "**not documented**" not in page(rows)
        assert "**not documented**" in page([replace(rows[0], left=(Left("BNF012", 4, "so"),)), *rows[1:]])

    def test_written_page_covers_every_network_and_explains_everything(self):
        text = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
        assert all(f"| {network.title} |" in text for network in NETWORKS.values())
        assert "not documented" not in text
        assert all(f"| {parameters:,} |" in text for _, _, parameters in REAL.values())
