"""The shipped reference networks, the data they are measured on, and the code that makes them."""

import gzip
import hashlib
import subprocess
import sys
import threading
import wave
from collections import Counter
from dataclasses import replace
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

import bnfold
from bnfold.errors import EnvironmentUnfit, InputError
from models import fashion_mnist, prompts, results, road, tissue
from models.trained import TRAINED, path_of

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "models"
LENETS = ("lenet", "lenet-by-hand")
NORMS = ("bn1", "bn2", "bn3", "bn4")

needs_torch = pytest.mark.skipif(
    find_spec("torch") is None or find_spec("onnxscript") is None,
    reason="torch and onnxscript are not installed (pip install 'bnfold[torch]')",
)
needs_data = pytest.mark.skipif(
    not fashion_mnist.SHARED.is_dir(), reason="Fashion-MNIST is not in shared/data beside the repository"
)


@pytest.fixture(params=TRAINED)
def name(request):
    return request.param


@pytest.fixture
def model(name):
    return onnx.load(path_of(name))


@pytest.fixture(scope="module")
def sample():
    with np.load(MODELS / "fashion_mnist_sample.npz") as arrays:
        return arrays["image"], arrays["label"]


def logits_of(model, images):
    content = model if isinstance(model, bytes) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": images})[0]


def outputs_of(name, inputs, path=None):
    """What a network's file gives to inputs."""
    network = TRAINED[name]
    session = onnxruntime.InferenceSession(path or path_of(name), providers=["CPUExecutionProvider"])
    return session.run([network.output], {network.input: inputs})[0]


def some_inputs(name, count=5):
    """Uniform in 0 … 1, or 0 … 255 for the road."""
    inputs = np.random.default_rng(0).random((count, *TRAINED[name].shape), np.float32)
    return 255 * inputs if TRAINED[name].data == "road" else inputs


def need_test_set(name):
    """Skips the test where the test set of a network is not to be had."""
    network = TRAINED[name]
    if network.data == "fashion_mnist" and not fashion_mnist.SHARED.is_dir():
        pytest.skip("Fashion-MNIST is not in shared/data beside the repository")
    try:
        network.load("test")
    except (InputError, EnvironmentUnfit) as error:
        pytest.skip(str(error))


