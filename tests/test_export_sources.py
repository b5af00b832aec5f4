"""`bnfold export`: what can be named, which weights fit, and the screen, from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from bnfold.cli.main import cli
from bnfold.errors import EnvironmentUnfit, InputError

torch = pytest.importorskip("torch", reason="torch is not installed (pip install 'bnfold[torch]')")
if find_spec("onnxscript") is None:
    pytest.skip("onnxscript is not installed (pip install 'bnfold[torch]')", allow_module_level=True)

from bnfold.exporter.example import with_example  # noqa: E402
from bnfold.exporter.sources import Source, open_source  # noqa: E402
from bnfold.exporter.weights import fitting_names, load_weights  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]

CODE = """
import torch
from torch import nn
from {neighbour} import CHANNELS

class Net(nn.Module):
    def __init__(self, channels=CHANNELS):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels)
    def forward(self, image):
        return self.bn(self.conv(image)).mean((2, 3))

class Outer:
    make = Net

def factory():
    return Net()

def picky(channels):
    return Net(channels)

def broken():
    raise RuntimeError("no such thing")

def wrong():
    return 3

def without():
    return nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False))

made = Net()
number = 7
"""


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A folder with `net_<unique>.py` and a neighbour that it imports; the working folder."""
    name = f"net_{abs(hash(tmp_path)) % 10**8}"
    (tmp_path / f"{name}.py").write_text(CODE.format(neighbour=f"{name}_beside"))
    (tmp_path / f"{name}_beside.py").write_text("CHANNELS = 4\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


class TestSources:
    @pytest.mark.parametrize("source", ["{}.py:Net", "{}.py:factory", "{}.py:made", "{}.py:Outer.make", "{}:Net"])
    def test_modules(self, code, source):
        assert type(open_source(source.format(code)).module).__name__ == "Net"

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ("{}.py:Nett", "no 'Nett'.* It has .*Net, .*factory"),
            ("{}.py:picky", "Write a function that calls it"),
            ("{}.py:broken", r"fails: RuntimeError: no such thing\."),
            ("{}.py:wrong", "gives a int, and not an nn.Module"),
            ("{}.py:number", "is a int, and neither"),
            ("nowhere.py:Net", "nowhere.py does not exist"),
            ("no_such_package.net:Net", "cannot be imported: ModuleNotFoundError"),
            ("resnet-1", "nor one of the reference networks: lenet, .*resnet18"),
            ("nowhere.pt2", "does not exist"),
            ("{}_beside.py", "reference networks"),
            ("weights.pth", "holds weights, and no network.*--weights weights.pth"),
            ("model.onnx", "bnfold optimize model.onnx"),
        ],
    )
    def test_what_cannot_be_had(self, code, source, words):
        with pytest.raises(InputError, match=words):
            open_source(source.format(code))

    def test_code_that_does_not_run(self, code):
        Path("bad.py").write_text("def (:\n")
        with pytest.raises(InputError, match=r"bad\.py cannot be run: SyntaxError"):
            open_source("bad.py:Net")

    def test_exported_program(self, code):
        program = torch.export.export(open_source(f"{code}.py:Net").module.eval(), (torch.zeros(2, 3, 5, 5),))
        torch.export.save(program, "net.pt2")
        source = open_source("net.pt2")
        assert isinstance(source.module, torch.export.ExportedProgram)

    def test_damaged_program(self, code):
        Path("net.pt2").write_bytes(b"no zip")
        with pytest.raises(InputError, match="no program that torch"):
            open_source("net.pt2")

    @pytest.mark.parametrize("name", ["lenet", "mlp"])
    def test_reference_networks(self, name):
        source = open_source(name)
        assert source.inputs == ("image",)
        assert source.outputs == ("logits",)
        assert source.args[0].shape[0] == 2

    def test_reference_networks_need_the_checkout(self, monkeypatch, tmp_path):
        from bnfold.exporter import sources

        monkeypatch.setattr(sources, "__file__", str(tmp_path / "bnfold" / "exporter" / "sources.py"))
        with pytest.raises(InputError, match="run it from a checkout"):
            open_source("resnet18")


