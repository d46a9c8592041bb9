"""The `xrecon` program: its table of commands and its entry point."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated

import typer

from xrecon import __version__
from xrecon.cli.common import DebugOption, JsonOption, QuietOption, add_command

COMMANDS = (
    ("doctor", "xrecon.cli.doctor"),
    ("phantom", "xrecon.cli.phantom"),
    ("simulate", "xrecon.cli.simulate"),
    ("plant", "xrecon.cli.plant"),
    ("prepare", "xrecon.cli.prepare"),
    ("augment", "xrecon.cli.augment"),
    ("convert", "xrecon.cli.convert"),
    ("pull", "xrecon.cli.pull"),
    ("reconstruct", "xrecon.cli.reconstruct"),
    ("segment", "xrecon.cli.segment"),
    ("demo", "xrecon.cli.demo"),
    ("evaluate", "xrecon.cli.evaluate"),
    ("study", "xrecon.cli.study"),
    ("train", "xrecon.cli.train"),
    ("models", "xrecon.cli.models"),
)
"""Name on the command line and its module. The module holds a function of that name (`-` becomes `_`) decorated with
`common.example`, or, for a group of commands (`xrecon train priors`), a `typer.Typer` called `app`."""


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"xrecon {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: DebugOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Two chest radiographs, PA and lateral, to a 3D chest CT.

    SYNTHETIC / RESEARCH ONLY / NOT FOR DIAGNOSIS. Start with `xrecon doctor` and `xrecon COMMAND --help`.
    """


def build_app() -> typer.Typer:
    """The program with all its commands. Command modules are light, so this takes milliseconds and loads no torch."""
    app = typer.Typer(
        name="xrecon",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,  # plain help: copyable examples, and rich stays unloaded
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name, module_name in COMMANDS:
        module = importlib.import_module(module_name)
        group = getattr(module, "app", None)
        if isinstance(group, typer.Typer):
            app.add_typer(group, name=name)
        else:
            add_command(app, getattr(module, name.replace("-", "_")), name=name)
    return app


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 failure, 2 bad input or usage, 130 interrupted."""
    try:
        build_app()()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
