"""The film library: exact maps, physics as in simulate, resumed without a trace, test cases untouched."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from support.film_library import SPLIT, library_request, write_people
from xrecon.augmentation.varied_chest import source_chest, unvaried
from xrecon.data.film_library import STEP_MM, FilmLibrary, FilmSample, anatomy_bytes
from xrecon.errors import InputError, XReconError
from xrecon.films.simulation import simulate
from xrecon.phantoms.thorax import Phantom
from xrecon.planting.pneumothorax import plant_pneumothorax
from xrecon.preparation.film_library import library_run
from xrecon.preparation.film_library.landmarks import chest_landmarks, on_films
from xrecon.preparation.film_library.library_run import prepare_film_library
from xrecon.preparation.film_library.library_settings import FilmLibrarySettings
from xrecon.preparation.film_library.produce import FilmRig, film_sample
from xrecon.projector.detector import expose
from xrecon.projector.physics import film_physics


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("film_people"))


@pytest.fixture(scope="module")
def library(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("films") / "library"
    report = prepare_film_library(library_request(people, output))
    assert (report.anatomies, report.samples, report.made, report.failures) == (4, 12, 4, ())
    return output


def test_the_library_is_complete(library: Path) -> None:
    films = FilmLibrary(library)
    anatomies = films.anatomies()
    assert [(a.case, a.number) for a in anatomies] == [("anna", 0), ("bert", 1), ("anna", 2), ("bert", 3)]
    assert "carl" not in (library / "library.json").read_text()
    for anatomy in anatomies:
        meta = films.meta(anatomy)
        assert [sample["kind"] for sample in meta["samples"]] == ["healthy", "healthy", "pneumothorax"]
        assert meta["samples"][0]["confounders"] == []
        assert "RESEARCH ONLY" in meta["notice"]
        assert {"right_apex", "left_dome"} <= set(meta["landmarks"]["pa"])
        sick = films.read(anatomy, 2)
        side = ("right", "left").index(sick.meta["planting"]["side"])
        assert sick.air[:, side].max() > 1.0
        assert sick.air[:, 1 - side].max() == 0.0
        assert not films.read(anatomy, 0).air.any()


def test_maps_of_both_sides_lie_on_their_side(library: Path) -> None:
    films = FilmLibrary(library)
    lung = films.read(films.anatomies()[0], 0).lung
    columns = np.arange(lung.shape[-1])
    right, left = ((lung[0, side].sum(axis=0) * columns).sum() / lung[0, side].sum() for side in (0, 1))
    assert right < 32 < left  # a PA film hangs with the patient's right on the image's left


def test_air_of_both_views_is_the_same_volume(library: Path) -> None:
    films = FilmLibrary(library)
    for anatomy in films.anatomies():
        air = films.read(anatomy, 2).air.sum(axis=1)
        volumes = air.sum(axis=(1, 2)) * 6.0**2 / 1000.0
        truth = films.meta(anatomy)["samples"][2]["volumes_ml"]["air_share"]
        assert volumes == pytest.approx([truth, truth], rel=0.17)  # magnification of what is not at the isocentre


def test_means_over_pixels_keep_lengths(library: Path) -> None:
    films = FilmLibrary(library)
    fine, coarse = (films.read(films.anatomies()[0], 2, factor=factor) for factor in (1, 4))
    assert coarse.air.shape == (2, 2, 16, 16)
    assert coarse.water.mean() == pytest.approx(fine.water.mean(), rel=1e-5)
    with pytest.raises(InputError, match="averaged by 5"):
        films.read(films.anatomies()[0], 2, factor=5)


def test_films_are_those_of_simulate(phantom64: Phantom) -> None:
    source = source_chest(phantom64.volume, "phantom")
    rig = FilmRig.of(unvaried(source), 64)
    sick, truth = plant_pneumothorax(source.ct, chest=source.chest, occupancy=0.3, pattern="upright")
    sample = film_sample(sick, source.chest, rig, [], truth)
    stored = anatomy_bytes([sample], {})
    assert anatomy_bytes([sample], {}) == stored
    physics = film_physics("clinical", ["noise=null", "display=null"])
    isocentre = sick.affine[:3, :3] @ rig.middle + sick.affine[:3, 3]
    expected = simulate(sick, size=64, centre_mm=isocentre, physics=physics, keep_table=True)
    for k, film in enumerate(expected):
        water, bone = (np.rint(lengths[k] / STEP_MM) * STEP_MM for lengths in (sample.water, sample.bone))
        exposed = expose(
            torch.from_numpy(water.astype(np.float32)),
            torch.from_numpy(bone.astype(np.float32)),
            physics,
            geometry=rig.views[k],
        ).line_integral
        assert np.abs(exposed.numpy() - film.image).max() < 2e-3


def test_a_run_goes_on_and_ends_alike(people: Path, library: Path, tmp_path: Path) -> None:
    output = tmp_path / "library"
    first = prepare_film_library(library_request(people, output, anatomies=1))
    assert first.made == 1
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        second = prepare_film_library(library_request(people, output))
    finally:
        torch.set_num_threads(threads)
    assert second.made == 3
    for path in (library / "anatomies").iterdir():
        assert (output / "anatomies" / path.name).read_bytes() == path.read_bytes()
    assert prepare_film_library(library_request(people, output)).made == 0


def test_other_settings_and_foreign_folders_are_refused(people: Path, library: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="other settings"):
        prepare_film_library(library_request(people, library, seed=1))
    (tmp_path / "something").write_text("else")
    with pytest.raises(InputError, match="not empty"):
        prepare_film_library(library_request(people, tmp_path))
    swapped = replace(library_request(people, library), split=SPLIT.model_copy(update={"train": ("anna",)}))
    with pytest.raises(InputError, match="other cases"):
        prepare_film_library(swapped)


def test_damaged_files_are_named(library: Path, tmp_path: Path) -> None:
    (tmp_path / "anatomies").mkdir()
    (tmp_path / "library.json").write_text(json.dumps({}))
    good = next((library / "anatomies").iterdir()).read_bytes()
    path = tmp_path / "anatomies" / "anna_00000.npz"
    for content in (b"", b"no zip", good[: len(good) // 2]):
        path.write_bytes(content)
        films = FilmLibrary(tmp_path)
        with pytest.raises(InputError, match=r"anna_00000\.npz"):
            films.read(films.anatomies()[0], 0)
    for place in (0, 5000):  # of the compressed lengths of water: a wrong first block, a wrong sum
        path.write_bytes(_spoilt(good, "water_0.npy", place))
        with pytest.raises(InputError, match=r"anna_00000\.npz: its part water_0 is damaged"):
            FilmLibrary.read(FilmLibrary(tmp_path).anatomies()[0], 0)
    with pytest.raises(InputError, match="no film library"):
        FilmLibrary(tmp_path / "anatomies")


def _spoilt(content: bytes, name: str, place: int) -> bytes:
    """The archive with a wrong byte in the compressed data of an entry."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entry = archive.getinfo(name)
    first = entry.header_offset + 30 + len(name)  # the local header of the format and the name
    out = bytearray(content)
    out[first + place] ^= 0xFF
    return bytes(out)