class TestExample:
    def source(self, *names):
        def forward(self, left, right=None):
            return left

        module = type("Two", (torch.nn.Module,), {"forward": forward})()
        return Source("two", module)

    def test_names_of_parameters_are_put_in_order(self):
        found = with_example(self.source(), None, {"right": (2, 1), "left": (2, 3)}, True)
        assert (found.inputs, [tuple(arg.shape) for arg in found.args]) == (("left", "right"), [(2, 3), (2, 1)])

    def test_other_names_are_taken_in_order(self):
        assert with_example(self.source(), None, {"x": (1, 3)}, True).inputs == ("x",)

    @pytest.mark.parametrize("shapes", [{"left": (1,), "x": (1,)}, {"right": (1,)}], ids=["mixed", "without the first"])
    def test_names_that_do_not_fit(self, shapes):
        with pytest.raises(InputError, match="takes left, right"):
            with_example(self.source(), None, shapes, True)

    def test_arrays(self, tmp_path):
        np.savez(tmp_path / "in.npz", left=np.arange(10, dtype=np.int64).reshape(5, 2))
        (arg,) = with_example(self.source(), tmp_path / "in.npz", {}, True).args
        assert (arg.dtype, tuple(arg.shape)) == (torch.int64, (2, 2))
        assert with_example(self.source(), tmp_path / "in.npz", {}, False).args[0].shape[0] == 5

    def test_nothing_said(self):
        with pytest.raises(InputError, match=r"does not say what it takes.*--input-shapes"):
            with_example(self.source(), None, {}, True)


