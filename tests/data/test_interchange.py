"""Other people's layouts: what goes out comes back, and the traps (axes, stale spacing, own maximum) are handled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from support.dataset_factory import write_dataset
from xrecon.data.case_file import CaseData
from xrecon.data.dataset import PreparedDataset
from xrecon.data.exported import Exported
from xrecon.data.interchange_nnunet import LABELS, export_nnunet, lung_labels
from xrecon.data.interchange_triples import export_triples
from xrecon.data.interchange_x2ct import FILE_NAME, X2ctCase, export_x2ct, read_x2ct, recipe_beam, write_x2ct
from xrecon.errors import InputError, OutputExistsError
from xrecon.phantoms.thorax import Phantom
from xrecon.preparation.case import prepare_volume
from xrecon.preparation.request import PrepareRequest
from xrecon.preparation.run import prepare_dataset
from xrecon.preparation.settings import PrepareSettings
from xrecon.volume import load_ct

h5py = pytest.importorskip("h5py", reason="the extra [h5] is not installed")
SETTINGS = PrepareSettings(size=32, lung_model="classical")


@pytest.fixture(scope="module")
def case(phantom64: Phantom) -> CaseData:
    """The standard artificial thorax, prepared at 32^3."""
    return prepare_volume(phantom64.volume, SETTINGS).case


@pytest.fixture(scope="module")
def dataset(case: CaseData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set that holds it three times, under three patients' names."""
    subsets = {"a": "train", "b": "test", "c": "aux"}
    return write_dataset(tmp_path_factory.mktemp("dataset"), subsets, cases=[case] * 3)  # type: ignore[arg-type]


def theirs(path: Path, case: CaseData, **datasets: object) -> Path:
    """A file as the published tools write it: 8-bit films, each by its own maximum, no attribute of ours."""
    with h5py.File(path, "w") as out:
        out["ct"] = np.clip(case.ct + 1024, 0, None).astype(np.int16)
        for key, film in (("xray1", case.pa), ("xray2", case.lateral)):
            out[key] = (255 * film / film.max()).astype(np.uint8)
        for key, value in datasets.items():
            out[key] = value
    return path


def test_x2ct_round_trip(case: CaseData, tmp_path: Path) -> None:
    pa, lateral = case.films()
    write_x2ct(tmp_path, X2ctCase(case.volume(), pa, lateral))
    back = read_x2ct(tmp_path)
    assert np.array_equal(back.ct.hu, case.ct.astype(np.float32))
    assert np.allclose(back.ct.affine, case.affine)
    for film, original in ((back.pa, pa), (back.lateral, lateral)):
        assert film.is_quantitative
        assert film.geometry == original.geometry
        assert np.allclose(film.image, original.image, rtol=1e-5, atol=1e-5)
    with pytest.raises(OutputExistsError):
        write_x2ct(tmp_path, X2ctCase(case.volume(), pa, lateral))


def test_x2ct_axes_are_those_of_the_published_files(case: CaseData, tmp_path: Path) -> None:
    """SPEC 2.1: the mean over H resembles xray1 and the mean over W xray2, and no flip does as well."""
    pa, lateral = case.films()
    with h5py.File(write_x2ct(tmp_path, X2ctCase(case.volume(), pa, lateral))) as stored:
        ct, xray1, xray2 = (np.asarray(stored[key], dtype=np.float64) for key in ("ct", "xray1", "xray2"))
    assert ct.min() >= 0
    assert (xray1.max(), xray2.max()) == pytest.approx((255, 255))
    for mean, film in ((ct.mean(axis=1), xray1), (ct.mean(axis=2), xray2)):
        upright = np.corrcoef(mean.ravel(), film.ravel())[0, 1]
        for flips in ((0,), (1,), (0, 1)):
            assert upright > np.corrcoef(np.flip(mean, flips).ravel(), film.ravel())[0, 1] + 0.01
        assert upright > 0.85


