"""The shipped reference networks, the data they are measured on, and the code that makes them."""

import gzip
import hashlib
import subprocess
import sys
import threading
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf.message import Message
from onnx import numpy_helper

from bnfold.errors import EnvironmentUnfit, InputError
from models import fashion_mnist, results

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "models"
NETWORKS = {"lenet": "lenet.onnx", "lenet-by-hand": "lenet_by_hand.onnx"}
NORMS = ("bn1", "bn2", "bn3", "bn4")

needs_torch = pytest.mark.skipif(
    find_spec("torch") is None or find_spec("onnxscript") is None,
    reason="torch and onnxscript are not installed (pip install 'bnfold[torch]')",
)
needs_data = pytest.mark.skipif(
    not fashion_mnist.SHARED.is_dir(), reason="Fashion-MNIST is not in shared/data beside the repository"
)


@pytest.fixture(params=NETWORKS)
def name(request):
    return request.param


@pytest.fixture
def model(name):
    return onnx.load(MODELS / NETWORKS[name])


@pytest.fixture(scope="module")
def sample():
    with np.load(MODELS / "fashion_mnist_sample.npz") as arrays:
        return arrays["image"], arrays["label"]


def logits_of(model, images):
    content = model if isinstance(model, bytes) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": images})[0]


class TestShippedFiles:
    def test_is_valid_and_for_current_runtimes(self, model):
        onnx.checker.check_model(model, full_check=True)
        assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
        assert model.ir_version == 10
        assert [v.name for v in model.graph.input] == ["image"]
        assert [v.name for v in model.graph.output] == ["logits"]

    def test_batch_is_dynamic(self, model, sample):
        for value, tail in ((model.graph.input[0], [1, 28, 28]), (model.graph.output[0], [10])):
            batch, *rest = value.type.tensor_type.shape.dim
            assert batch.dim_param == "batch"
            assert [dim.dim_value for dim in rest] == tail
        images, _ = sample
        together = logits_of(model, images[:7])
        alone = np.concatenate([logits_of(model, images[i : i + 1]) for i in range(7)])
        np.testing.assert_allclose(alone, together, rtol=0, atol=1e-5)

    def test_normalizations_are_in_place(self, name, model):
        norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
        if name == "lenet-by-hand":
            assert not norms
            return
        assert [node.name for node in norms] == [f"{bn}/BatchNormalization" for bn in NORMS]
        for node, bn in zip(norms, NORMS, strict=True):
            assert list(node.input)[1:] == [f"{bn}.{p}" for p in ("weight", "bias", "running_mean", "running_var")]
            assert len(node.output) == 1
            assert not any(a.name == "training_mode" and a.i for a in node.attribute)

    def test_hand_written_normalizations_are_spelled_out(self):
        graph = onnx.load(MODELS / NETWORKS["lenet-by-hand"]).graph
        maker = {output: node for node in graph.node for output in node.output}
        readers = Counter(name for node in graph.node for name in node.input)
        for bn, source in zip(NORMS, ("conv1/Conv", "conv2/Conv", "fc1/Gemm", "fc2/Gemm"), strict=True):
            add = next(node for node in graph.node if f"{bn}.beta" in node.input)
            div = maker[add.input[0]]
            mul, sqrt = (maker[name] for name in div.input)
            sub = maker[mul.input[1]]
            stabilized = maker[sqrt.input[0]]
            operators = [node.op_type for node in (sub, mul, stabilized, sqrt, div, add)]
            assert operators == ["Sub", "Mul", "Add", "Sqrt", "Div", "Add"]
            assert list(sub.input) == [source, f"{bn}.moving_mean"]
            assert mul.input[0] == f"{bn}.gamma"
            assert stabilized.input[0] == f"{bn}.moving_var"
            (eps,) = maker[stabilized.input[1]].attribute
            assert numpy_helper.to_array(eps.t) == np.float32(1e-5)
            assert all(readers[node.output[0]] == 1 for node in (sub, mul, stabilized, sqrt, div, add))

    def test_statistics_are_trained(self, model):
        weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        for bn in NORMS:
            (var,) = (w for key, w in weights.items() if key.startswith(bn) and key.endswith("_var"))
            (mean,) = (w for key, w in weights.items() if key.startswith(bn) and key.endswith("_mean"))
            assert (var > 0).all()
            assert len(np.unique(var)) == var.size
            assert len(np.unique(mean)) == mean.size

    def test_names_nothing_of_the_machine_that_made_it(self, model):
        assert not list(metadata_in(model))
        for tensor in model.graph.initializer:
            tensor.ClearField("raw_data")  # chance bytes of the weights could spell anything
        skeleton = model.SerializeToString()
        for trace in (b"stack_trace", b"site-packages", b".py", str(ROOT).encode(), str(Path.home()).encode()):
            assert trace not in skeleton

    def test_is_the_recorded_file(self, name):
        record = results.load()[name]
        assert hashlib.sha256((MODELS / record["file"]).read_bytes()).hexdigest() == record["sha256"]

    def test_classifies_the_sample(self, name, model, sample):
        images, labels = sample
        record = results.load()[name]
        assert images.dtype == np.float32
        assert images.shape == (len(labels), 1, 28, 28)
        assert 0 <= images.min() < images.max() <= 1
        accuracy = (logits_of(model, images).argmax(1) == labels).mean()
        assert accuracy > record["test_correct_onnx"] / record["test_images"] - 0.1

    @needs_data
    def test_full_test_set_gives_the_recorded_figure(self, name, model):
        images, labels = fashion_mnist.load("test")
        correct = (logits_of(model, images).argmax(1) == labels).sum()
        assert correct == results.load()[name]["test_correct_onnx"]

    @needs_data
    def test_sample_is_the_head_of_the_test_set(self, sample):
        images, labels = fashion_mnist.load("test")
        np.testing.assert_array_equal(sample[0], images[: len(sample[0])])
        np.testing.assert_array_equal(sample[1], labels[: len(sample[1])])