class TestWeights:
    @pytest.fixture
    def net(self, code):
        torch.manual_seed(0)
        return open_source(f"{code}.py:Net").module

    @staticmethod
    def other(net):
        """Other weights of the same shapes."""
        return {name: value + 1 for name, value in net.state_dict().items()}

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda state: state,
            lambda state: {"state_dict": state, "epoch": 3},
            lambda state: {"epoch": 3, "model": {"state_dict": state}},
            lambda state: {f"module.{name}": value for name, value in state.items()},
            lambda state: {f"_orig_mod.module.{name}": value for name, value in state.items()},
            lambda state: {name.replace("bn.", "bn._orig_mod."): value for name, value in state.items()},
            lambda state: {f"student.net.{name}": value for name, value in state.items()},
            lambda state: {name: value for name, value in state.items() if "num_batches" not in name},
        ],
        ids=["plain", "nested", "twice", "DataParallel", "both", "compiled part", "lightning", "no counters"],
    )
    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_state_dicts_that_fit(self, net, wrap, suffix):
        state = wrap(self.other(net))
        expected = self.other(net)
        path = Path(f"w{suffix}")
        if suffix == ".pth":
            torch.save(state, path)
        else:
            from_safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
            if any(isinstance(value, dict) for value in state.values()):
                pytest.skip("safetensors holds no nested dicts")
            from_safetensors.save_file({name: value.contiguous() for name, value in state.items()}, path)
        load_weights(net, path)
        assert torch.equal(net.state_dict()["bn.running_mean"], expected["bn.running_mean"])
        assert torch.equal(net.state_dict()["conv.weight"], expected["conv.weight"])

    def test_what_does_not_fit_is_listed(self, net):
        state = self.other(net)
        del state["conv.weight"], state["bn.running_var"]
        state |= {"head.weight": torch.zeros(1), "bn.bias": torch.zeros(7)}
        torch.save(state, "w.pth")
        before = {name: value.clone() for name, value in net.state_dict().items()}
        with pytest.raises(InputError) as caught:
            load_weights(net, Path("w.pth"))
        message = str(caught.value)
        assert "2 missing: conv.weight, bn.running_var" in message
        assert "1 unexpected: head.weight" in message
        assert "1 of another shape: bn.bias is [7], and the module has [4]" in message
        assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (lambda path: path.write_bytes(b"nothing"), "no file of torch.save|Python objects"),
            (lambda path: torch.save([1, 2], path), "list, and no state dict"),
            (lambda path: torch.save({"epoch": 3}, path), "a dict with epoch, and no state dict"),
            (lambda path: torch.save(torch.nn.BatchNorm2d(3), path), "Python objects besides weights"),
            (lambda path: None, "do not exist"),
        ],
        ids=["garbage", "list", "no weights", "pickled module", "missing"],
    )
    def test_files_that_hold_no_state_dict(self, net, content, words):
        path = Path("w.pt")
        content(path)
        with pytest.raises(InputError, match=words):
            load_weights(net, path)

    def test_safetensors_that_is_none(self, net):
        pytest.importorskip("safetensors", reason="safetensors is not installed")
        Path("w.safetensors").write_bytes(b"nothing")
        with pytest.raises(InputError, match="no safetensors file"):
            load_weights(net, Path("w.safetensors"))

    def test_safetensors_is_optional(self, net, monkeypatch):
        Path("w.safetensors").write_bytes(b"")
        monkeypatch.setitem(sys.modules, "safetensors", None)
        with pytest.raises(EnvironmentUnfit, match="pip install safetensors"):
            load_weights(net, Path("w.safetensors"))

    def test_lazy_modules_take_their_shapes_from_the_weights(self):
        lazy = torch.nn.Sequential(torch.nn.LazyBatchNorm2d())
        torch.save({"0." + name: value for name, value in torch.nn.BatchNorm2d(5).state_dict().items()}, path := Path("w.pth"))
        try:
            load_weights(lazy, path)
        finally:
            path.unlink()
        assert lazy[0].running_mean.shape == (5,)

    def test_names_that_fit_are_left_alone(self):
        assert fitting_names({"module.a": 1}, ["module.a"]) == {"module.a": 1}
        assert fitting_names({"a.b": 1, "c.b": 2}, ["b"]) == {"a.b": 1, "c.b": 2}