@pytest.mark.parametrize(
    ("more", "extent", "words"),
    [
        ({}, 320.0, "the published recipe"),
        ({"ori_size": [320, 320, 320], "spacing": [1.0, 1.0, 1.0]}, 320.0, "before a resize; the voxels are 10.000"),
        ({"ori_size": [256, 256, 256], "spacing": [1.5, 1.5, 1.5]}, 384.0, "original size times original spacing"),
        ({"spacing": [1.0, 1.0, 1.0]}, 320.0, "stored spacing 1 x 1 x 1 mm is from before a resize"),
    ],
)
def test_stale_spacing_is_not_believed(
    case: CaseData, tmp_path: Path, more: dict[str, object], extent: float, words: str
) -> None:
    imported = read_x2ct(theirs(tmp_path / FILE_NAME, case, **more))
    assert imported.ct.spacing_mm == pytest.approx((extent / 32,) * 3)
    assert words in " | ".join(imported.ct.notes)
    assert imported.pa.quantity == "display"
    assert imported.pa.geometry == recipe_beam("pa", 32)
    assert read_x2ct(tmp_path / FILE_NAME, extent_mm=384.0).ct.spacing_mm == pytest.approx((12.0,) * 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda out: out.__delitem__("xray2"), "xray2"),
        (lambda out: out["ct"].__setitem__(..., out["ct"][()] - 1024), "HU \\+ 1024"),
        (lambda out: out["xray1"].__setitem__(..., 0), "constant"),
        (lambda out: (out.__delitem__("ct"), out.__setitem__("ct", np.zeros((4, 4)))), "expected 3 axes"),
    ],
)
def test_files_that_are_no_such_case_are_refused(case: CaseData, tmp_path: Path, change: object, words: str) -> None:
    path = theirs(tmp_path / FILE_NAME, case)
    with h5py.File(path, "r+") as out:
        change(out)  # type: ignore[operator]
    with pytest.raises(InputError, match=words):
        read_x2ct(path)
    path.write_bytes(b"\x89HDF\r\n\x1a\n damaged")
    with pytest.raises(InputError, match="not a case of the X2CT layout"):
        read_x2ct(path)


def test_x2ct_layout_to_data_set_and_back(dataset: Path, case: CaseData, tmp_path: Path) -> None:
    lists = export_x2ct(dataset, tmp_path / "x2ct").cases
    assert lists == {"train": ["a"], "test": ["b"], "aux": ["c"]}
    assert (tmp_path / "x2ct" / "train.txt").read_text() == "a\n"
    split = {"a": "train"}
    request = PrepareRequest(
        [str(tmp_path / "x2ct" / "a")],
        str(tmp_path / "set"),
        settings=SETTINGS.model_copy(update={"films": "given"}),
        keep_names=True,
        workers=1,
        test_share=0.0,
    )
    manifest = prepare_dataset(request).manifest
    assert [record.name for record in manifest.cases] == list(split)
    back = PreparedDataset(tmp_path / "set")[0].load()
    assert np.abs(back.ct.astype(int) - case.ct).max() <= 1
    assert np.allclose(back.pa, case.pa, rtol=1e-4, atol=1e-4)
    assert np.allclose(back.lateral, case.lateral, rtol=1e-4, atol=1e-4)
    assert np.allclose(back.affine, case.affine)


def test_triples_come_back_with_the_users_own_films(dataset: Path, case: CaseData, tmp_path: Path) -> None:
    export_triples(dataset, tmp_path / "plain")
    assert sorted(p.name for p in (tmp_path / "plain" / "a").iterdir())[:2] == ["ct.nii.gz", "lateral.json"]
    with_films = SETTINGS.model_copy(update={"films": "given", "centre": "volume"})
    request = PrepareRequest(
        [str(tmp_path / "plain" / name) for name in "ab"],
        str(tmp_path / "set"),
        settings=with_films,
        keep_names=True,
        workers=1,
        test_share=0.0,
    )
    report = prepare_dataset(request)
    assert [record.name for record in report.manifest.cases] == ["a"]  # b is the same CT
    back = PreparedDataset(tmp_path / "set")[0].load()
    assert np.allclose(back.pa, case.pa, rtol=1e-4, atol=1e-4)
    assert back.quantity == "line_integral"


