"""The page "What xrecon does with your file" names only messages that exist, and all messages of the readers."""

from __future__ import annotations

import re

from support.reader_messages import BEGIN, GAP, KINDS, PAGE, REPOSITORY, SOURCE, literals, messages


def quotes() -> list[str]:
    """What the tables quote in backticks in their second column: messages of at least two words."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").split(BEGIN)[0].splitlines() if line.startswith("| ")]
    cells = [re.split(r"(?<!\\)\|", row)[2] for row in rows]
    return [quote for cell in cells for quote in re.findall(r"`([^`]+)`", cell) if " " in quote.strip()]


def test_every_quoted_message_is_in_the_source() -> None:
    texts = [text for path in SOURCE.rglob("*.py") for text in literals(path)]
    assert len(quotes()) > 25
    for quote in quotes():
        parts = [part for part in quote.split(GAP) if part]
        assert any(all(part in text for part in parts) for text in texts), quote


def test_every_message_of_the_readers_is_listed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for kind in KINDS:
        assert f"### {kind}: messages" in page
        listed = [text for text in messages(kind) if f"- `{text}`" not in page]
        assert not listed, f"run python tests/support/reader_messages.py; not listed: {listed[:3]}"


def test_the_page_is_linked() -> None:
    for place in ("README.md", "docs/your-own-data.md"):
        assert "your-files.md" in (REPOSITORY / place).read_text(encoding="utf-8"), place