def test_a_file_that_is_being_written_is_no_anatomy(library: Path, tmp_path: Path) -> None:
    good = next((library / "anatomies").iterdir()).read_bytes()
    (tmp_path / "anatomies").mkdir()
    (tmp_path / "library.json").write_text(json.dumps({}))
    (tmp_path / "anatomies" / ".0123456789ab.anna_00000.npz").write_bytes(good[:1000])
    (tmp_path / "anatomies" / "anna_b_00001.npz").write_bytes(good)
    assert [(a.case, a.number) for a in FilmLibrary(tmp_path).anatomies()] == [("anna_b", 1)]


def test_a_run_does_not_end_at_one_anatomy(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, number: int, **__: object) -> bytes:
        if number in (1, 2):
            raise InputError("a lung that does not fit") if number == 1 else ValueError("a mistake")
        return b"content"

    monkeypatch.setattr(library_run, "produce_anatomy", fails)
    report = prepare_film_library(library_request(people, tmp_path / "library"))
    assert report.made == report.anatomies == 2
    assert report.failures[0] == "anatomy 1 of bert: a lung that does not fit"
    assert "unexpected ValueError: a mistake" in report.failures[1]


def test_a_cause_that_is_not_the_anatomy_ends_the_run(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> bytes:
        raise problem

    monkeypatch.setattr(library_run, "produce_anatomy", fails)
    problem: Exception = ValueError("a mistake")
    with pytest.raises(XReconError, match=r"in a row .* anatomy 15 of bert"):
        prepare_film_library(library_request(people, tmp_path / "library", anatomies=40))
    problem = XReconError("the disk is full")
    with pytest.raises(XReconError, match="the disk is full"):
        prepare_film_library(library_request(people, tmp_path / "library"))


@pytest.mark.parametrize("mechanism", ["flow", "offset"])
def test_maps_are_projections_of_the_truth(phantom64: Phantom, mechanism: str) -> None:
    source = source_chest(phantom64.volume, "phantom")
    rig = FilmRig.of(unvaried(source), 64)
    ct, truth = plant_pneumothorax(
        source.ct, chest=source.chest, side="left", occupancy=0.3, pattern="upright", mechanism=mechanism
    )
    sample = film_sample(ct, source.chest, rig, [], truth)
    stored = {1: sample.lung[:, 0], 2: sample.lung[:, 1], 3: sample.air[:, 1]}
    for label, lengths in stored.items():
        direct = rig.lengths([(truth.labels == label).astype(np.float32)])[0]
        away = np.abs(lengths - direct)
        # Partial volume: a ray meets few surfaces, and the label of a voxel is wrong by half of it at most.
        assert away.mean() < 0.8
        assert lengths.sum() == pytest.approx(direct.sum(), rel=0.05)
        assert np.corrcoef(lengths.ravel(), direct.ravel())[0, 1] > 0.99
    assert not sample.air[:, 0].any()


def test_lengths_that_do_not_fit_are_cut() -> None:
    settings = FilmLibrarySettings()
    assert settings.size == 512
    long = np.full((2, 4, 4), 700.0, dtype=np.float32)
    zero = np.zeros((2, 2, 4, 4), dtype=np.float32)
    assert len(anatomy_bytes([FilmSample(long, -long, zero, zero, {})], {})) > 0


def test_landmarks_fall_on_the_lungs(phantom64: Phantom) -> None:
    source = source_chest(phantom64.volume, "phantom")
    rig = FilmRig.of(unvaried(source), 64)
    points = chest_landmarks(source.chest, rig.spacing)
    films = on_films(points, rig.middle, rig.spacing, rig.views)
    pixels = films["pa"]
    assert pixels["right_apex"][0] < pixels["right_dome"][0] < pixels["right_costophrenic"][0]
    assert pixels["right_apex"][1] < 32 < pixels["left_apex"][1]
    for side, lung, outwards in (("right", source.chest.right, -1), ("left", source.chest.left, 1)):
        assert outwards * (pixels[f"{side}_lateral_angle"][1] - pixels[f"{side}_dome"][1]) > 0
        assert outwards * (pixels[f"{side}_lateral_angle"][1] - pixels[f"{side}_costophrenic"][1]) > 0
        assert films["lateral"][f"{side}_dome"][0] < films["lateral"][f"{side}_costophrenic"][0]
        d, h, w = (round(v) for v in points[f"{side}_dome"])
        assert lung[d, h, w] and not lung[d + 1 :, h, w].any()  # the lower surface


def test_the_carina_moves_with_the_mediastinum(phantom64: Phantom) -> None:
    source = source_chest(phantom64.volume, "phantom")
    rig = FilmRig.of(unvaried(source), 64)
    columns = {}
    for tension in (0.0, 1.0):
        ct, truth = plant_pneumothorax(source.ct, chest=source.chest, side="left", occupancy=0.3, tension=tension)
        meta = film_sample(ct, source.chest, rig, [], truth).meta
        columns[tension] = meta["landmarks"]["pa"].get("carina")
    assert columns[0.0] is None  # that of the anatomy
    healthy = on_films(chest_landmarks(source.chest, rig.spacing), rig.middle, rig.spacing, rig.views)["pa"]["carina"]
    shift_mm = (healthy[1] - columns[1.0][1]) * 6.0
    assert 5.0 < shift_mm < 21.0  # to the patient's right: the image's left