def test_own_pictures_are_display_films_and_compared_with_the_ct(phantom64: Phantom, tmp_path: Path) -> None:
    from PIL import Image

    from xrecon.films.simulation import simulate

    folder = tmp_path / "in"
    folder.mkdir()
    phantom64.volume.save(folder / "one.nii.gz")
    pa, lateral = simulate(phantom64.volume, size=96)
    for film, mirrored in ((pa, True), (lateral, False)):
        grey = np.uint8(255 * np.clip(film.image / film.image.max(), 0, 1))
        Image.fromarray(grey[:, ::-1] if mirrored else grey).save(folder / f"one_{film.view}.png")
    phantom64.volume.save(folder / "lonely.nii.gz")
    settings = SETTINGS.model_copy(update={"films": "given"})
    request = PrepareRequest(
        [str(folder)], str(tmp_path / "set"), settings=settings, keep_names=True, workers=1, test_share=0
    )
    manifest = prepare_dataset(request).manifest
    assert manifest.cases[0].films == "display"
    assert any("fits the CT better mirrored" in text for text in manifest.cases[0].warnings)
    assert not any("lateral film" in text for text in manifest.cases[0].warnings)
    assert any("no PA and lateral film beside it" in rejection.reason for rejection in manifest.rejected)
    arrays = PreparedDataset(tmp_path / "set")[0].load()
    assert arrays.quantity == "display"
    assert 0 <= arrays.pa.min() < arrays.pa.max() <= 1.001


def test_nnunet_layout(dataset: Path, case: CaseData, tmp_path: Path) -> None:
    folder = tmp_path / "Dataset007_Thorax"
    written = export_nnunet(dataset, folder)
    assert written == Exported({"train": ["a"], "test": ["b"]}, left_out=1)
    description = json.loads((folder / "dataset.json").read_text())
    assert description["numTraining"] == 1
    assert description["channel_names"] == {"0": "CT"}
    assert description["labels"] == LABELS
    image = load_ct(folder / "imagesTr" / "a_0000.nii.gz")
    assert np.array_equal(image.hu, case.ct.astype(np.float32))
    assert np.allclose(image.affine, case.affine, atol=1e-3)
    import nibabel

    stored = nibabel.load(folder / "labelsTs" / "b.nii.gz")
    ct_image = nibabel.load(folder / "imagesTs" / "b_0000.nii.gz")
    assert np.allclose(stored.affine, ct_image.affine)
    counts = np.bincount(np.asarray(stored.dataobj).astype(int).ravel(), minlength=4)
    assert np.array_equal(counts, np.bincount(lung_labels(case).ravel(), minlength=4))
    with pytest.raises(InputError, match="Dataset001_Thorax"):
        export_nnunet(dataset, tmp_path / "thorax")


def test_nnunet_folds_are_the_data_sets(case: CaseData, tmp_path: Path) -> None:
    subsets = {"a": "train", "b": "train", "c": "train", "d": "test"}
    prepared = write_dataset(tmp_path / "set", subsets, cases=[case] * 4, folds=3)  # type: ignore[arg-type]
    export_nnunet(prepared, tmp_path / "Dataset001_Thorax")
    folds = json.loads((tmp_path / "Dataset001_Thorax" / "splits_final.json").read_text())
    assert [fold["val"] for fold in folds] == [["a"], ["b"], ["c"]]
    assert all(set(fold["train"]) | set(fold["val"]) == {"a", "b", "c"} for fold in folds)