class TestCommand:
    def test_screen(self, code):
        result = run("export", f"{code}.py:Net", "--input-shapes", "image:1,3,5,5", "-o", "net.onnx", "--fold")
        assert result.exit_code == 0, result.output
        words = (
            "module   1 normalization layer   (BatchNorm2d 1)",
            "eval()   called: 3 parts of the module in training mode, 1 normalization (BNF001) among them",
            "BNF017  has running statistics that look untrained",
            "exported opset 18 · IR 10 · batch dynamic · 1 BatchNormalization kept",
            "agrees   PyTorch and unfolded",
            "PyTorch and folded",
            "unfolded and folded",
            "folded   1 of 1 normalization   (Conv 1)",
            "wrote    net.onnx",
        )
        assert [each for each in words if each not in result.stdout] == []
        assert "argmax same on 8 of 8" in result.stdout

    def test_json(self, code):
        result = run("export", f"{code}.py:Net", "--input-shapes", "image:1,3,5,5", "-o", "net.onnx", "--json", "--fold")
        document = json.loads(result.stdout)
        assert document["ok"]
        assert document["written"]
        assert document["set_to_eval"] == 3
        assert [each["code"] for each in document["diagnostics"]] == ["BNF001", "BNF017"]
        assert [each["right"] for each in document["agreements"]] == ["unfolded", "folded", "folded"]
        assert document["folded"]["folded"] == 1

    def test_refusal(self, code):
        shapes = ("--input-shapes", "x:2,3,5,5")
        result = run("export", f"{code}.py:without", *shapes, "-o", "net.onnx")
        assert result.exit_code == 1
        assert "REFUSED     1   BNF024  keeps no running statistics" in result.stdout
        assert result.stdout.rstrip().endswith("Nothing was written.")
        assert not Path("net.onnx").exists()
        result = run("export", f"{code}.py:without", *shapes, "-o", "net.onnx", "--placeholder-statistics")
        assert result.exit_code == 0
        result = run("export", f"{code}.py:without", *shapes, "-o", "no.onnx", "--json")
        assert (result.exit_code, json.loads(result.stdout)["error"]["exit_code"]) == (1, 1)

    def test_quiet(self, code):
        result = run("export", f"{code}.py:Net", "--input-shapes", "x:1,3,5,5", "-o", "net.onnx", "-q")
        assert "BNF017" in result.stdout
        assert "wrote" not in result.stdout
        assert onnx.load("net.onnx").graph.input[0].name == "x"

    def test_output_names_weights_and_opset(self, code):
        torch.save(open_source(f"{code}.py:Net").module.state_dict(), "w.pth")
        options = ("--output-name", "scores", "--opset", 20, "--weights", "w.pth", "--static")
        result = run("export", f"{code}:Net", "--input-shapes", "image:2,3,5,5", "-o", "net.onnx", *options)
        assert result.exit_code == 0, result.output
        assert "weights w.pth" in result.stdout
        model = onnx.load("net.onnx")
        assert (model.graph.output[0].name, model.opset_import[0].version) == ("scores", 20)
        assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("{}.py:Net",), "does not say what it takes"),
            (("{}.py:Net", "--input-shapes", "image:1,4,5,5"), "cannot trace Net"),
            (("{}.py:Net", "--input-shapes", "image:1,3,5,5", "--weights", "w.pth"), "the weights w.pth do not exist"),
            (("{}.py:Net", "--input-shapes", "image:1,3,5,5", "--data", "x", "--inputs", "."), "exclude each other"),
            (("net.pt2", "--weights", "w.pth"), "does not exist"),
        ],
    )
    def test_errors(self, code, arguments, words):
        result = run("export", *(each.format(code) for each in arguments), "-o", "net.onnx")
        assert result.exit_code == 2
        assert words in result.stderr
        assert not Path("net.onnx").exists()

    def test_a_program_with_weights_or_shapes(self, code):
        torch.export.save(torch.export.export(open_source(f"{code}.py:Net").module.eval(), (torch.zeros(2, 3, 5, 5),)), "net.pt2")
        torch.save({}, "w.pth")
        assert "holds its weights already" in run("export", "net.pt2", "-o", "n.onnx", "--weights", "w.pth").stderr
        assert "shapes of its own" in run("export", "net.pt2", "-o", "n.onnx", "--input-shapes", "x:1,3,5,5").stderr
        result = run("export", "net.pt2", "-o", "n.onnx")
        assert result.exit_code == 0, result.output
        assert [dim.dim_value for dim in onnx.load("n.onnx").graph.input[0].type.tensor_type.shape.dim] == [2, 3, 5, 5]

    def test_in_a_process_of_its_own(self, code):
        """What torch and the user's code print goes to stderr; stdout is the document alone."""
        Path("loud.py").write_text(
            "import torch\nprint('hello')\n\ndef net():\n    print('made')\n    return torch.nn.BatchNorm2d(3)\n"
        )
        command = [
            sys.executable,
            "-m",
            "bnfold",
            "export",
            "loud.py:net",
            "--input-shapes",
            "x:1,3,4,4",
            "-o",
            "n.onnx",
            "--json",
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["written"]
        assert "hello" in done.stderr

    def test_without_torch(self, code):
        script = (
            "import sys; sys.modules['torch'] = None; sys.argv = ['bnfold', 'export', 'n.py:Net', '-o', 'n.onnx']; "
            "from bnfold.cli.main import main; main()"
        )
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 3
        assert "torch is not installed" in done.stderr
        assert "pip install 'bnfold[torch]'" in done.stderr
