"""How `--help` looks: an example first, whole sentences, and the commands under headings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperGroup

HELP_NAMES = ("-h", "--help")


@dataclass(frozen=True)
class Section:
    """Commands that stand under one heading of `--help`."""

    heading: str
    commands: tuple[str, ...]


class HelpGroup(TyperGroup):
    """A group of commands whose `--help` lists them under headings and cuts no sentence."""

    sections: tuple[Section, ...] = ()
    """Headings in order; a command that stands under none comes last, under "Commands"."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 (the base class decides the signature)
        """Write one list per heading; all lists share the width of the first column."""
        visible = {name: command for name, command in self.commands.items() if not command.hidden}
        listed = {name for section in self.sections for name in section.commands}
        rest = Section("Commands", tuple(name for name in visible if name not in listed))
        width = max(map(len, visible), default=0)
        for section in (*self.sections, rest):
            names = [name for name in section.commands if name in visible]
            if names:
                with formatter.section(section.heading):
                    formatter.write_dl([(f"{name:<{width}}", summary_of(visible[name])) for name in names])


def summary_of(command: Any) -> str:
    """The whole first paragraph of what a command does, on one line."""
    return str(command.short_help or "").strip()


def with_examples(lines: Sequence[str], text: str) -> str:
    """Help text that opens with command lines which are not wrapped."""
    examples = "\n".join(f"  {line}" for line in lines)
    return f"\b\nExample:\n{examples}\n\n{text.strip()}"


def command_group(text: str, *, examples: Sequence[str], cls: type[HelpGroup] = HelpGroup) -> typer.Typer:
    """A group of commands such as `xrecon models`; its first paragraph is its line in the list of commands.

    Args:
        text: what the group is for, in whole sentences.
        examples: command lines that open its `--help`.
        cls: the class of the group.
    """
    return typer.Typer(
        cls=cls,
        help=with_examples(examples, text),
        short_help=text.partition("\n\n")[0].replace("\n", " "),
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,  # plain help: copyable examples, and rich stays unloaded
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": list(HELP_NAMES)},
    )
