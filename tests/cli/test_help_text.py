"""The look of `--help`: headings, whole sentences, an example first for groups, too."""

from __future__ import annotations

import re

import pytest
import typer
from typer.testing import CliRunner

from xrecon.cli.app import COMMANDS, SECTIONS, build_app
from xrecon.cli.common import Shell, add_command, example
from xrecon.cli.help_text import HelpGroup, Section, command_group

GROUPS = ("", "train", "study", "models")


def help_of(*arguments: str) -> str:
    done = CliRunner().invoke(build_app(), [*arguments, "--help"])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_every_command_stands_under_exactly_one_heading() -> None:
    text = help_of()
    headings = [section.heading for section in SECTIONS]
    assert re.findall(r"^(\S[^:\n]*):$", text, re.MULTILINE) == ["Options", *headings]
    names = [name for section in SECTIONS for name in section.commands]
    assert len(names) == len(set(names))
    order = re.findall(r"^  ([a-z][a-z-]+)  +[A-Z]", text, re.MULTILINE)
    assert order == names == [name for name, _ in COMMANDS]


@pytest.mark.parametrize("group", GROUPS)
def test_no_sentence_is_cut(group: str) -> None:
    text = help_of(*group.split())
    assert "..." not in text.partition("\n")[2]
    entries = re.split(r"\n  (?=[a-z]+  +[A-Z])", text.partition("Show this message and exit.")[2])[1:]
    assert entries
    for entry in entries:
        assert re.split(r"\n\n|\n(?=\S)", entry)[0].rstrip().endswith("."), entry


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_shows_an_example_first(group: str) -> None:
    assert help_of(*group.split()).partition("\n\n")[2].startswith(f"  Example:\n    xrecon {group}".rstrip())


def test_a_command_without_a_heading_is_listed_last() -> None:
    class Sorted(HelpGroup):
        sections = (Section("First", ("b", "absent")), Section("Empty", ()))

    app = command_group("Two commands.", examples=("xrecon b",), cls=Sorted)

    def act(shell: Shell) -> None:
        """Do one thing."""

    for name in ("a", "b"):
        add_command(app, example(f"xrecon {name}")(act), name=name)
    assert isinstance(app, typer.Typer)
    text = CliRunner().invoke(app, ["--help"]).stdout
    assert "\nFirst:\n  b  Do one thing.\n\nCommands:\n  a  Do one thing.\n" in text
    assert "Empty" not in text


def test_lung_model_names_every_registered_method() -> None:
    from xrecon.ptxseg.hemithoraces.lung_models import names

    for command in ("segment", "prepare"):
        text = " ".join(help_of(command).split())
        sentence = text.partition("Method that finds the lungs: ")[2].partition(", or the folder")[0]
        assert sentence.split(", ") == list(names())
