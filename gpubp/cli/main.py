"""The entry of the command: its list of commands, and the one place where errors become messages.

A command's module is imported when the command is run, so that ``gpubp --help`` is quick.
"""

from __future__ import annotations

import errno
import signal
import sys
import traceback
import warnings
from collections.abc import Iterable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import click

from gpubp.cli import streams
from gpubp.cli.advice import in_options
from gpubp.errors import GpubpError, InputError, unknown_name
from gpubp.interrupts import Terminated, stoppable

COMMANDS = {
    "train": "Train a network on a bundled data set, an .npz or a CSV file.",
    "predict": "Write a model's predictions for the rows of a file.",
    "evaluate": "Compare a model's predictions with the truth.",
    "explain": "Print what a training step of a model computes, call by call.",
    "bench": "Time training on the devices here, and beside other libraries.",
    "devices": "Show what hardware and libraries are here, and what is used.",
}

FAILED, WRONG_USE, TERMINATED = 1, 2, 128 + signal.SIGTERM


class Group(click.Group):
    """The commands, imported on use, behind the error boundary."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"gpubp.cli.{cmd_name}").command
        if _DEBUG not in command.params:
            command.params.append(_DEBUG)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments begin with."""
        if args[0] not in COMMANDS:
            ctx.fail(str(unknown_name("command", args[0], COMMANDS)))
        name, command, rest = super().resolve_command(ctx, args)
        ctx.obj.parameters = () if command is None else tuple(command.params)
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command line; end the process with its exit code."""
        streams.open_closed()
        state = SimpleNamespace(debug=False, parameters=())
        kwargs |= {"standalone_mode": False, "obj": state, "prog_name": "gpubp"}
        with warnings.catch_warnings(), stoppable() as raised:
            warnings.showwarning = _show_warning
            try:
                code = super().main(*args, **kwargs) or 0
            except (Exception, KeyboardInterrupt) as error:
                if state.debug:
                    traceback.print_exc()
                lost = raised and not isinstance(error, click.Abort)
                code = _report(raised[-1] if lost else error, state.parameters)
        sys.exit(code)


def _remember_debug(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    ctx.obj.debug = value


_DEBUG = click.Option(
    ["--debug"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_remember_debug,
    help="Show the traceback of an error.",
)


def _report(error: BaseException, parameters: Iterable[click.Parameter]) -> int:
    """Write an error to the standard error stream in a line or two; return the exit code.

    ``parameters`` are those of the command, which the advice is given in.
    """
    match error:
        case click.UsageError():
            where = error.ctx.command_path if error.ctx else "gpubp"
            click.echo(f"{where}: {error.format_message()}", err=True)
            click.echo(f"'{where} --help' explains", err=True)
            return WRONG_USE
        case click.Abort() | KeyboardInterrupt():  # click makes the one of the other
            ended = isinstance(error.__cause__ or error, Terminated)
            said = str(error) or ("terminated" if ended else "interrupted")
            click.echo(f"gpubp: {said}", err=True)
            return TERMINATED if ended else FAILED
        case GpubpError():
            click.echo(f"gpubp: {in_options(str(error), parameters)}", err=True)
            return WRONG_USE if isinstance(error, InputError) else FAILED
        case OSError(errno=errno.ENOSPC | errno.EIO | errno.EBADF | errno.EAGAIN, filename=None):
            click.echo(f"gpubp: its output can't be written: {error.strerror}", err=True)
        case MemoryError():
            click.echo(f"gpubp: the machine has too little memory: {error}", err=True)
        case _:
            said = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            click.echo(f"gpubp: {said} (not foreseen; --debug shows where it came from)", err=True)
    return FAILED


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    click.echo(f"gpubp: warning: {message}", err=True)


@click.group(
    cls=Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="gpubp")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Train neural networks by backpropagation, on NVIDIA GPUs and on CPUs.

    \b
    Examples:
      gpubp train
      gpubp train houses.csv --target price --epochs 100
      gpubp predict gpubp-run new-houses.csv --out predictions.csv

    \b
    Exit codes: 0, all went well; 1, it failed, or Ctrl-C stopped it; 2, wrong
    use: arguments or data that can't be used; 143, SIGTERM stopped it.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
    elif ctx.invoked_subcommand != "devices":
        streams.check_folder()
