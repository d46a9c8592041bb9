"""The frame of the command line: speed, help, options that work everywhere, errors and exit codes."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import xrecon
from xrecon.cli.app import COMMANDS, _root, build_app
from xrecon.cli.common import OverwriteOption, Shell, add_command, describe_error, example
from xrecon.errors import InputError, MissingPartError


def run_xrecon(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "xrecon", *arguments], capture_output=True, text=True, cwd=cwd)


@example("xrecon act --kind fine")
def act(
    shell: Shell,
    kind: Annotated[str, typer.Option("--kind", help="What happens.")] = "fine",
    overwrite: OverwriteOption = False,
) -> Mapping[str, Any]:
    """Do one thing.

    More about it.

    Args:
        kind: not for the help.
    """
    shell.note("a note")
    with shell.progress("working", total=2) as advance:
        advance(2)
    if kind == "bad input":
        raise InputError("film.png: expected PA")
    if kind == "missing part":
        raise MissingPartError("SimpleITK is not installed")
    if kind == "interrupt":
        raise KeyboardInterrupt
    if kind == "defect":
        raise ZeroDivisionError("division by zero")
    if kind == "disk full":
        raise OSError(errno.ENOSPC, "No space left on device", "out/ct.nii.gz")
    if kind == "warning":
        warnings.warn("the film has no pixel spacing", UserWarning, stacklevel=1)
    shell.print("done")
    shell.table(["a [mm]"], [["[bold]1"]])
    return {"kind": kind, "ratio": np.float32(0.5), "overwrite": overwrite}


@pytest.fixture(scope="module")
def program() -> typer.Typer:
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.callback()(_root)
    add_command(app, act, name="act")
    return app


def invoke(program: typer.Typer, *arguments: str) -> Any:
    return CliRunner().invoke(program, list(arguments))


def test_help_takes_less_than_a_second() -> None:
    run_xrecon("--help")  # compiles the modules
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        done = run_xrecon("--help")
        seconds.append(time.perf_counter() - started)
        assert done.returncode == 0
    assert min(seconds) < 1.0


def test_building_the_program_loads_nothing_heavy() -> None:
    code = (
        "import sys; from xrecon.cli.app import build_app; build_app();"
        "print([m for m in ('torch', 'numpy', 'scipy', 'nibabel', 'pydicom', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_lists_every_command_and_the_notice() -> None:
    done = run_xrecon("--help")
    assert "NOT FOR DIAGNOSIS" in done.stdout
    for name, _ in COMMANDS:
        assert f"\n  {name} " in done.stdout


def test_version_and_usage_errors() -> None:
    assert run_xrecon("--version").stdout == f"xrecon {xrecon.__version__}\n"
    unknown = run_xrecon("no-such-command")
    assert unknown.returncode == 2
    assert "no-such-command" in unknown.stderr
    assert "Traceback" not in unknown.stderr


def test_every_command_shows_an_example_first() -> None:
    app = build_app()
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    for name, _ in COMMANDS:
        commands = [[name]]
        if name in groups:
            commands = [[name, str(command.name)] for command in groups[name].registered_commands]
        for command in commands:
            text = CliRunner().invoke(app, [*command, "--help"]).stdout
            body = text.partition("\n\n")[2].lstrip()
            assert body.startswith(f"Example:\n    xrecon {' '.join(command)}"), text


def test_help_of_a_command_shows_text_but_not_the_argument_section(program: typer.Typer) -> None:
    text = invoke(program, "act", "--help").stdout
    assert "More about it." in text
    assert "not for the help" not in text
    for option in ("--kind", "--overwrite", "--debug", "--quiet", "--json"):
        assert option in text


def test_results_on_stdout_notes_on_stderr(program: typer.Typer) -> None:
    done = invoke(program, "act")
    assert done.exit_code == 0
    assert done.stdout.startswith("done\n")
    assert "a [mm]" in done.stdout
    assert "[bold]1" in done.stdout
    assert done.stderr == "a note\n"


@pytest.mark.parametrize("arguments", [("act", "--json", "--overwrite"), ("--json", "act", "--overwrite")])
def test_json_before_and_after_the_command(program: typer.Typer, arguments: tuple[str, ...]) -> None:
    done = invoke(program, *arguments)
    assert json.loads(done.stdout) == {"kind": "fine", "ratio": 0.5, "overwrite": True}


@pytest.mark.parametrize("arguments", [("act", "--quiet"), ("--quiet", "act")])
def test_quiet_before_and_after_the_command(program: typer.Typer, arguments: tuple[str, ...]) -> None:
    done = invoke(program, *arguments)
    assert done.stderr == ""
    assert done.stdout.startswith("done\n")


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("bad input", 2, "error: film.png: expected PA\n"),
        ("missing part", 1, "error: SimpleITK is not installed\n"),
        ("interrupt", 130, "interrupted\n"),
        ("defect", 1, "error: unexpected ZeroDivisionError: division by zero (run again with --debug"),
        ("disk full", 1, "error: no space left on the disk while writing out/ct.nii.gz"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(program: typer.Typer, kind: str, code: int, message: str) -> None:
    done = invoke(program, "act", "--quiet", "--kind", kind)
    assert done.exit_code == code
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [("--debug", "act"), ("act", "--debug")])
def test_debug_shows_the_traceback_and_keeps_the_code(program: typer.Typer, arguments: tuple[str, ...]) -> None:
    done = invoke(program, *arguments, "--kind", "bad input")
    assert done.exit_code == 2
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("error: film.png: expected PA\n")


@pytest.mark.filterwarnings("default")
def test_a_python_warning_is_one_line(program: typer.Typer) -> None:
    done = invoke(program, "act", "--quiet", "--kind", "warning")
    assert done.stderr == "warning: the film has no pixel spacing\n"


def test_a_command_must_take_the_shell_and_show_an_example() -> None:
    def without_shell(size: int = 3) -> None:
        """Nothing."""

    with pytest.raises(TypeError, match="needs @example"):
        add_command(typer.Typer(), without_shell, name="x")
    with pytest.raises(TypeError, match="first parameter"):
        add_command(typer.Typer(), example("xrecon x")(without_shell), name="x")


def test_other_operating_system_errors_and_memory() -> None:
    assert describe_error(PermissionError(errno.EACCES, "Permission denied", "out")) == ("out: Permission denied", 1)
    message, code = describe_error(MemoryError())
    assert "not enough memory" in message
    assert code == 1


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_control_c_during_a_real_run_exits_130() -> None:
    code = (
        "import os, signal, xrecon.cli.app as a\n"
        # A shell starts background jobs with SIGINT ignored, and children inherit that.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def build(): os.kill(os.getpid(), signal.SIGINT)\n"
        "a.build_app = build; a.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr == "interrupted\n"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
def test_a_closed_pipe_is_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "xrecon", "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 1
    assert errors == ""
