"""Pictures and page of a segmentation: the right way round, marked, self-contained, escaped."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from support.html_page import Page
from xrecon.errors import InputError
from xrecon.phantoms.thorax import ThoraxParameters, thorax_phantom
from xrecon.quantify.findings import Component, Findings, build_findings
from xrecon.quantify.mediastinum import MediastinalShift
from xrecon.report.findings import headline, mediastinum_in_words, not_counted, render_findings
from xrecon.report.parts.figures import save_figure
from xrecon.report.parts.findings_figures import COLOURS, measurement_figure, preview_figure
from xrecon.segmentation import Segmentation
from xrecon.volume import RESEARCH_NOTICE, Volume

HOSTILE = '<script>alert("x")</script><img src=https://evil.example/a.png>'


@pytest.fixture(scope="module")
def sick() -> tuple[Volume, Segmentation]:
    parameters = ThoraxParameters(pneumothorax_side="left", pneumothorax_ml=700.0)
    phantom = thorax_phantom(64, 6.0, parameters=parameters)
    labels = np.array(phantom.labels)
    return phantom.volume, Segmentation(labels, np.where(labels == 3, 2, 0).astype(np.uint8), phantom.volume.affine)


@pytest.fixture(scope="module")
def findings(sick) -> Findings:
    return build_findings(sick[1], provenance={"settings": {"lung_model": "classical"}})


def axes_of(figure, key):
    return next(axes for axes in figure.axes if axes.get_label() == key)


def air_column(axes) -> float:
    """Mean column of the filled air, as a share of the picture's width; 0 is the left edge."""
    fill = axes.get_images()[1].get_array()
    assert np.allclose(fill[fill[..., 3] > 0, :3], to_rgb(COLOURS["free air"]))
    return float(np.nonzero(fill[..., 3])[1].mean() / fill.shape[1])


def test_a_left_pneumothorax_is_drawn_on_the_right_of_the_picture(sick) -> None:
    figure = preview_figure(*sick)
    for key in ("labels axial", "labels coronal"):
        axes = axes_of(figure, key)
        assert air_column(axes) > 0.55
        left, right = axes.texts[0], axes.texts[1]
        assert (left.get_text(), right.get_text()) == ("R", "L")
        assert left.get_position()[0] < right.get_position()[0]


def test_stored_orientation_does_not_change_the_picture(sick) -> None:
    ct, segmentation = sick
    flip = np.diag([1.0, 1.0, -1.0, 1.0])
    flip[2, 3] = ct.shape[2] - 1
    turned = Volume(ct.hu[..., ::-1], ct.affine @ flip)
    labels = Segmentation(
        segmentation.labels[..., ::-1].copy(), segmentation.air_side[..., ::-1].copy(), ct.affine @ flip
    )
    straight, flipped = preview_figure(ct, segmentation), preview_figure(turned, labels)
    for key in ("labels axial", "plain sagittal", "labels coronal"):
        for a, b in zip(axes_of(straight, key).get_images(), axes_of(flipped, key).get_images(), strict=True):
            assert np.array_equal(a.get_array(), b.get_array())


def test_planes_go_through_the_largest_section_of_air(sick) -> None:
    ct, segmentation = sick
    axes = axes_of(preview_figure(ct, segmentation), "labels axial")
    filled = np.count_nonzero(axes.get_images()[1].get_array()[..., 3])
    assert filled == np.count_nonzero(segmentation.labels == 3, axis=(1, 2)).max()


def test_the_scale_bar_is_five_centimetres_long(sick) -> None:
    figure = preview_figure(*sick)
    axes = axes_of(figure, "labels axial")
    bar = next(line for line in axes.lines if line.get_transform() == axes.transAxes)
    x0, x1 = bar.get_xdata()
    assert (x1 - x0) * 64 * 6.0 == pytest.approx(50.0)


def test_the_notice_is_on_the_face_and_in_the_file(sick, tmp_path) -> None:
    figure = preview_figure(*sick)
    assert any(text.get_text() == RESEARCH_NOTICE for text in figure.texts)
    with Image.open(save_figure(figure, tmp_path / "preview.png")) as image:
        assert image.text["Description"] == RESEARCH_NOTICE
        assert image.size[0] > 800


def test_measures_are_drawn_on_the_measured_side(sick, findings) -> None:
    figure = measurement_figure(*sick, findings)
    assert figure is not None
    film = axes_of(figure, "film")
    words = [text.get_text() for text in film.texts]
    assert findings.left is not None and findings.left.collins is not None
    assert f"A {findings.left.collins.a_cm * 10:.0f} mm" in words
    assert any(word.startswith("hilum ") for word in words)
    lines = [line for line in film.lines if line.get_transform() != film.transAxes]
    assert len(lines) == 4
    assert all(np.mean(line.get_xdata()) > 32 for line in lines), "the patient's left is on the image's right"
    hilum = lines[0]
    length = abs(float(np.diff(hilum.get_xdata())[0])) * 6.0
    assert length == pytest.approx(findings.left.rim_at_hilum_mm, abs=0.1)