def metadata_in(message):
    """The fields of a protobuf, at any depth, that exporters use for notes of their own."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            yield value
        elif field.type == field.TYPE_MESSAGE:
            for part in [value] if isinstance(value, Message) else value:
                yield from metadata_in(part)


class TestRecords:
    def test_readme_tables_are_those_of_the_records(self):
        assert results.table() in (MODELS / "README.md").read_text(encoding="utf-8")

    def test_the_shipped_run_was_chosen_without_the_test_images(self, name):
        record = results.load()[name]
        best = max(record["runs"], key=lambda run: run["train_correct"])
        assert record["seed"] == best["seed"]
        assert record["test_correct_torch"] == best["test_correct"] == best["epochs"][-1]["test"]
        assert record["test_same_prediction"] == record["test_images"]


def idx(array):
    """A gzipped IDX file of unsigned bytes."""
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes())


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def serve():
    """Serves a folder over HTTP on this machine; gives its URL."""
    running = []

    def start(folder):
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=folder))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder with a tiny data set of the same four names, taken for the published one."""
    folder = tmp_path / "published"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 6), ("t10k", 3)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        images[0, 0, :2] = 0, 255
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(idx(images))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(idx(rng.integers(0, 10, count, np.uint8)))
    publish(folder, monkeypatch)
    return folder


def publish(folder, monkeypatch):
    """Makes the files of `folder` the published ones."""
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in fashion_mnist.SHA256}
    monkeypatch.setattr(fashion_mnist, "SHA256", digests)


