"""What every HTML page of this package needs: its template, tables, figures inside it, and a safe way to the disk."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from xrecon import __version__
from xrecon.errors import InputError
from xrecon.io.output.atomic import write_text_atomic
from xrecon.report.parts.figures import png_metadata
from xrecon.report.parts.panels import DPI
from xrecon.volume import RESEARCH_NOTICE


@dataclass(frozen=True)
class PageTable:
    """A table as text: `head` [columns] and rows of `body` [columns]; the first column is the heading of its row."""

    head: Sequence[str]
    body: Sequence[Sequence[str]]


def render_template(name: str, *, title: str, created: datetime | None, **values: Any) -> str:
    """A page from one of the templates of this package, as HTML text; all values are escaped.

    Args:
        name: file of the template.
        title: heading of the page.
        created: time of the page; None is now.
        values: what the template shows; one that it names and does not get is an error.
    """
    from jinja2 import Environment, StrictUndefined

    engine = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = (resources.files("xrecon.report") / "templates" / name).read_text(encoding="utf-8")
    return engine.from_string(template).render(
        title=title,
        notice=RESEARCH_NOTICE,
        created=(created or datetime.now(timezone.utc)).strftime("%Y-%m-%d %H:%M UTC"),
        xrecon_version=__version__,
        **values,
    )


def write_report(path: Path, html: str, *, overwrite: bool = False) -> Path:
    """Write the page as UTF-8, atomically.

    Raises:
        InputError: the name does not end in .html, or the folder cannot be written.
        OutputExistsError: the file exists and `overwrite` is False.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{path}: a report is an HTML page; choose a name that ends in .html")
    return write_text_atomic(path, html, overwrite=overwrite)


def data_uri(figure: Figure | bytes) -> str:
    """A figure, or the bytes of a PNG file, inside a data URI, for pages without other files."""
    if isinstance(figure, Figure):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, facecolor="auto", metadata=png_metadata())
        figure = buffer.getvalue()
    return "data:image/png;base64," + base64.b64encode(figure).decode("ascii")


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested mappings as lines (dotted name, text); None is left out."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{name}.")
        elif isinstance(value, (list, tuple)):
            yield name, ", ".join(map(_plain, value))
        elif value is not None:
            yield name, _plain(value)


def _plain(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) and math.isfinite(value) else str(value)