class TestShippedFiles:
    def test_is_valid_and_for_current_runtimes(self, name, model):
        network = TRAINED[name]
        onnx.checker.check_model(model, full_check=True)
        assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
        assert model.ir_version == 10
        assert [v.name for v in model.graph.input] == [network.input]
        assert [v.name for v in model.graph.output] == [network.output]

    def test_batch_is_dynamic(self, name, model):
        network = TRAINED[name]
        result = [10] if network.data == "fashion_mnist" else {"speech": [5], "driving": [], "histology": [2]}[name]
        for value, tail in ((model.graph.input[0], list(network.shape)), (model.graph.output[0], result)):
            batch, *rest = value.type.tensor_type.shape.dim
            assert batch.dim_param == "batch"
            assert [dim.dim_value for dim in rest] == tail
        inputs = some_inputs(name)
        together = outputs_of(name, inputs)
        alone = np.concatenate([outputs_of(name, inputs[i : i + 1]) for i in range(len(inputs))])
        np.testing.assert_allclose(alone, together, rtol=0, atol=1e-5 * max(1, np.abs(together).max()))

    def test_normalizations_are_in_place(self, name, model):
        norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
        assert bool(norms) is (TRAINED[name].norms > 0 and "by-hand" not in name)
        assert len(bnfold.plan(path_of(name)).verdicts) == TRAINED[name].norms
        for node in norms:
            module = node.name.removesuffix("/BatchNormalization")
            assert list(node.input)[1:] == [f"{module}.{p}" for p in ("weight", "bias", "running_mean", "running_var")]
            assert len(node.output) == 1
            assert not any(a.name == "training_mode" and a.i for a in node.attribute)

    def test_all_fold_but_the_documented_rest(self, name, tmp_path):
        report = bnfold.optimize(path_of(name), tmp_path / "folded.onnx")
        assert report.written
        left = Counter(refusal.code for refusal in report.plan.refusals)
        assert dict(left) == results.load()[name]["folding"]["left"]
        assert set(left) == set(TRAINED[name].rest)
        inputs = some_inputs(name)
        original = outputs_of(name, inputs)
        np.testing.assert_allclose(
            outputs_of(name, inputs, tmp_path / "folded.onnx"), original, rtol=0, atol=2e-5 * max(1, np.abs(original).max())
        )

    def test_lenet_is_named_after_its_modules(self):
        names = [node.name for node in onnx.load(path_of("lenet")).graph.node if node.op_type == "BatchNormalization"]
        assert names == [f"{bn}/BatchNormalization" for bn in NORMS]

    def test_hand_written_normalizations_are_spelled_out(self):
        graph = onnx.load(path_of("lenet-by-hand")).graph
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

    def test_statistics_are_trained(self, name, model):
        weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        variances = [w for key, w in weights.items() if key.endswith("_var")]
        means = [w for key, w in weights.items() if key.endswith("_mean")]
        assert len(variances) == len(means) == TRAINED[name].norms - (name == "driving")  # that of the pixels is no statistic
        assert all((var > 0).all() and (var.size == 1 or len(np.unique(var)) > 0.9 * var.size) for var in variances)
        assert all(mean.size == 1 or len(np.unique(mean)) > 0.9 * mean.size for mean in means)

    def test_names_nothing_of_the_machine_that_made_it(self, model):
        assert not list(metadata_in(model))
        for tensor in model.graph.initializer:
            tensor.ClearField("raw_data")  # chance bytes of the weights could spell anything
        skeleton = model.SerializeToString()
        for trace in (b"stack_trace", b"site-packages", b".py", str(ROOT).encode(), str(Path.home()).encode()):
            assert trace not in skeleton

    def test_is_the_recorded_file(self, name):
        record = results.load()[name]
        content = (MODELS / record["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == record["sha256"]
        assert len(content) == record["bytes"] < 1_000_000

    @pytest.mark.parametrize("name", [name for name, network in TRAINED.items() if network.data == "fashion_mnist"])
    def test_classifies_the_sample(self, name, sample):
        images, labels = sample
        record = results.load()[name]
        assert images.dtype == np.float32
        assert images.shape == (len(labels), 1, 28, 28)
        assert 0 <= images.min() < images.max() <= 1
        accuracy = (outputs_of(name, images.reshape(-1, *TRAINED[name].shape)).argmax(1) == labels).mean()
        assert accuracy > record["test_score"] / record["test_examples"] - 0.1

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

    def test_every_network_has_its_record(self):
        assert list(results.load()) == list(TRAINED)

    def test_the_shipped_run_was_chosen_without_the_test_examples(self, name):
        record, recipe = results.load()[name], TRAINED[name].recipe
        best = (min if TRAINED[name].output == "steering" else max)(record["runs"], key=lambda run: run["train_score"])
        assert record["seed"] == best["seed"]
        assert record["test_score"] == best["test_score"] == best["epochs"][-1]["test"]
        assert [len(run["epochs"]) for run in record["runs"]] == [recipe.epochs] * recipe.seeds

    def test_folding_changes_no_answer(self, name):
        record = results.load()[name]
        folding = record["folding"]
        assert folding["normalizations"] == TRAINED[name].norms
        assert folding["score_torch"] == pytest.approx(record["test_score"], rel=1e-5)
        if TRAINED[name].output == "logits":
            assert folding["score_torch"] == folding["score_original"] == folding["score_folded"]
            assert folding["flips_torch"] == folding["flips_folded"] == 0
        assert folding["difference_torch"] < 5e-6 * folding["largest"]
        assert folding["difference_folded"] < 5e-6 * folding["largest"]

    def test_every_normalization_that_stays_is_explained(self):
        assert "not documented" not in results.table()

    @pytest.mark.parametrize("name", LENETS)
    def test_published_lenet_results_are_met(self, name):
        record = results.load()[name]
        while_training = [run["epochs"][-1]["train_running"] / record["train_examples"] for run in record["runs"]]
        assert round(np.mean(while_training), 3) >= 0.908
        assert 0.80 <= record["test_score"] / record["test_examples"] <= 0.87

    def test_whitening_and_decay_beat_the_plain_recipe(self):
        """Not a law, but what the README says of these files."""
        scores = {name: record["test_score"] for name, record in results.load().items()}
        assert min(scores[name] for name in TRAINED if name.startswith("lenet") and name not in LENETS) > 8900


@pytest.mark.slow
@needs_torch
class TestWholeTestSet:
    def test_torch_original_and_folded_give_the_recorded_answers(self, name):
        from models.measure import measure

        need_test_set(name)
        found, recorded = measure(name), results.load()[name]["folding"]
        assert found["flips_torch"] == recorded["flips_torch"]
        assert found["flips_folded"] == recorded["flips_folded"]
        assert found["left"] == recorded["left"]
        for which in ("torch", "original", "folded"):
            assert found[f"score_{which}"] == pytest.approx(recorded[f"score_{which}"], rel=1e-5)
        assert found["difference_folded"] < 5e-6 * found["largest"]


class TestRoad:
    def test_is_repeatable_and_splits_differ(self):
        images, targets = road.load("train", count=3)
        again, _ = road.load("train", count=3)
        other, _ = road.load("test", count=3)
        np.testing.assert_array_equal(images, again)
        assert images.shape == (3, 3, 66, 200)
        assert images.dtype == np.uint8
        assert targets.dtype == np.float32
        assert not np.array_equal(images, other)

    @pytest.mark.parametrize(
        ("offset", "heading", "curvature", "target"),
        [
            (0, 0, 0, 0),
            (0, 0, 0.01, 1),  # a circle of 100 m, up to the parabola that stands for it
            (1, 0, 0, 100 * 2 / (15**2 + 1)),
            (0, 0.02, 0, 100 * 2 * 0.3 / (15**2 + 0.3**2)),
        ],
        ids=["straight", "bend", "beside", "askew"],
    )
    def test_target_is_the_circle_through_the_point_ahead(self, monkeypatch, offset, heading, curvature, target):
        class Given:
            values = iter((offset, heading, curvature))

            def normal(self, mean, spread):
                return next(self.values)

        monkeypatch.setattr(road, "render", lambda rng, *where: where)
        where, found = road.scene(Given())
        assert where == (offset, heading, curvature)
        assert found == pytest.approx(target, abs=0.02)

    def test_road_lies_where_the_geometry_says(self, monkeypatch):
        """Grey columns at 15 m ahead, without paint, noise or shadow, for a road 1 m to the right."""
        rng = np.random.default_rng(5)
        picture = road.render(rng, 1.0, 0.0, 0.0).astype(float)
        row = picture[:, 45]  # well below the horizon
        grey = np.ptp(row, axis=0) < 12
        columns = np.flatnonzero(np.convolve(grey, np.ones(5) / 5, "same") > 0.7)
        assert columns.mean() > 100


class TestTissue:
    @pytest.fixture(autouse=True)
    def scikit_image(self):
        pytest.importorskip("skimage", reason="scikit-image is not installed (pip install 'bnfold[models]')")

    def test_halves(self):
        from skimage.data import immunohistochemistry

        train, labels = tissue.load("train")
        test, test_labels = tissue.load("test")
        picture = immunohistochemistry().transpose(2, 0, 1) / np.float32(255)
        assert (train.shape, test.shape) == ((6897, 3, 32, 32), (1769, 3, 32, 32))
        np.testing.assert_array_equal(train[0], picture[:, :32, :32])
        np.testing.assert_array_equal(train[-1], picture[:, -32:, 224:256])
        np.testing.assert_array_equal(test[0], picture[:, :32, 256:288])
        assert (labels.mean(), test_labels.mean()) == (pytest.approx(0.63, abs=0.01), pytest.approx(0.49, abs=0.01))

    def test_positive_patches_are_browner(self):
        patches, labels = tissue.load("test")
        red_over_blue = (patches[:, 0] - patches[:, 2]).mean((1, 2))
        assert red_over_blue[labels == 1].min() > np.median(red_over_blue[labels == 0])


def write_wav(path, samples, rate=8000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as recording:
        recording.setnchannels(channels)
        recording.setsampwidth(2)
        recording.setframerate(rate)
        recording.writeframes((np.asarray(samples) * 32767).astype("<i2").tobytes())


class TestPrompts:
    @pytest.fixture
    def tone(self):
        return 0.5 * np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)

    def test_a_tone_is_loudest_in_its_band(self, tone):
        spectrum = prompts.log_mel(np.float32(tone)[None])
        assert spectrum.shape == (1, 40, 98)
        assert spectrum.dtype == np.float32
        edges = 700 * (10 ** (np.linspace(*(2595 * np.log10(1 + np.array([60, 3800]) / 700)), 42) / 2595) - 1)
        band = int(np.bincount(spectrum[0].argmax(0)).argmax())
        assert edges[band] < 1000 < edges[band + 2]

    def test_bands_overlap_by_half_and_none_is_empty(self):
        bands = prompts.mel_bands()
        assert bands.shape == (129, 40)
        assert (bands.max(0) > 0.3).all()
        inside = (np.arange(129) * 8000 / 256 > 200) & (np.arange(129) * 8000 / 256 < 3500)
        np.testing.assert_allclose(bands[inside].sum(1), 1, atol=1e-9)

    def test_splits_by_name_and_leaves_silence_out(self, tmp_path, tone):
        names = [f"prompt{number}" for number in range(20)]
        for voice in prompts.VOICES:
            for name in names:
                write_wav(tmp_path / voice / f"{name}.wav", np.concatenate([tone, 0 * tone, tone, tone[:4000]]))
        train, labels = prompts.load("train", tmp_path)
        test, test_labels = prompts.load("test", tmp_path)
        assert len(train) + len(test) == 2 * len(names) * len(prompts.VOICES)
        assert np.bincount(labels).tolist() == [len(train) // 5] * 5
        assert np.bincount(test_labels).tolist() == [len(test) // 5] * 5
        assert len(test) > 0

    def test_says_what_to_install(self, tmp_path):
        with pytest.raises(InputError, match="asterisk-core-sounds-ru-wav"):
            prompts.load("test", tmp_path)

    @pytest.mark.parametrize(
        ("options", "reason"), [({"rate": 16000}, "16000 Hz"), ({"channels": 2}, "2 channels")], ids=["rate", "stereo"]
    )
    def test_recording_of_another_kind(self, tmp_path, tone, options, reason):
        write_wav(tmp_path / "a.wav", tone, **options)
        with pytest.raises(InputError, match=reason):
            prompts.read_wav(tmp_path / "a.wav")

    def test_no_recording(self, tmp_path):
        (tmp_path / "a.wav").write_bytes(b"RIFF and nothing else")
        with pytest.raises(InputError, match="not a WAV file"):
            prompts.read_wav(tmp_path / "a.wav")


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
    def test_shipped_weights_are_those_of_the_module(self, name):
        import torch

        from models.trained import pretrained

        inputs = some_inputs(name)
        with torch.no_grad():
            expected = pretrained(name)(torch.from_numpy(inputs)).numpy()
        np.testing.assert_allclose(outputs_of(name, inputs), expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))
        parameters = sum(each.numel() for each in pretrained(name).parameters())
        assert parameters == results.load()[name]["parameters"]

    def test_the_exporter_still_writes_the_shipped_file(self, name, tmp_path):
        """But for the two oldest, which still hold the shape of a Reshape as arithmetic."""
        from models.export import export
        from models.trained import pretrained

        network = TRAINED[name]
        path = tmp_path / "again.onnx"
        export(pretrained(name), path, network.example(), input_name=network.input, output_name=network.output)
        if name in LENETS:
            shipped, again = (onnx.load(each).graph.initializer for each in (path_of(name), path))
            assert {t.name: t.raw_data for t in shipped} == {t.name: t.raw_data for t in again}
        else:
            assert path.read_bytes() == path_of(name).read_bytes()

    @pytest.mark.parametrize("name", ["lenet-whitened", "mlp-whitened", "speech"])
    def test_raw_export_without_scale_and_shift_folds(self, name, tmp_path):
        """The exporter computes the ones and zeros from `Shape(x)[1:2]`."""
        from models.export import export
        from models.trained import pretrained

        network = TRAINED[name]
        path = tmp_path / "raw.onnx"
        export(pretrained(name), path, network.example(), raw=True, input_name=network.input, output_name=network.output)
        assert "Expand" in {node.op_type for node in onnx.load(path).graph.node}
        report = bnfold.optimize(path, tmp_path / "folded.onnx")
        assert report.written
        assert not report.plan.refusals

    def test_weights_of_another_network(self):
        from models.trained import load_weights

        with pytest.raises(ValueError, match=r"weights of MLP: .*conv1\.weight"):
            load_weights(TRAINED["mlp"].build(), path_of("lenet"))

    def test_lstm_is_an_lstm(self):
        import torch

        from models.lstm import RowLSTM

        torch.manual_seed(0)
        ours = RowLSTM(steps=5, inputs=3, hidden=4, num_classes=2).eval()
        theirs = torch.nn.LSTM(3, 4, batch_first=True)
        with torch.no_grad():
            scale = ours.norm.weight / torch.sqrt(ours.norm.running_var + ours.norm.eps)
            theirs.weight_ih_l0.copy_(ours.from_input.weight * scale[:, None])
            theirs.bias_ih_l0.copy_(ours.norm.bias - ours.norm.running_mean * scale)
            theirs.weight_hh_l0.copy_(ours.from_hidden.weight)
            theirs.bias_hh_l0.copy_(ours.from_hidden.bias)
            rows = torch.randn(6, 5, 3)
            torch.testing.assert_close(ours(rows), ours.classifier(theirs(rows)[0][:, -1]))

    def test_normalization_of_the_lstm_is_over_batch_and_steps(self):
        import torch

        from models.lstm import RowLSTM

        torch.manual_seed(0)
        model = RowLSTM(steps=5, inputs=3, hidden=4)
        rows = torch.randn(6, 5, 3) + 1
        model(rows)
        mean = model.from_input(rows).mean((0, 1))
        torch.testing.assert_close(model.norm.running_mean, 0.1 * mean)

    def test_pilotnet_has_the_size_of_the_paper(self):
        import torch

        from models.driving import PilotNet

        model = PilotNet().eval()
        assert round(sum(each.numel() for each in model.parameters()), -4) == 250_000
        assert model(torch.zeros(2, 3, 66, 200)).shape == (2,)
        torch.testing.assert_close(
            model(torch.full((1, 3, 66, 200), 127.5)), model.head(model.features(torch.zeros(1, 3, 66, 200)))[0]
        )

    def test_speech_network_takes_any_number_of_frames(self):
        import torch

        model = TRAINED["speech"].build().eval()
        frames = torch.randn(2, 40, 120)
        assert model(frames).shape == model(frames[:, :, :30]).shape == (2, 5)
        assert model.frames(frames).shape == (2, 64, 120 - 4 - 4 - 6)

    @pytest.mark.parametrize("by_hand", [False, True], ids=["torch", "by hand"])
    @pytest.mark.parametrize("whitened", [False, True], ids=["", "whitened"])
    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    def test_lenet_options(self, by_hand, whitened, after):
        import torch

        from models.lenet import lenet, lenet_by_hand

        torch.manual_seed(0)
        model = (lenet_by_hand if by_hand else lenet)(after=after, whitened=whitened)
        images = 3 * torch.rand(16, 1, 28, 28) + 2
        reached = []
        model.conv1.register_forward_hook(lambda module, inputs, output: reached.append(inputs[0]))
        model.bn1.register_forward_hook(lambda module, inputs, output: reached.append(inputs[0]))
        assert model(images).shape == (16, 10)
        seen, normalized = reached
        assert bool((abs(seen.mean()) < 1e-4) & (abs(seen.var() - 1) < 1e-2)) is whitened
        assert bool((normalized.min() > 0) & (normalized.max() < 1)) is after  # it has been through the Sigmoid
        assert sum(each.numel() for each in model.parameters()) == 44_878

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
            record = train.train("lenet-whitened", None, tmp_path, epochs=1)
        finally:
            train.torch.set_num_threads(threads)
        assert records[0] == records[1]  # with the hash of the file
        assert [run["seed"] for run in records[0]["runs"]] == [0, 1, 2]
        assert records[0]["train_score"] == max(run["train_score"] for run in records[0]["runs"])
        assert len(record["runs"]) == 1

    def test_training_of_a_quantity_chooses_the_smallest_error(self, tmp_path, monkeypatch):
        from models import train

        monkeypatch.setattr(road, "COUNT", {"train": 96, "test": 8})
        threads = train.torch.get_num_threads()
        try:
            record = train.train("driving", None, tmp_path, seeds=2, epochs=1)
        finally:
            train.torch.set_num_threads(threads)
        assert record["train_score"] == min(run["train_score"] for run in record["runs"])
        assert 0 < record["train_score"] < 5
        assert (record["train_examples"], record["test_examples"]) == (96, 8)

    def test_learning_rate_falls_to_zero_where_the_recipe_says_so(self, monkeypatch, sample):
        import torch

        from models import train

        rates = []
        step = torch.optim.SGD.step
        monkeypatch.setattr(torch.optim.SGD, "step", lambda self, *a: rates.append(self.param_groups[0]["lr"]) or step(self, *a))
        examples = tuple(map(torch.from_numpy, sample))
        monkeypatch.setitem(
            TRAINED,
            "lenet-whitened",
            replace(TRAINED["lenet-whitened"], recipe=replace(TRAINED["lenet-whitened"].recipe, batch=20)),
        )
        train.train_run("lenet-whitened", 0, 2, examples, examples)
        np.testing.assert_allclose(rates, 1 - np.arange(10) / 10)

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
        assert (counts["BatchNormalization"], counts["Conv"], counts["Expand"], counts["CastLike"]) == (
            20,
            20,
            *((40, 20) if raw else (0, 0)),
        )
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