class TestData:
    def test_reads_images_and_labels(self, published):
        images, labels = fashion_mnist.load("train", published)
        assert images.dtype == np.float32
        assert images.shape == (6, 1, 28, 28)
        assert images[0, 0, 0, :2].tolist() == [0, 1]
        assert labels.dtype == np.int64
        assert labels.shape == (6,)
        assert fashion_mnist.load("test", published)[0].shape == (3, 1, 28, 28)

    def test_downloads_what_is_missing_and_only_that(self, published, serve, tmp_path):
        target = tmp_path / "new" / "folder"
        fashion_mnist.download(target, (serve(published),))
        assert sorted(p.name for p in target.iterdir()) == sorted(fashion_mnist.SHA256)
        assert all((target / name).read_bytes() == (published / name).read_bytes() for name in fashion_mnist.SHA256)
        fashion_mnist.download(target, ("http://127.0.0.1:9/",))  # nothing to fetch: the mirror is not asked

    def test_load_without_a_folder_fills_the_cache(self, published, serve, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(fashion_mnist, "SHARED", tmp_path / "absent")
        monkeypatch.setattr(fashion_mnist.download, "__defaults__", ((serve(published),), 30))
        images, _ = fashion_mnist.load("test")
        assert images.shape == (3, 1, 28, 28)
        assert sorted(p.name for p in fashion_mnist.cache_folder().iterdir()) == sorted(fashion_mnist.SHA256)

    def test_replaces_a_damaged_file(self, published, serve, tmp_path):
        target = tmp_path / "target"
        target.mkdir()
        (target / "t10k-labels-idx1-ubyte.gz").write_bytes(b"half a fi")
        fashion_mnist.download(target, (serve(published),))
        assert fashion_mnist.load("test", target)[1].shape == (3,)

    def test_falls_back_to_the_next_mirror(self, published, serve, tmp_path):
        bad = tmp_path / "bad"
        bad.mkdir()
        for name in fashion_mnist.SHA256:
            (bad / name).write_bytes((published / name).read_bytes()[:-1])
        (bad / "t10k-labels-idx1-ubyte.gz").unlink()
        target = tmp_path / "target"
        fashion_mnist.download(target, (serve(bad), serve(published)))
        assert fashion_mnist.load("test", target)[1].shape == (3,)

    @pytest.mark.parametrize(
        ("content", "reason"),
        [(b"<html>please log in</html>", "SHA-256 differs"), (None, "404")],
        ids=["corrupted", "missing"],
    )
    def test_bad_mirror_leaves_nothing_behind(self, published, serve, tmp_path, content, reason):
        victim = published / "train-images-idx3-ubyte.gz"
        victim.unlink()
        if content is not None:
            victim.write_bytes(content)
        target = tmp_path / "target"
        with pytest.raises(EnvironmentUnfit, match=reason) as caught:
            fashion_mnist.download(target, (serve(published),))
        assert victim.name in str(caught.value)
        assert not list(target.iterdir())

    def test_no_network(self, published, tmp_path):
        mirrors = ("http://127.0.0.1:9/", "no-such-scheme:/")
        with pytest.raises(EnvironmentUnfit, match=r"127\.0\.0\.1:9(.|\n)*no-such-scheme"):
            fashion_mnist.download(tmp_path / "target", mirrors)

    def test_folder_that_cannot_be_made(self, published, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="cannot be made"):
            fashion_mnist.download(tmp_path / "file" / "folder")

    def test_missing_file_in_a_given_folder(self, tmp_path):
        with pytest.raises(InputError, match=r"python -m models download"):
            fashion_mnist.load("test", tmp_path)

    def test_damaged_file_in_a_given_folder(self, published):
        path = published / "t10k-images-idx3-ubyte.gz"
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        with pytest.raises(InputError, match="SHA-256 differs"):
            fashion_mnist.load("test", published)

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"not gzip", "not a gzip file"),
            (idx(np.zeros(9, np.uint8))[:-9], "not a gzip file"),
            (gzip.compress(b""), "not an IDX file"),
            (gzip.compress(b"\0\0\x0d\1\0\0\0\1data"), "not an IDX file"),
            (gzip.compress(b"\0\0\x08\3\0\0\0\1"), "not an IDX file"),
            (gzip.compress(b"\0\0\x08\1\0\0\0\5data"), "4 values"),
        ],
        ids=["plain", "cut", "empty", "floats", "cut header", "too short"],
    )
    def test_published_file_of_another_kind(self, published, monkeypatch, content, reason):
        (published / "t10k-images-idx3-ubyte.gz").write_bytes(content)
        publish(published, monkeypatch)
        with pytest.raises(InputError, match=reason):
            fashion_mnist.load("test", published)

    def test_command_reports_a_missing_file_without_a_traceback(self, tmp_path):
        done = subprocess.run(
            [sys.executable, "-m", "models", "sample", "--data", str(tmp_path)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert "cannot be read" in done.stderr
        assert "Traceback" not in done.stderr


@needs_torch
class TestTorch:
    def test_shipped_weights_are_those_of_the_module(self, name, model, sample):
        import torch

        from models.train import NETWORKS as MAKERS

        module = MAKERS[name]().eval()
        state = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in model.graph.initializer}
        missing, unexpected = module.load_state_dict(state, strict=False)
        assert all(key.endswith("num_batches_tracked") for key in missing)
        assert not unexpected
        with torch.no_grad():
            expected = module(torch.from_numpy(sample[0])).numpy()
        np.testing.assert_allclose(logits_of(model, sample[0]), expected, rtol=0, atol=1e-4)

    def test_by_hand_agrees_with_torch(self):
        import torch

        from models.lenet import BatchNormByHand

        torch.manual_seed(0)
        for theirs, ours in (
            (torch.nn.BatchNorm2d(3), BatchNormByHand(3, rank=4)),
            (torch.nn.BatchNorm1d(3), BatchNormByHand(3, rank=2)),
        ):
            x = torch.randn(8, 3, 5, 5)[(...,) if ours.gamma.dim() == 4 else (..., 0, 0)] * 2 + 1
            torch.testing.assert_close(ours(x), theirs(x))
            torch.testing.assert_close(ours.moving_mean.flatten(), theirs.running_mean)
            n = x.numel() / 3
            biased = 0.9 + (theirs.running_var - 0.9) * (n - 1) / n
            torch.testing.assert_close(ours.moving_var.flatten(), biased)
            theirs.running_var.copy_(ours.moving_var.flatten())
            torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))

    def test_training_is_repeatable_and_chooses_by_training_accuracy(self, tmp_path, monkeypatch, sample):
        from models import train

        monkeypatch.setattr(fashion_mnist, "load", lambda split, folder: sample)
        threads = train.torch.get_num_threads()
        try:
            records = [train.train("lenet", None, tmp_path, seeds=3, epochs=2) for _ in range(2)]
        finally:
            train.torch.set_num_threads(threads)
        assert records[0] == records[1]  # with the hash of the file
        assert [run["seed"] for run in records[0]["runs"]] == [0, 1, 2]
        assert records[0]["train_correct"] == max(run["train_correct"] for run in records[0]["runs"])
        assert records[0]["test_correct_onnx"] == records[0]["test_correct_torch"]

    def test_export_refuses_training_mode(self, tmp_path):
        import torch

        from models.export import export

        with pytest.raises(ValueError, match=r"\.eval\(\)"):
            export(torch.nn.BatchNorm2d(3), tmp_path / "m.onnx", torch.zeros(2, 3, 4, 4))

    @pytest.mark.parametrize("raw", [True, False], ids=["raw", "tidy"])
    def test_resnet18(self, tmp_path, raw):
        import torch

        from models.export import export
        from models.resnet import resnet18, synthetic_images

        module = resnet18(width=8, num_classes=10)
        path = tmp_path / "resnet18.onnx"
        export(module, path, torch.zeros(2, 3, 64, 64), raw=raw)
        model = onnx.load(path)
        counts = Counter(node.op_type for node in model.graph.node)
        assert (counts["BatchNormalization"], counts["Conv"], counts["Expand"], counts["CastLike"]) == (20, 20, 40, 20)
        assert bool(list(metadata_in(model))) is raw
        if not raw:
            assert "layer4.1.bn2/BatchNormalization" in {node.name for node in model.graph.node}
        torch.manual_seed(1)
        images = synthetic_images(3, 64)
        with torch.no_grad():
            expected = module(images).numpy()
        np.testing.assert_allclose(logits_of(model, images.numpy()), expected, rtol=0, atol=1e-4)

    def test_resnet18_looks_trained(self):
        import torch

        from models.resnet import resnet18

        module, again = resnet18(width=8), resnet18(width=8)
        torch.testing.assert_close(module.state_dict(), again.state_dict())
        norms = [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert len(norms) == 20
        assert all(norm.momentum == 0.1 and not norm.training for norm in norms)
        for norm in norms:
            assert norm.running_mean.std() > 0.01
            assert norm.running_var.min() > 0.01
            assert norm.running_var.max() < 20
            assert 0.7 < norm.weight.mean() < 1.3
