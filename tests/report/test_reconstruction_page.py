"""The report page: self-contained, escaped, marked, complete with and without a truth."""

from __future__ import annotations

import base64
import io
import re
from datetime import datetime, timezone
from pathlib import Path

import pytest
from PIL import Image

from support.html_page import Page
from xrecon.errors import InputError, OutputExistsError
from xrecon.evaluation.metrics.image import IMAGE_METRICS, image_metrics
from xrecon.evaluation.tables import PerCase
from xrecon.geometry import ConeBeam
from xrecon.report.parts.page import write_report
from xrecon.report.reconstruction import geometry_in_words, render_report
from xrecon.volume import RESEARCH_NOTICE

HOSTILE = '<script>alert("x")</script><img src=https://evil.example/a.png>'


@pytest.fixture(scope="module")
def full_report(make_reconstruction, truth) -> str:
    reconstruction = make_reconstruction(spread=True)
    metrics = image_metrics(true=truth, estimate=reconstruction.volume, body=truth.hu > -500)
    rows = [PerCase(c, m, metrics.to_dict(), 1.0) for c in ("one", "two") for m in ("pca", "atlas")]
    return render_report(
        title="Demo",
        reconstruction=reconstruction,
        truth=truth,
        metrics={"pca": metrics, "atlas": metrics},
        rows=rows,
        credit="Sample data, see https://data.example/licence",
        environment={"python": "3.11", "packages": {"torch": "2.13.0", "absent": None}},
        runtime={"simulate": 1.25, "reconstruct": 2.5},
        peak_memory_mib=1536.0,
        notes=["monochromatic films"],
        created=datetime(2030, 1, 2, 3, 4, tzinfo=timezone.utc),
    )


def test_nothing_is_fetched_from_anywhere(full_report: str) -> None:
    page = Page(full_report)
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#")), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert not page.attributes("script")
    assert not re.search(r"url\(|@import", full_report)
    policy = [a["content"] for a in page.attributes("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy and policy[0].startswith("default-src 'none'")


def test_notice_stands_first_and_last(full_report: str) -> None:
    text = Page(full_report).text
    assert text.count(RESEARCH_NOTICE) >= 2
    body = text.removeprefix("Demo ")
    assert body.startswith(RESEARCH_NOTICE)
    assert body.endswith(RESEARCH_NOTICE)


def test_images_are_embedded_pngs_with_alternative_text(full_report: str) -> None:
    images = Page(full_report).attributes("img")
    assert len(images) == 3
    for attributes in images:
        assert len(attributes["alt"] or "") > 20
        kind, _, data = (attributes["src"] or "").partition(",")
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert image.format == "PNG"
            assert image.text["Description"] == RESEARCH_NOTICE


def test_contents_are_complete(full_report: str) -> None:
    text = Page(full_report).text
    for words in (
        *(metric.convention for metric in IMAGE_METRICS),
        "1.2.3", "ab" * 32, "options.ridge", "0.125", "seed",
        "41.0 %", "12.3 %",
        "focal spot to isocentre 1540 mm", "left lateral",
        "1.25 s", "2.50 s", "3.8 s", "1,536 MiB", "1.50 GiB",
        "packages.torch", "2.13.0", "monochromatic films", "table removed", "PA film: no spacing in the file",
        "Sample data, see https://data.example/licence", "2030-01-02 03:04 UTC",
        "800 pixels for 7,680 voxels", "Both films see 87.5 % of the volume, one film 6.2 %, none 6.2 %",
        "Every case", "atlas", "How to read this",
    ):  # fmt: skip
        assert words in text, words
    assert "absent" not in text


def test_works_without_truth_and_promises_no_error(make_reconstruction) -> None:
    page = Page(render_report(title="My films", reconstruction=make_reconstruction()))
    assert "No true CT is known" in page.text
    assert "Metrics against the true CT" not in page.text
    assert "PSNR" not in page.text
    assert "2.50 s" in page.text
    assert "python" in page.text
    assert len(page.attributes("img")) == 3


def test_hostile_text_is_escaped_everywhere(make_reconstruction, truth) -> None:
    reconstruction = make_reconstruction(model=HOSTILE)
    metrics = image_metrics(true=truth, estimate=reconstruction.volume)
    html = render_report(
        title=HOSTILE,
        reconstruction=reconstruction,
        truth=truth,
        metrics=metrics,
        rows=[PerCase(HOSTILE, HOSTILE, {HOSTILE: 1.0}, 1.0), PerCase("b", "c", {}, 1.0)],
        credit=HOSTILE,
        environment={HOSTILE: HOSTILE},
        runtime={HOSTILE: 1.0},
        notes=[HOSTILE],
    )
    page = Page(html)
    assert not page.attributes("script")
    assert all((a["src"] or "").startswith("data:") for a in page.attributes("img"))
    assert page.text.count(HOSTILE) >= 8


def test_a_truth_on_another_grid_is_refused(make_reconstruction, truth) -> None:
    other = truth.resampled((8, 10, 12), truth.spacing_mm)
    with pytest.raises(InputError, match="resample"):
        render_report(title="x", reconstruction=make_reconstruction(), truth=other)


def test_geometry_in_words_names_the_pose(make_reconstruction) -> None:
    film = make_reconstruction().films[0]
    assert "back to front (PA)" in geometry_in_words(film)
    assert "No tilt, roll or displacement" in geometry_in_words(film)
    moved = film.geometry.moved(angle_deg=12.5, tilt_deg=-3.0, translation_mm=(5.0, 0.0, -2.0))
    words = geometry_in_words(type(film)(film.image, "pa", moved, quantity="display"))
    for part in ("turned by 12.50°", "tilt -3.00°", "+5.0, +0.0, -2.0 mm", "unknown gain"):
        assert part in words
    mirrored = ConeBeam.preset("chest", "right_lateral", size=20)
    words = geometry_in_words(type(film)(film.image, "lateral", mirrored))
    assert "right lateral" in words
    assert "hung mirrored" in words


def test_write_report(tmp_path: Path) -> None:
    path = write_report(tmp_path / "new" / "report.html", "<p>µ</p>")
    assert path.read_text(encoding="utf-8") == "<p>µ</p>"
    with pytest.raises(OutputExistsError):
        write_report(path, "other")
    write_report(path, "other", overwrite=True)
    assert path.read_text(encoding="utf-8") == "other"
    with pytest.raises(InputError, match=r"\.html"):
        write_report(tmp_path / "report.pdf", "x")
