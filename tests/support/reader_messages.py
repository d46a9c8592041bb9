"""Every message of the readers, out of their source text, as the lists at the end of docs/your-files.md.

python tests/support/reader_messages.py    # writes the lists into the page again, after a message has changed
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SOURCE = REPOSITORY / "src" / "xrecon"
PAGE = REPOSITORY / "docs" / "your-files.md"
BEGIN, END = "<!-- messages: begin -->", "<!-- messages: end -->"
GAP = "…"
"""Stands for what a message fills in."""
KINDS: dict[str, tuple[str, ...]] = {
    "Any file": ("io/formats.py", "io/guards/files.py", "io/guards/kinds.py", "io/guards/archives.py"),
    "Size, grid and values": (
        "io/guards/arrays.py", "io/guards/grids.py", "io/guards/hounsfield.py", "io/guards/wrapped.py",
        "io/guards/border_fill.py", "io/guards/lost_planes.py", "io/guards/nan_padding.py",
        "io/slice_grid.py", "io/source_grid.py",
    ),
    "DICOM CT": ("io/dicom",),
    "NIfTI": ("io/nifti.py", "io/nifti_place.py"),
    "MHA, MHD and NRRD": ("io/itk.py",),
    "Films": ("io/image.py", "io/film_file.py", "io/film_geometry.py", "io/dicom/film.py",
        "io/dicom/film_luts.py", "radiograph.py"),
    "What films show": ("inference/film_check.py",),
    "The chest itself": ("anatomy/orientation.py", "preparation/checks.py", "preparation/dicom_index.py"),
}  # fmt: skip
_SHORTEST = 12


def template(node: ast.expr) -> str | None:
    """The text of a literal with gaps for what is filled in; None if it is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else GAP for part in node.values)
    return None


def literals(path: Path) -> Iterator[str]:
    """Every string of a module but its documentation."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for child in ast.iter_child_nodes(node):
            if isinstance(node, (ast.Expr, ast.JoinedStr, ast.FormattedValue)):
                continue
            text = template(child) if isinstance(child, ast.expr) else None
            if text:
                yield text


def modules(kind: str) -> list[Path]:
    """The source files of a kind; a file that is named for another kind is not taken with its folder."""
    named = {SOURCE / place for places in KINDS.values() for place in places if place.endswith(".py")}
    files: list[Path] = []
    for place in KINDS[kind]:
        path = SOURCE / place
        files += [path] if path.suffix else sorted(file for file in path.glob("*.py") if file not in named)
    return [file for file in files if file.exists()]


def messages(kind: str) -> list[str]:
    """Sentences for users: literals with spaces, without the place that each message begins with."""
    out: dict[str, None] = {}
    for path in modules(kind):
        for text in literals(path):
            words = re.sub(rf"^[{GAP}\s,]*: ", "", text).strip()
            words = re.sub(rf"({GAP}\s*)+$", GAP, words).replace("`", "'").replace("|", "/")
            if len(words) >= _SHORTEST and words.count(" ") >= 2 and not words.startswith(GAP + " ("):
                out[words] = None
    return list(out)


def lists() -> str:
    """The lists of all messages, by kind."""
    parts = []
    for kind in KINDS:
        parts.append(f"### {kind}: messages\n")
        parts += [f"- `{message}`" for message in messages(kind)]
        parts.append("")
    return "\n".join(parts)


def written(page: str) -> str:
    """The page with its lists as the source has them now."""
    head, rest = page.split(BEGIN)
    return f"{head}{BEGIN}\n\n{lists()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
