"""Settings from files and the environment, and `bnfold config`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bnfold.cli.main import cli

LENET = Path(__file__).resolve().parent.parent / "models" / "lenet.onnx"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, **environment: str) -> Result:
    result = CliRunner().invoke(cli, list(arguments), env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def setting(command: str, option: str, **environment: str) -> tuple[object, str]:
    rows = json.loads(run("config", "--json", **environment).stdout)["settings"]
    (row,) = (row for row in rows if (row["command"], row["option"]) == (command, option))
    return row["value"], row["origin"]


def test_without_any_settings() -> None:
    result = run("config")
    assert result.exit_code == 0
    assert "every option is at its default" in result.stdout
    assert setting("optimize", "seed") == (0, "default")


def test_from_weak_to_strong(folder: Path) -> None:
    path = folder / "pyproject.toml"
    path.write_text("[tool.bnfold]\nseed = 1\n")
    assert setting("optimize", "seed") == (1, f"{path} [tool.bnfold]")
    path.write_text("[tool.bnfold]\nseed = 1\n[tool.bnfold.optimize]\nseed = 2\n")
    assert setting("optimize", "seed") == (2, f"{path} [tool.bnfold.optimize]")
    assert setting("verify", "seed") == (1, f"{path} [tool.bnfold]")
    assert setting("optimize", "seed", BNFOLD_SEED="3") == (3, "BNFOLD_SEED")
    assert setting("optimize", "seed", BNFOLD_SEED="3", BNFOLD_OPTIMIZE_SEED="4") == (4, "BNFOLD_OPTIMIZE_SEED")
    assert setting("verify", "seed", BNFOLD_OPTIMIZE_SEED="4") == (1, f"{path} [tool.bnfold]")


def test_they_reach_the_commands(folder: Path) -> None:
    (folder / "bnfold.toml").write_text('[check]\nignore = ["BNF003"]\n')
    assert run("check", str(LENET)).exit_code == 0
    assert run("check", str(LENET), "--ignore", "BNF017").exit_code == 1  # a flag replaces the list
    assert run("check", str(LENET), BNFOLD_CHECK_IGNORE="BNF017").exit_code == 1


def test_a_flag_can_be_set(folder: Path) -> None:
    (folder / "bnfold.toml").write_text("[optimize]\ndry-run = true\n")
    assert "nothing (dry run)" in run("optimize", str(LENET), "-o", "out.onnx").stdout
    assert not (folder / "out.onnx").exists()
    assert run("optimize", str(LENET), "-o", "out.onnx", BNFOLD_DRY_RUN="0", BNFOLD_NO_VERIFY="1").exit_code == 0
    assert (folder / "out.onnx").exists()


def test_the_nearest_file_wins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "bnfold.toml").write_text("seed = 1\n")
    inner = folder / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert setting("verify", "seed")[0] == 1
    (folder / "a" / "pyproject.toml").write_text("[tool.other]\nseed = 5\n")  # says nothing of bnfold
    assert setting("verify", "seed")[0] == 1
    (folder / "a" / "pyproject.toml").write_text("[tool.bnfold]\nseed = 2\n")
    assert setting("verify", "seed")[0] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed = 1", "sets sed, which no command has as an option. Did you mean seed?"),
        ("[verify]\nkeep = ['a']", "sets keep, which no command has"),
        ("[optimise]\nseed = 1", "sets optimise, which no command has"),
        ("[optimise]\nseed = 1", "Did you mean optimize?"),
        ("verify = 1", "has to be a table"),
        ("seed = true", "sets seed to True. It takes a whole number."),
        ("seed = 1.5", "sets seed to 1.5. It takes a whole number."),
        ("seed = [1]", "sets seed to [1]. It takes a whole number."),
        ("[optimize]\ndry-run = 1", "sets dry-run to 1. It takes true or false."),
        ('atol = "small"', "sets atol to 'small'. It takes a number."),
        ("[check]\nignore = true", "sets ignore to True. It takes a string, or a list of such."),
        ("[check]\nignore = [['BNF003']]", "sets ignore to [['BNF003']]. It takes a string"),
        ("seed = ", "is no valid TOML"),
    ],
)
def test_a_bad_file_is_an_error_that_names_it(folder: Path, text: str, message: str) -> None:
    (folder / "bnfold.toml").write_text(text)
    result = run("check", str(LENET))
    assert result.exit_code == 2
    assert result.stderr.startswith(f"bnfold: {folder / 'bnfold.toml'}")
    assert message in result.stderr


def test_a_bad_value_is_a_usage_error_that_names_the_setting(folder: Path) -> None:
    (folder / "bnfold.toml").write_text("seed = -1\n")
    for command in (("verify", str(LENET), str(LENET)), ("config",)):
        result = run(*command)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"bnfold: {folder / 'bnfold.toml'} top level: Invalid value for '--seed'")
    result = run("verify", str(LENET), str(LENET), BNFOLD_SEED="x")
    assert (result.exit_code, "bnfold: BNFOLD_SEED: Invalid value" in result.stderr) == (2, True)
    assert "bnfold.toml" not in run("verify", str(LENET), str(LENET), "--seed", "x").stderr


def test_a_pyproject_whose_tools_are_no_table_is_named(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("tool = 3\n")
    result = run("config")
    assert (result.exit_code, "pyproject.toml: [tool] has to be a table" in result.stderr) == (2, True)


def test_keys_and_variables_are_called_as_the_flags_are(folder: Path) -> None:
    (folder / "bnfold.toml").write_text('[check]\nformat = "json"\nreport = ["check.md"]\nignore = "BNF003"\n')
    assert json.loads(run("check", str(LENET)).stdout)["ok"]
    assert (folder / "check.md").exists()
    assert run("check", str(LENET), BNFOLD_CHECK_FORMAT="text").stdout == "Nothing found, 1 file checked.\n"
    assert setting("check", "report", BNFOLD_REPORT="a.xml b.sarif") == (["a.xml", "b.sarif"], "BNFOLD_REPORT")


def test_unknown_variables_are_named() -> None:
    assert "BNFOLD_SED is set in the environment" in run("config", BNFOLD_SED="1", BNFOLD_DEBUG="1").stdout
    assert "BNFOLD_DEBUG" not in run("config", BNFOLD_DEBUG="1").stdout
