"""What every command shares: the options that work everywhere, results and progress, errors and exit codes."""

from __future__ import annotations

import dataclasses
import errno
import functools
import inspect
import logging
import os
import sys
import traceback
import typing
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import typer

from xrecon.cli.help_text import with_examples
from xrecon.errors import XReconError
from xrecon.json_text import json_text

DISK_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""Numbers of the operating system's errors for a full disk and a full quota."""

DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error and detailed logs.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress and no notes; results and errors only.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist already.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random choice.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one setting; may be repeated.")
]

Result = Mapping[str, Any] | None
CommandT = TypeVar("CommandT", bound=Callable[..., Result])


@dataclasses.dataclass(frozen=True)
class Shell:
    """How this run talks: results go to standard output, everything else to standard error."""

    debug: bool = False
    quiet: bool = False
    json: bool = False

    def print(self, text: str = "") -> None:
        """One line of the result for people; silent under `--json`, where the returned mapping is printed instead."""
        if not self.json:
            print(text)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
        """A table of the result for people; silent under `--json`."""
        if self.json:
            return
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=title, title_justify="left", *(escape(name) for name in columns))  # noqa: B026
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        # A pipe has no width: do not squeeze the table to the 80 columns that rich assumes.
        Console(width=None if sys.stdout.isatty() else 140).print(table)

    def note(self, text: str) -> None:
        """A remark on standard error; silent under `--quiet`."""
        if not self.quiet:
            print(text, file=sys.stderr)

    def file_notes(self, path: os.PathLike[str], notes: Iterable[str]) -> None:
        """What a reader says of a file, on standard error; silent under `--quiet`."""
        for text in notes:
            self.note(f"note: {os.fspath(path)}: {text}")

    @contextmanager
    def progress(self, description: str, *, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """A bar on standard error (only on a terminal); yields `advance(steps)`. `total=None` shows a pulse."""
        if self.quiet or not sys.stderr.isatty():
            yield lambda _steps: None
            return
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(description, total=total)
            yield lambda steps: bar.advance(task, steps)

    @contextmanager
    def steps(self, description: str, *, total: int) -> Iterator[Callable[[str], None]]:
        """A bar that moves on with each line of text; yields `tell(text)`, which also notes the text."""
        with self.progress(description, total=total) as advance:

            def tell(text: str) -> None:
                advance(1)
                self.note(text)

            yield tell


def example(*lines: str) -> Callable[[CommandT], CommandT]:
    """Decorator: the command lines that open the command's `--help`."""

    def mark(function: CommandT) -> CommandT:
        function.xrecon_example = lines  # type: ignore[attr-defined]
        return function

    return mark


def add_command(app: typer.Typer, function: Callable[..., Result], *, name: str) -> None:
    """Register `function` as command `name`.

    Its first parameter is `shell: Shell`; the others are Typer parameters (`Annotated[...]`). It returns a mapping of
    JSON-ready results or None. `--debug`, `--quiet` and `--json` are added here and count wherever they stand.
    """
    lines: tuple[str, ...] = getattr(function, "xrecon_example", ())
    if not lines:
        raise TypeError(f"{function.__module__}.{function.__name__} needs @example('xrecon {name} ...')")
    text = inspect.getdoc(function) or ""
    for section in ("\nArgs:", "\nReturns:", "\nRaises:"):
        text = text.partition(section)[0]
    summary = text.partition("\n\n")[0].replace("\n", " ")
    app.command(name, help=with_examples(lines, text), short_help=summary)(_with_shell(function))


def _with_shell(function: Callable[..., Result]) -> Callable[..., None]:
    """`function` without `shell` in its signature and with the options of every command after its own."""
    hints = typing.get_type_hints(function, include_extras=True)
    first, *rest = inspect.signature(function).parameters.values()
    if hints.get(first.name) is not Shell:
        raise TypeError(f"the first parameter of {function.__module__}.{function.__name__} must be `shell: Shell`")

    def keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)

    @functools.wraps(function)
    def run(*, context: typer.Context, debug: bool, quiet: bool, json: bool, **arguments: Any) -> None:
        root = context.find_root().params
        shell = Shell(debug=debug or root["debug"], quiet=quiet or root["quiet"], json=json or root["json"])
        with _channels(shell), _errors_to_exit_codes(shell):
            result = function(shell, **arguments)
            if shell.json:
                print(json_text(result))
            sys.stdout.flush()

    parameters = [
        keyword("context", typer.Context, inspect.Parameter.empty),
        *(parameter.replace(annotation=hints[parameter.name], kind=parameter.KEYWORD_ONLY) for parameter in rest),
        keyword("debug", DebugOption, False),
        keyword("quiet", QuietOption, False),
        keyword("json", JsonOption, False),
    ]
    del run.__wrapped__  # or inspect would look through to the signature that still has `shell`
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


@contextmanager
def _channels(shell: Shell) -> Iterator[None]:
    """Logs and Python warnings as single lines on standard error, for the time of one command."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger = logging.getLogger("xrecon")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if shell.debug else logging.ERROR if shell.quiet else logging.WARNING)

    def show(message: Warning | str, *_place: Any, **_more: Any) -> None:
        print(f"warning: {message}", file=sys.stderr)

    try:
        with warnings.catch_warnings():
            if not shell.debug:
                warnings.showwarning = show
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@contextmanager
def _errors_to_exit_codes(shell: Shell) -> Iterator[None]:
    """One `error:` line on standard error and the exit code; the traceback only under `--debug`."""
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise typer.Exit(130) from None
    except BrokenPipeError:
        # The reader (`| head`) has gone. Point stdout at nothing, or Python complains again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except Exception as error:
        if shell.debug:
            traceback.print_exc()
        message, code = describe_error(error)
        print(f"error: {message}", file=sys.stderr)
        raise typer.Exit(code) from None


def describe_error(error: Exception) -> tuple[str, int]:
    """What to tell the user about an exception, and the exit code."""
    if isinstance(error, XReconError):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        place = f" while writing {error.filename}" if error.filename else ""
        return f"no space left on the disk{place}; free some space or choose another output folder", 1
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror, 1
    if isinstance(error, MemoryError):
        return "not enough memory; use a smaller --size or close other programs", 1
    detail = " ".join(str(error).split())
    hint = "run again with --debug for the traceback"
    return f"unexpected {type(error).__name__}{': ' if detail else ''}{detail} ({hint})", 1
