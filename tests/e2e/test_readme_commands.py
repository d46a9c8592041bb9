"""Every command of the README runs as printed, in the order of the page, in one scratch folder.

A fenced `bash` block is left out only when the line before it says why: `<!-- not run in CI: reason -->`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
README = REPOSITORY / "README.md"
FENCE = re.compile(
    r"^(?:<!-- not run in CI: (?P<reason>[^\n]+?) -->\n)?```bash\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
BLOCK_SECONDS = 240
"""A block that takes longer has no place in a tour of five minutes."""


@dataclass(frozen=True)
class Block:
    """One fenced block: its first line in the page, its text, and why it is not run (None: it is run)."""

    line: int
    code: str
    reason: str | None


def blocks_of(text: str) -> list[Block]:
    blocks = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("code")) + 1
        blocks.append(Block(line, match["code"], match["reason"]))
    return blocks


BLOCKS = blocks_of(README.read_text(encoding="utf-8"))
TO_RUN = [block for block in BLOCKS if block.reason is None]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme tour")


@pytest.mark.skipif(sys.platform == "win32", reason="the README's blocks are for a POSIX shell")
@pytest.mark.parametrize("block", TO_RUN, ids=lambda block: f"line-{block.line}")
def test_readme_block_runs(block: Block, scratch: Path) -> None:
    # The installed `xrecon` of this interpreter, as a user with an activated environment has it.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.code],
        cwd=scratch,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=BLOCK_SECONDS,
    )
    shown = f"README.md line {block.line}:\n{block.code}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
    assert done.returncode == 0, shown
    assert "Traceback" not in done.stderr, shown


def test_the_page_has_blocks_and_every_fence_is_seen() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(TO_RUN) >= 3
    assert len(BLOCKS) == len(re.findall(r"^```bash", text, re.MULTILINE))
    assert len(re.findall(r"^```(?:sh|shell|console)\b", text, re.MULTILINE)) == 0, "commands stand in ```bash blocks"


def test_only_blocks_that_set_up_the_machine_are_left_out() -> None:
    for block in BLOCKS:
        if block.reason is not None:
            commands = [line.split("#")[0].strip() for line in block.code.splitlines()]
            allowed = re.compile(r"(make|git clone|cd|pip install|python3? -m venv|\.|source)\b.*|")
            assert all(allowed.fullmatch(command) for command in commands), f"line {block.line}: {block.code}"


def test_left_out_make_targets_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for block in BLOCKS:
        for target in re.findall(r"^make ([a-z-]+)", block.code, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target} is not in the Makefile"


def test_the_reader_of_blocks_itself() -> None:
    text = "a\n```bash\nxrecon doctor\n```\n<!-- not run in CI: long -->\n```bash\nmake demo\n```\n```python\n1\n```\n"
    assert blocks_of(text) == [Block(3, "xrecon doctor\n", None), Block(7, "make demo\n", "long")]
