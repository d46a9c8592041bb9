"""The `xrecon` program: its table of commands and its entry point."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated

import typer

from xrecon import __version__
from xrecon.cli.common import DebugOption, JsonOption, QuietOption, add_command
from xrecon.cli.help_text import HelpGroup, Section, command_group

SECTIONS = (
    Section("Use", ("reconstruct", "films", "segment", "demo")),
    Section("Prepare data", ("prepare", "prepare-films", "augment", "convert", "pull", "simulate", "phantom", "plant")),
    Section("Train", ("train", "models")),
    Section("Evaluate", ("evaluate", "study")),
    Section("Tools", ("doctor",)),
)
"""The commands under the headings of `xrecon --help`. Command `name` is the module `xrecon.cli.name`: it holds a
function of that name decorated with `common.example`, or, for a group of commands (`xrecon train priors`), a
`typer.Typer` called `app`."""

COMMANDS = tuple((name, f"xrecon.cli.{name.replace('-', '_')}") for section in SECTIONS for name in section.commands)
"""Name on the command line, and its module."""


class RootGroup(HelpGroup):
    """The list of all commands."""

    sections = SECTIONS


def _show_version(asked_for: bool) -> None:
    if asked_for:
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
    """Options that stand before the command; every command reads them (`common.Shell`)."""


def build_app() -> typer.Typer:
    """The program with all its commands. Command modules are light, so this takes milliseconds and loads no torch."""
    app = command_group(
        "Two chest radiographs, PA and lateral, to a 3D chest CT; find and measure a pneumothorax in it.\n\n"
        "SYNTHETIC / RESEARCH ONLY / NOT FOR DIAGNOSIS. Start with `xrecon doctor` and `xrecon COMMAND --help`.",
        examples=(
            "xrecon demo",
            "xrecon reconstruct --pa pa.tiff --lateral lateral.tiff -o out",
            "xrecon segment ct.nii.gz -o out",
        ),
        cls=RootGroup,
    )
    app.callback(help=app.info.help)(_root)
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
