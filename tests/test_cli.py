"""The command line from outside: what it prints, where, and with which exit code."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from click.testing import CliRunner, Result

import bnfold
from bnfold import pipeline
from bnfold.cli import console
from bnfold.cli.main import cli
from bnfold.codes import CODES
from bnfold.errors import BnfoldError, EnvironmentUnfit, GateFailed, InputError

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("numpy", "onnx", "onnxruntime", "onnx_graphsurgeon", "torch", "ml_dtypes")

CONV_BN = """
<ir_version: 8, opset_import: ["" : 17], producer_name: "test">
agraph (float[N,4,H,W] x) => (float[N,4,H,W] y) {
  c = Conv (x, W)
  y = BatchNormalization (c, scale, B, mean, var)
}"""
CONV_RELU_BN = CONV_BN.replace("  y =", "  r = Relu (c)\n  y =").replace("(c, scale", "(r, scale")
CONV_ONLY = CONV_BN.replace("c = Conv", "y = Conv").replace("  y = BatchNormalization (c, scale, B, mean, var)\n", "")


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str = CONV_BN, name: str = "m.onnx", overridable: bool = False, mean: float = 0.3) -> Path:
        model = onnx.parser.parse_model(text)
        rng = np.random.default_rng(0)
        values = {"W": rng.standard_normal((4, 4, 1, 1)), "scale": rng.uniform(1, 2, 4), "B": rng.standard_normal(4)}
        values |= {"mean": np.full(4, mean), "var": rng.uniform(1, 2, 4)}
        read = {read for node in model.graph.node for read in node.input}
        for key in values.keys() & read:
            tensor = onnx.numpy_helper.from_array(values[key].astype(np.float32), key)
            model.graph.initializer.append(tensor)
            if overridable:
                model.graph.input.append(onnx.helper.make_tensor_value_info(key, tensor.data_type, tensor.dims))
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    return write


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result


def shell(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "BNFOLD_DEBUG", "FORCE_COLOR")}
    return subprocess.run(
        [sys.executable, "-m", "bnfold", *map(str, arguments)],
        cwd=ROOT,
        env={**clean, "PYTHONUTF8": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


# --- optimize ---------------------------------------------------------------------------------------------------------


def test_optimize_folds_verifies_and_writes(save: Callable[..., Path]) -> None:
    model = save()
    before = model.read_bytes()
    result = run("optimize", model)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert "folded   1 of 1 normalization   (Conv 1)" in result.stdout
    assert "verified max |Δ|" in result.stdout or "verified identical" in result.stdout
    folded = model.with_name("m.folded.onnx")
    assert f"wrote    {folded}" in " ".join(result.stdout.split()).replace("wrote ", "wrote    ")
    assert [node.op_type for node in onnx.load(folded).graph.node] == ["Conv"]
    assert model.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "written"),
    [("m.onnx", "m.folded.onnx"), ("m.v1.onnx", "m.v1.folded.onnx"), ("m", "m.folded.onnx"), ("m.pb", "m.pb.folded.onnx")],
)
def test_default_destination(save: Callable[..., Path], name: str, written: str) -> None:
    model = save(name=name)
    assert run("optimize", model, "--no-verify").exit_code == 0
    assert model.with_name(written).is_file()


def test_output_option(save: Callable[..., Path], tmp_path: Path) -> None:
    assert run("optimize", save(), "-o", tmp_path / "small.onnx").exit_code == 0
    assert (tmp_path / "small.onnx").is_file()
    assert not (tmp_path / "m.folded.onnx").exists()


@pytest.mark.parametrize("spelling", ["same", "dotted", "link"])
def test_output_that_is_the_input_is_refused(save: Callable[..., Path], tmp_path: Path, spelling: str) -> None:
    model = save()
    other = {"same": model, "dotted": tmp_path / "." / ".." / tmp_path.name / "m.onnx", "link": tmp_path / "l.onnx"}[spelling]
    if spelling == "link":
        other.symlink_to(model)
    before = model.read_bytes()
    result = run("optimize", model, "-o", other)
    assert result.exit_code == 2
    assert "is the input itself" in result.stderr
    assert "--in-place" in result.stderr
    assert model.read_bytes() == before


def test_a_name_that_is_too_long_is_bad_input(save: Callable[..., Path]) -> None:
    long = "o" * 300
    for arguments in (("optimize", save(), "-o", f"{long}.onnx"), ("check", long), ("check", save(), "--report", f"{long}.json")):
        result = run(*arguments)
        assert (result.exit_code, "too long" in result.stderr) == (2, True)


def test_the_weights_of_the_input_are_not_replaced(save: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "external.onnx"
    onnx.save(onnx.load(save()), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    before = (tmp_path / "weights.bin").read_bytes()
    result = run("optimize", path, "-o", tmp_path / "weights.bin")
    assert (result.exit_code, "holds weights of" in result.stderr) == (2, True)
    assert (tmp_path / "weights.bin").read_bytes() == before


def test_in_place(save: Callable[..., Path], tmp_path: Path) -> None:
    model = save()
    assert run("optimize", model, "--in-place").exit_code == 0
    assert [node.op_type for node in onnx.load(model).graph.node] == ["Conv"]
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_in_place_and_output_exclude_each_other(save: Callable[..., Path], tmp_path: Path) -> None:
    result = run("optimize", save(), "--in-place", "-o", tmp_path / "x.onnx")
    assert result.exit_code == 2
    assert "exclude each other" in result.stderr


def test_dry_run_writes_nothing(save: Callable[..., Path], tmp_path: Path) -> None:
    result = run("optimize", save(), "--dry-run")
    assert result.exit_code == 0
    assert "folds    1 of 1 normalization" in result.stdout
    assert "wrote    nothing (dry run)" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_nothing_to_fold_comes_out_byte_for_byte(save: Callable[..., Path], tmp_path: Path) -> None:
    model = save(CONV_RELU_BN)
    result = run("optimize", model, "-o", tmp_path / "out.onnx")
    assert result.exit_code == 0
    assert "0 of 1 normalization" in result.stdout
    assert "BNF005" in result.stdout
    assert "identical to" in result.stdout
    assert (tmp_path / "out.onnx").read_bytes() == model.read_bytes()


def test_overridable_initializers(save: Callable[..., Path]) -> None:
    model = save(overridable=True)
    kept = run("optimize", model)
    assert kept.exit_code == 0
    assert "0 of 1 normalization" in kept.stdout
    assert f"bnfold optimize {model} --freeze-initializers" in kept.stdout
    frozen = run("optimize", model, "--freeze-initializers")
    assert frozen.exit_code == 0
    assert "1 of 1 normalization" in frozen.stdout
    assert "1 of 1 normalization" not in kept.stdout


def test_keep_and_only(save: Callable[..., Path]) -> None:
    for options in (("--keep", "y"), ("--keep", "nothing", "--keep", "?"), ("--only", "z*")):
        result = run("optimize", save(), "--dry-run", *options)
        assert "0 of 1 normalization" in result.stdout
        assert "BNF021" in result.stdout
    assert "1 of 1 normalization" in run("optimize", save(), "--dry-run", "--only", "y").stdout


def test_quiet_success_is_silent(save: Callable[..., Path]) -> None:
    result = run("optimize", save(), "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_quiet_and_verbose_exclude_each_other(save: Callable[..., Path]) -> None:
    assert run("optimize", save(), "-q", "-v").exit_code == 2
    assert run("verify", save(), save(), "-q", "-v").exit_code == 2


def test_verbose_lists_verdicts(save: Callable[..., Path]) -> None:
    assert "(4 channels, epsilon 1e-05)" in run("optimize", save(), "-v").stdout


def test_failed_verification_writes_nothing(save: Callable[..., Path], tmp_path: Path) -> None:
    model = save()
    arguments = ("optimize", model, "-o", tmp_path / "out.onnx", "--atol", "0", "--rtol", "0", "--input-shapes", "x:2,4,64,64")
    result = run(*arguments)
    assert result.exit_code == 1
    assert "FAILED" in result.stdout
    assert "Nothing was written." in result.stdout
    document = json.loads(run(*arguments, "--json").stdout)
    assert document["ok"] is False
    assert document["error"]["exit_code"] == 1
    assert document["written"] is False
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("shape", ["x:2,4,3,5", "x:2x4x3x5"])
def test_input_shapes(save: Callable[..., Path], shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}
    monkeypatch.setattr(pipeline, "optimize", lambda *_, **options: given.update(options) or raising(GateFailed("stop"))())
    run("optimize", save(), "--input-shapes", shape, "--input-shapes", "a:b:1")
    assert given["input_shapes"] == {"x": (2, 4, 3, 5), "a:b": (1,)}


@pytest.mark.parametrize("shape", ["x", "x:", ":1", "x:1,,2", "x:0,3", "x:-1", "x:1.5", "x:a", "x:1;2", "x:²", ""])
def test_malformed_input_shapes(save: Callable[..., Path], shape: str) -> None:
    result = run("optimize", save(), "--input-shapes", shape)
    assert result.exit_code == 2
    assert "NAME:DIMS" in result.stderr
    assert "bnfold optimize --help" in result.stderr


def test_input_shape_given_twice(save: Callable[..., Path]) -> None:
    result = run("optimize", save(), "--input-shapes", "x:1", "--input-shapes", "x:2")
    assert result.exit_code == 2
    assert "named twice" in result.stderr


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "small"])
@pytest.mark.parametrize("option", ["--atol", "--rtol"])
def test_malformed_tolerance(save: Callable[..., Path], option: str, value: str) -> None:
    result = run("optimize", save(), option, value)
    assert result.exit_code == 2
    assert option in result.stderr


def test_inputs_from_a_file(save: Callable[..., Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((1, 4, 3, 3), np.float32))
    assert "on 1 input" in run("optimize", save(), "--inputs", tmp_path / "x.npz").stdout
    missing = run("optimize", save(), "--inputs", tmp_path / "absent.npz")
    assert missing.exit_code == 2
    assert "absent.npz" in missing.stderr


def test_reports_are_written_beside_the_model(save: Callable[..., Path], tmp_path: Path) -> None:
    result = run("optimize", save(), "--report", tmp_path / "r.json", "--report", tmp_path / "r.md")
    assert result.exit_code == 0
    assert json.loads((tmp_path / "r.json").read_text("utf-8"))["folded"] == 1
    assert "1 of 1 normalization folded" in (tmp_path / "r.md").read_text("utf-8")


@pytest.mark.parametrize("name", ["r.pdf", "r", "absent/r.md", "folder.md"])
def test_unusable_report_is_refused_before_the_work(save: Callable[..., Path], tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.md").mkdir()
    model = save()
    result = run("optimize", model, "--report", tmp_path / name)
    assert result.exit_code == 2
    assert "--report" in result.stderr
    assert not model.with_name("m.folded.onnx").exists()
    if name in ("r.pdf", "r"):
        assert ".json, .md" in result.stderr


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("cifar_resnet20", (), "folded   19 of 19 normalizations   (Conv 19)"),
        ("ultraface_slim_320", (), "bnfold optimize"),
        ("ultraface_slim_320", ("--freeze-initializers",), "folded   25 of 25 normalizations   (Conv 25)"),
    ],
)
def test_real_models(shared_models: Path, tmp_path: Path, name: str, options: tuple[str, ...], words: str) -> None:
    result = run("optimize", shared_models / f"{name}.onnx", "-o", tmp_path / "out.onnx", *options)
    assert result.exit_code == 0
    assert words in result.stdout
    assert (tmp_path / "out.onnx").is_file()


# --- inspect and verify -----------------------------------------------------------------------------------------------


def test_inspect(save: Callable[..., Path]) -> None:
    result = run("inspect", save(CONV_RELU_BN))
    assert result.exit_code == 0
    assert "opset 17 · IR 8" in result.stdout
    assert "1 normalization: 0 fold, 1 stay" in result.stdout
    assert "bnfold explain BNF005" in result.stdout


def test_inspect_of_a_folded_model(save: Callable[..., Path]) -> None:
    result = run("inspect", save(CONV_ONLY))
    assert result.exit_code == 0
    assert "the model holds no normalization" in result.stdout


def test_inspect_with_frozen_initializers(save: Callable[..., Path]) -> None:
    assert "0 fold, 1 stay" in run("inspect", save(overridable=True)).stdout
    assert "1 fold, 0 stay" in run("inspect", save(overridable=True), "--freeze-initializers").stdout


def test_inspect_warns_of_untrained_statistics(save: Callable[..., Path]) -> None:
    assert "BNF017" not in run("inspect", save()).stdout
    text = CONV_BN.replace("(float[N,4,H,W] y)", "(float[N,4,H,W] y) <float[4] var = {1, 1, 1, 1}>")
    path = save(text, mean=0.0)
    model = onnx.load(path)
    del model.graph.initializer[[tensor.name for tensor in model.graph.initializer].index("var", 1)]
    onnx.save(model, path)
    assert "BNF017" in run("inspect", path).stdout


def test_verify_equal_and_different(save: Callable[..., Path]) -> None:
    model = save()
    assert run("optimize", model).exit_code == 0
    same = run("verify", model, model.with_name("m.folded.onnx"))
    assert same.exit_code == 0
    assert "verified" in same.stdout
    other = run("verify", model, save(name="other.onnx", mean=0.4))
    assert other.exit_code == 1
    assert "FAILED" in other.stdout
    assert "max |Δ|" in other.stdout
    assert other.stdout.startswith(f"{model.with_name('other.onnx')}   against {model}\n")
    assert run("verify", model, model, "-q").stdout == ""
    assert json.loads(run("verify", model, model, "--json").stdout)["ok"] is True
    document = json.loads(run("verify", model, model.with_name("other.onnx"), "--json").stdout)
    assert (document["ok"], document["error"]["exit_code"]) == (False, 1)


def test_not_verifying_is_advice_for_optimize_alone(save: Callable[..., Path], tmp_path: Path) -> None:
    model = save()
    new = onnx.load(model)
    new.ir_version = 99
    (tmp_path / "new.onnx").write_bytes(new.SerializeToString())
    optimized = run("optimize", tmp_path / "new.onnx")
    verified = run("verify", model, tmp_path / "new.onnx")
    assert (optimized.exit_code, verified.exit_code) == (3, 3)
    assert "BNF030" in optimized.stderr
    assert "BNF030" in verified.stderr
    assert "--no-verify" in optimized.stderr
    assert "--no-verify" not in verified.stderr


# --- explain ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["BNF004", "bnf004", "Bnf004"])
def test_explain(code: str) -> None:
    result = run("explain", code)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"BNF004  {CODES['BNF004'].title}\n")
    assert "What to do" in result.stdout


@pytest.mark.parametrize("code", ["BNF999", "4", ""])
def test_explain_unknown_code_lists_all(code: str) -> None:
    result = run("explain", code)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert all(known in result.stderr for known in CODES)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["missing", "folder", "empty", "text", "truncated", "no graph"])
def bad_model(request: pytest.FixtureRequest, tmp_path: Path, save: Callable[..., Path]) -> Path:
    path = tmp_path / "bad.onnx"
    if request.param == "folder":
        path.mkdir()
    elif request.param != "missing":
        whole = save().read_bytes()
        content = {"empty": b"", "text": b"hello, world\n" * 9, "truncated": whole[: len(whole) // 2], "no graph": b"\x08\x08"}
        path.write_bytes(content[request.param])
    return path


@pytest.mark.parametrize("command", ["optimize", "inspect", "verify"])
def test_bad_model(bad_model: Path, command: str, save: Callable[..., Path], tmp_path: Path) -> None:
    arguments = (bad_model, save(name="good.onnx")) if command == "verify" else (bad_model,)
    result = run(command, *arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("bnfold: ")
    assert str(bad_model) in result.stderr
    assert len(result.stderr.splitlines()) == 1
    document = json.loads(run(command, *arguments, "--json").stdout)
    assert document["ok"] is False
    assert document["error"] == {"message": result.stderr.removeprefix("bnfold: ").rstrip("\n"), "exit_code": 2}
    assert not list(tmp_path.glob("*.folded.onnx"))


@pytest.mark.parametrize("place", ["absent/out.onnx", "file/out.onnx", "folder"])
def test_unusable_destination(save: Callable[..., Path], tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    result = run("optimize", save(), "-o", tmp_path / place)
    assert result.exit_code == 2, result.output
    assert place.partition("/")[0] in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "file", "folder"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_destination(save: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    result = run("optimize", save(), "-o", folder / "out.onnx")
    assert result.exit_code == 2
    assert "locked" in result.stderr


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["optimize"], ["optimize", "a", "b"], ["inspect", "--wrong"], ["verify", "a"]]
)
def test_wrong_usage(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("bnfold: ")
    assert "--help`" in result.stderr
    assert result.stdout == ""
    assert json.loads(run(*arguments, "--json").stdout)["error"]["exit_code"] == 2


# --- failures become messages and exit codes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "exit_code", "words"),
    [
        (GateFailed("gate"), 1, "bnfold: gate\n"),
        (InputError("input"), 2, "bnfold: input\n"),
        (EnvironmentUnfit("runtime"), 3, "bnfold: runtime\n"),
        (BnfoldError("own"), 4, "bnfold: own\n"),
        (MemoryError(), 3, "bnfold: out of memory."),
        (KeyboardInterrupt(), 130, "bnfold: interrupted."),
        (InputError("name \x1b[31m"), 2, "bnfold: name \N{REPLACEMENT CHARACTER}[31m\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_exit_codes(
    save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, error: BaseException, exit_code: int, words: str
) -> None:
    monkeypatch.setattr(pipeline, "optimize", raising(error))
    result = run("optimize", save())
    assert result.exit_code == exit_code
    assert result.stderr.startswith(words)
    assert result.stdout == ""
    assert json.loads(run("optimize", save(), "--json").stdout)["error"]["exit_code"] == exit_code


def test_a_bug_is_one_line_and_a_traceback_on_request(save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BNFOLD_DEBUG", raising=False)
    monkeypatch.setattr(pipeline, "inspect", raising(KeyError("two\nlines")))
    result = run("inspect", save())
    assert result.exit_code == 4
    assert len(result.stderr.splitlines()) == 1
    assert "this is a bug in bnfold: KeyError: 'two\\nlines'" in result.stderr
    assert "BNFOLD_DEBUG=1" in result.stderr
    monkeypatch.setenv("BNFOLD_DEBUG", "1")
    loud = CliRunner().invoke(cli, ["inspect", str(save())])
    assert loud.exit_code == 4
    assert "Traceback (most recent call last)" in loud.stderr
    assert loud.stdout == ""


def test_what_libraries_print_does_not_reach_stdout(save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    inspect = pipeline.inspect

    def chatty(*arguments: Any, **options: Any) -> Any:
        print("chatter")
        return inspect(*arguments, **options)

    monkeypatch.setattr(pipeline, "inspect", chatty)
    result = run("inspect", save(), "--json")
    assert json.loads(result.stdout)["ok"] is True
    assert "chatter" in result.stderr


# --- help and version -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], ["optimize"], ["inspect"], ["verify"], ["explain"]])
def test_help(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: bnfold")
    assert max(map(len, result.stdout.splitlines())) <= 88
    if command in ([], ["optimize"], ["verify"]):
        assert "Exit codes:\n    0    done\n" in result.stdout
        assert "\n    130  interrupted" in result.stdout


def test_without_a_command_help_goes_to_stderr() -> None:
    result = run()
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Usage: bnfold")


def test_version() -> None:
    assert run("--version").stdout == f"bnfold, version {bnfold.__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["optimize", "--help"], ["verify", "--help"], ["--version"], ["explain", "BNF001"], ["wrong"]]
)
def test_small_things_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom bnfold.cli.main import cli\n"
        f"try:\n    cli.main({arguments!r})\nexcept SystemExit:\n    pass\n"
        f"print('loaded', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.endswith("loaded []\n")


def test_optimize_without_verification_loads_no_runtime(save: Callable[..., Path]) -> None:
    code = (
        "import sys\nfrom bnfold.cli.main import cli\n"
        f"try:\n    cli.main(['optimize', '--no-verify', {str(save())!r}])\n"
        "except SystemExit as done:\n    assert done.code == 0\n"
        "print('loaded', [name for name in ('onnxruntime', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.endswith("loaded []\n")


# --- as a program -----------------------------------------------------------------------------------------------------


def test_program_exit_codes_and_streams(save: Callable[..., Path], tmp_path: Path) -> None:
    good = shell("optimize", save(), "--json")
    assert good.returncode == 0
    assert good.stderr == ""
    assert json.loads(good.stdout)["folded"] == 1
    bad = shell("optimize", tmp_path / "absent.onnx", "--json")
    assert bad.returncode == 2
    assert bad.stderr.startswith("bnfold: ")
    assert json.loads(bad.stdout)["ok"] is False
    assert shell("explain", "nonsense").returncode == 2
    different = shell("verify", tmp_path / "m.onnx", save(name="other.onnx", mean=2.0))
    assert different.returncode == 1
    assert "FAILED" in different.stdout


def test_a_pipe_gets_no_colours(save: Callable[..., Path]) -> None:
    done = shell("inspect", save())
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr


def test_a_terminal_without_unicode_is_no_obstacle(save: Callable[..., Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bnfold", "inspect", "-v", save()],
        cwd=ROOT,
        env={**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        encoding="latin-1",
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "opset 17 · IR 8" in done.stdout
    assert "Conv `c` ? graph output" in done.stdout


def test_a_closed_pipe_is_quiet() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "bnfold", "explain", "BNF004"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        assert program.stdout
        assert program.stderr
        program.stdout.close()
        assert program.stderr.read() == b""
    assert program.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("arguments", [["--help"], ["explain", "BNF004"], ["--version"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_stdout_is_no_bug(arguments: list[str], unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bnfold", *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 3
    assert done.stderr.startswith("bnfold: cannot print on stdout: No space left on device.")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a Unix thing")
@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colours_on_a_terminal(save: Callable[..., Path], environment: dict[str, str], coloured: bool) -> None:
    shown = _on_a_terminal("inspect", str(save()), **environment)
    assert "1 normalization: 1 fold, 0 stay" in shown
    assert ("\x1b[" in shown) is coloured


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a Unix thing")
def test_progress_on_a_terminal_is_erased_again(save: Callable[..., Path]) -> None:
    shown = _on_a_terminal("inspect", str(save()), NO_COLOR="1")
    assert "reading " in shown
    assert shown.index("reading ") < shown.index("\r ") < shown.index("opset 17")
    assert "reading " not in _on_a_terminal("inspect", str(save()), "--json")


def _on_a_terminal(*arguments: str, **environment: str) -> str:
    import pty

    ours, theirs = pty.openpty()
    clean = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    with subprocess.Popen(
        [sys.executable, "-m", "bnfold", *arguments],
        cwd=ROOT,
        env={**clean, "TERM": "xterm", "PYTHONUTF8": "1", **environment},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as program:
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
    os.close(ours)
    assert program.returncode == 0
    return shown.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux reports the end of a terminal in this way
        return b""


@pytest.mark.parametrize(("columns", "width"), [("60", 60), ("300", 120)])
def test_width_follows_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: str, width: int) -> None:
    assert console.width() == 100
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert console.width() == width