def test_a_healthy_chest_has_planes_and_no_measures(sick) -> None:
    ct, segmentation = sick
    labels = np.where(segmentation.labels == 3, 2, segmentation.labels).astype(np.uint8)
    healthy = Segmentation(labels, np.zeros_like(labels), ct.affine)
    document = build_findings(healthy)
    assert len(preview_figure(ct, healthy).axes) == 6
    assert measurement_figure(ct, healthy, document) is None
    page = render_findings(ct, healthy, document)
    assert "No free pleural air was found." in page and "Published thresholds" not in page
    assert page.count("data:image/png") == 1


def test_another_grid_is_refused(sick) -> None:
    ct, segmentation = sick
    with pytest.raises(InputError, match="share one grid"):
        preview_figure(ct.resampled((32, 32, 32), 12.0), segmentation)
    moved = ct.affine.copy()
    moved[0, 3] += 5
    with pytest.raises(InputError, match="different affines"):
        preview_figure(replace(ct, affine=moved), segmentation)


def test_the_page_is_complete_and_self_contained(sick, findings) -> None:
    html = render_findings(*sick, findings, title="My CT", created=datetime(2030, 1, 2, tzinfo=timezone.utc))
    page = Page(html)
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not re.search(r"url\(|@import", html)
    text = page.text
    assert text.removeprefix("My CT ").startswith(RESEARCH_NOTICE) and text.endswith(RESEARCH_NOTICE)
    assert findings.occupancy.left is not None
    for words in (
        "2030-01-02 00:00 UTC",
        "Free pleural air was found",
        "on the left side",
        f"{100 * findings.occupancy.left:.1f} %",
        "Collins index",
        "Light index",
        "Mediastinal shift",
        "No detection limit has been measured",
        *("BTS 2010", "ACCP 2001", "35 mm", "BTS 2023"),
        "4.2 + 4.7 x (A + B + C)",
        *("occupancy.whole_chest", "settings.lung_model", "classical", "xrecon.findings/1"),
        "must not be used",
    ):
        assert words in text, words
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 2
    for attributes in images:
        assert len(attributes["alt"] or "") > 20
        data = base64.b64decode((attributes["src"] or "").partition(",")[2])
        with Image.open(io.BytesIO(data)) as image:
            assert image.text["Description"] == RESEARCH_NOTICE


def test_hostile_text_is_escaped(sick) -> None:
    ct, segmentation = sick
    stored = {"components": [{"kind": HOSTILE, "side": HOSTILE, "reason": HOSTILE}, {"kind": "pneumothorax"}]}
    hostile = replace(segmentation, findings=stored, notes=(HOSTILE,))
    document = build_findings(hostile, provenance={HOSTILE: HOSTILE, "environment": {"a": HOSTILE}})
    page = Page(render_findings(ct, hostile, document, title=HOSTILE))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(HOSTILE) >= 7


def test_sentences() -> None:
    assert "not measured" in mediastinum_in_words(None)
    pushed = mediastinum_in_words(MediastinalShift(-20.0, 9.6, 5.5, -29.6, "right", True))
    assert "20.0 mm right" in pushed and "29.6 mm to the patient's right, away from" in pushed
    usual = mediastinum_in_words(MediastinalShift(5.0, 9.6, 5.5, -4.6, "none", None))
    assert "4.6 mm further right than usual, within" in usual


def test_headline_names_both_sides(findings) -> None:
    both = findings.model_copy(update={"right": findings.left})
    assert "right side" in headline(both) and " and " in headline(both)


def test_larger_air_that_was_not_counted_is_said(sick, findings) -> None:
    assert not_counted(findings) == ""
    others = (
        Component(kind="bulla/emphysema", side="right", volume_ml=328.4),
        Component(kind="bulla/emphysema", side="right", volume_ml=27.2),
        Component(kind="bulla/emphysema", side="left", volume_ml=9.0),
        Component(kind="stomach/bowel", side="left", volume_ml=151.9),
        Component(kind="uncertain", side="left", volume_ml=40.0),
    )
    doubtful = findings.model_copy(
        update={"confidence": findings.confidence.model_copy(update={"confounders": others})}
    )
    said = (
        "Not counted: 356 mL of bulla or emphysema on the right side; 152 mL of stomach/bowel on the left side; "
        "40 mL of air that may be free or not on the left side."
    )
    assert not_counted(doubtful) == said
    assert said in render_findings(*sick, doubtful)
    assert "Not counted:" not in render_findings(*sick, findings)
