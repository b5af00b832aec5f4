"""`bnfold`: the command group, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import errno
import gc
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any, NoReturn

import click

from bnfold import __version__
from bnfold.cli import console
from bnfold.cli.options import EXIT_CODES
from bnfold.cli.settings import DEBUG, options_of, origin_of, read_settings, variables
from bnfold.errors import BnfoldError, EnvironmentUnfit, InputError

_COMMANDS = (
    "export",
    "recalibrate",
    "optimize",
    "inspect",
    "verify",
    "accuracy",
    "check",
    "config",
    "run",
    "bench",
    "doctor",
    "ranges",
    "deploy",
    "explain",
)
_EXAMPLES = """\b
Examples:
  bnfold optimize resnet18.onnx    writes resnet18.folded.onnx
  bnfold inspect resnet18.onnx     what would fold, what would stay, and why
  bnfold verify a.onnx b.onnx      whether they compute the same
  bnfold explain BNF004            what a code means and what helps"""
_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_NO_READER = 141  # 128 + SIGPIPE


class Commands(click.Group):
    """Loads a command's file when it is asked for, and reports every failure in the same way."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which people need them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports `bnfold.cli.<cmd_name>`."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"bnfold.cli.{cmd_name}").command
        for name, option in options_of(command).items():
            option.envvar = variables(cmd_name, name)
        return command

    def commands_by_name(self) -> dict[str, click.Command]:
        """Every command, imported."""
        return {name: command for name in _COMMANDS if (command := self.get_command(click.Context(self), name))}

    def main(self, args: Sequence[str] | None = None, **_: Any) -> NoReturn:  # type: ignore[override]
        """Runs the command line `args`, `sys.argv` by default, and exits."""
        arguments = list(sys.argv[1:] if args is None else args)
        code = _guarded(lambda: self._run(arguments), wants_json=_wants_json(arguments))
        gc.freeze()  # the process ends: nothing is worth a last look for garbage, which takes long after a large model
        sys.exit(code)

    def _run(self, arguments: list[str]) -> int:
        settings = read_settings(self.commands_by_name)
        with self.make_context("bnfold", list(arguments), default_map=settings.values, obj=settings) as context:
            context.meta[console.COMMAND] = shlex.join(["bnfold", *arguments])
            return self.invoke(context) or 0


@click.group(cls=Commands, invoke_without_command=True, epilog=f"{_EXAMPLES}\n\n{EXIT_CODES}")
@click.version_option(__version__, prog_name="bnfold")
@click.pass_context
def cli(context: click.Context) -> None:
    """Folds batch normalization into the operators around it, proves that nothing changed, and says why about the rest."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(InputError.exit_code)


def main() -> NoReturn:
    """The entry point of `bnfold`, `python -m bnfold` and cli.py."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # being stopped leaves as little behind as Ctrl-C
    # numpy's BLAS has threads that spin for a while after each product, the first being one that numpy checks itself
    # with; asleep, they leave the cores to the folding (OpenBLAS, "Setting the number of threads at runtime").
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    cli.main()


def _guarded(run: Callable[[], int], *, wants_json: bool) -> int:
    """Runs a command and returns the exit code, whatever happens."""
    try:
        code = run()
        sys.stdout.flush()
        return code
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        return _failed(_misuse(error), InputError.exit_code, wants_json)
    except BnfoldError as error:
        return _failed(str(error), error.exit_code, wants_json)
    except (KeyboardInterrupt, click.Abort):
        return _failed("interrupted.", _INTERRUPTED, wants_json)
    except BrokenPipeError:
        _discard_stdout()
        return _NO_READER
    except MemoryError:
        return _failed("out of memory. Use a machine with more of it.", EnvironmentUnfit.exit_code, wants_json)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL and not error.filename:  # stdout alone has no file name
            _discard_stdout()
            return _failed(f"cannot print on stdout: {error.strerror}. Print somewhere else.", EnvironmentUnfit.exit_code, False)
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:  # wherever a path is first looked at
            return _failed(f"{error.filename}: the name is too long.", InputError.exit_code, wants_json)
        return _failed(_bug(error), BnfoldError.exit_code, wants_json)


def _wants_json(arguments: list[str]) -> bool:
    return "--json" in arguments or "--format=json" in arguments or ("--format", "json") in pairwise(arguments)


def _misuse(error: click.UsageError) -> str:
    hint = f" See `{error.ctx.command_path} --help`." if error.ctx else ""
    origin = ""
    if isinstance(error, click.BadParameter) and error.ctx is not None and error.param is not None:
        origin = origin_of(error.ctx, error.param)
    return f"{f'{origin}: ' if origin else ''}{error.format_message()}{hint}"


def _discard_stdout() -> None:
    # Python flushes stdout once more when it exits, and would print a traceback.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _bug(error: Exception) -> str:
    if os.environ.get(DEBUG):
        import traceback

        traceback.print_exception(error)
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"this is a bug in bnfold: {what}. Please report it; {DEBUG}=1 prints the traceback."


def _failed(message: str, exit_code: int, wants_json: bool) -> int:
    console.complain(message)
    if wants_json:
        from bnfold.report.report import error_document

        console.show_json(error_document(message, exit_code))
    return exit_code
