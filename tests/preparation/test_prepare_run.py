"""The whole of `xrecon prepare` on artificial patients: nothing lost silently, nothing done twice, nobody named."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from support.dicom_factory import write_series
from xrecon.data.dataset import PreparedDataset
from xrecon.data.manifest import Manifest, load_manifest
from xrecon.data.split import Split
from xrecon.errors import InputError, OutputExistsError
from xrecon.preparation.request import PrepareRequest
from xrecon.preparation.run import PrepareReport, prepare_dataset, thumbnails
from xrecon.preparation.settings import PrepareSettings
from xrecon.preparation.storage import Store
from xrecon.report.quality import render_quality_page
from xrecon.volume import Volume

pytestmark = pytest.mark.usefixtures("fast_lungs")  # but for the module's `prepared`, which PTX-Seg makes
SETTINGS = PrepareSettings(size=32, lung_model="classical")


def prepare(inputs: Path | list[Path], output: Path, **more: Any) -> PrepareReport:
    places = [str(place) for place in (inputs if isinstance(inputs, list) else [inputs])]
    return prepare_dataset(PrepareRequest(places, str(output), **{"settings": SETTINGS, "workers": 1, **more}))


@pytest.fixture(scope="module")
def prepared(people_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three people, names kept, two folds. Shared: copy it to change it."""
    output = tmp_path_factory.mktemp("prepared") / "set"
    split = Split(train=("anna", "carl"), test=("bert",), source="phantoms", licence="CC0")
    prepare(people_folder, output, keep_names=True, split=split, folds=2)
    return output


def all_text(folder: Path) -> str:
    return "\n".join(p.read_bytes().decode("latin-1") for p in folder.rglob("*") if p.is_file())


def test_the_data_set_is_complete_and_serves_training(prepared: Path) -> None:
    train, test = PreparedDataset(prepared, "train"), PreparedDataset(prepared, "test")
    train.verify()
    test.verify()
    assert [case.name for case in train] == ["anna", "carl"]
    assert [case.name for case in test] == ["bert"]
    assert sorted(case.record.fold for case in train) == [0, 1]
    arrays = train[0].load()
    assert arrays.ct.shape == (32, 32, 32)
    assert arrays.spacing_mm == pytest.approx(12.0)
    assert arrays.pa.max() > 3.0
    assert train.manifest.licences() == [{"source": "phantoms", "licence": "CC0", "cases": 3}]
    assert train.manifest.complete


def test_table_gone_lungs_centred_and_sides_right(prepared: Path) -> None:
    for case in PreparedDataset(prepared, "train"):
        arrays = case.load()
        near = ndimage.binary_dilation(arrays.body > 0, iterations=2)  # voxels of 12 mm: the skin's partial volume
        assert arrays.ct[~near].max() < -1000
        lungs = np.argwhere(arrays.sides > 0)
        middle = (lungs.min(axis=0) + lungs.max(axis=0)) / 2
        assert np.abs(middle - 15.5).max() < 1.5
        assert np.argwhere(arrays.sides == 1)[:, 2].mean() < np.argwhere(arrays.sides == 2)[:, 2].mean()
        ml = (arrays.sides == 1).sum() * 12.0**3 / 1000
        assert ml == pytest.approx(case.record.right_lung_ml, rel=0.12)  # thin recesses are lost at 12 mm


def test_films_are_those_of_simulate(prepared: Path, people_folder: Path) -> None:
    from xrecon.films.simulation import simulate
    from xrecon.volume import load_ct

    arrays = PreparedDataset(prepared, "train")[0].load()
    pa, lateral = simulate(load_ct(people_folder / "anna.nii.gz"), size=32)
    assert np.allclose(arrays.pa, pa.image, atol=1e-3)
    assert np.allclose(arrays.lateral, lateral.image, atol=1e-3)
    assert arrays.films()[0].geometry == pa.geometry


@pytest.mark.parametrize("flips", [(0,), (1,), (2,), (0, 1, 2)])
def test_any_orientation_gives_the_same_case(prepared: Path, people: list[Volume], tmp_path: Path, flips: Any) -> None:
    from xrecon.preparation.case import prepare_volume

    affine = people[0].affine.copy()
    for axis in flips:
        affine[:3, 3] += affine[:3, axis] * (people[0].shape[axis] - 1)
        affine[:3, axis] *= -1
    turned = Volume(np.flip(people[0].hu, flips), affine)
    case = prepare_volume(turned, SETTINGS)
    upright = prepare_volume(people[0], SETTINGS).case
    stored = PreparedDataset(prepared, "train")[0].load()
    assert np.abs(case.case.ct.astype(int) - stored.ct).max() <= 1
    assert np.array_equal(case.case.sides, upright.sides)
    assert np.allclose(case.case.pa, stored.pa, atol=1e-3)
    assert case.source_sha256 == PreparedDataset(prepared, "train")[0].record.source_sha256


def test_cases_do_not_depend_on_the_threads_of_torch(people_folder: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            prepare(people_folder, tmp_path / str(threads), keep_names=True)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for path in (tmp_path / "1" / "cases").iterdir():
        assert (tmp_path / "3" / "cases" / path.name).read_bytes() == path.read_bytes()


def test_running_again_does_nothing_twice(prepared: Path, people_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "set"
    shutil.copytree(prepared, output)
    before = {p.name: p.stat().st_mtime_ns for p in (output / "cases").iterdir()}
    split = Split(train=("anna", "carl"), test=("bert",))
    report = prepare(people_folder, output, keep_names=True, split=split, folds=2)
    assert (report.prepared, report.reused) == (0, 3)
    assert {p.name: p.stat().st_mtime_ns for p in (output / "cases").iterdir()} == before
    (output / "cases" / "bert.safetensors").unlink()
    assert prepare(people_folder, output, keep_names=True, split=split, folds=2).prepared == 1
    PreparedDataset(output, "test").verify()


def test_a_killed_run_leaves_a_valid_set_and_goes_on(people_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "set"
    command = [sys.executable, "-m", "xrecon", "prepare", str(people_folder), "-o", str(output), "--size", "32"]
    command += ["--lung-model", "classical", "--keep-names", "--test-share", "0", "--workers", "1", "--quiet"]
    running = subprocess.Popen(command)
    end = time.monotonic() + 120
    while not (output / "dataset.json").exists() and running.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not load_manifest(output).complete
    half = PreparedDataset(output, "train")
    assert 1 <= len(half) < 3
    half.verify()
    report = prepare(people_folder, output, keep_names=True, test_share=0.0)
    assert report.reused >= len(half)
    assert report.prepared + report.reused == 3
    assert report.manifest.complete
    PreparedDataset(output, "train").verify()


def test_an_interrupted_run_writes_down_what_it_has(people_folder: Path, tmp_path: Path) -> None:
    def interrupt(done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    request = PrepareRequest(
        [str(people_folder)], str(tmp_path / "set"), settings=SETTINGS, keep_names=True, workers=1, test_share=0.0
    )
    with pytest.raises(KeyboardInterrupt):
        prepare_dataset(request, advance=interrupt)
    assert len(PreparedDataset(tmp_path / "set", "train")) == 2
    assert prepare_dataset(request).reused == 2


def test_bad_input_is_listed_with_its_reason(people: list[Volume], people_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Mrs Secret Name"
    folder.mkdir()
    shutil.copy(people_folder / "anna.nii.gz", folder / "good.nii.gz")
    (folder / "cut.nii.gz").write_bytes((folder / "good.nii.gz").read_bytes()[:5000])
    (folder / "empty.nii.gz").write_bytes(b"")
    (folder / "notes.txt").write_text("nothing to see")
    (folder / "bomb.zip").write_bytes(b"PK\x03\x04 and no more")
    half = people[1].hu[20:]  # the apices are missing
    Volume.centred(half[:24], (6.0, 6.0, 6.0)).save(folder / "half.nii.gz")
    Volume.centred(np.clip(people[2].hu, -1000, 200) / 1000 + 1, (6.0, 6.0, 6.0)).save(folder / "scaled.nii.gz")
    output = tmp_path / "set"
    report = prepare(folder, output, test_share=0.0)
    reasons = {rejection.source: rejection.reason for rejection in report.manifest.rejected}
    assert len(report.manifest.cases) == 1
    assert len(reasons) == 6
    text = " | ".join(reasons.values())
    for words in ("damaged or truncated", "0 bytes", "not a whole thorax", "normalised values", "the zip is damaged"):
        assert words in text, text
    assert "1 x .txt" in text
    # Neither a path nor a name of the user's files is stored anywhere.
    for word in ("Secret", "scaled", "half.nii", str(tmp_path)):
        assert word not in all_text(output), word


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("x")
    with pytest.raises(InputError, match="nothing usable was found: 1 other files"):
        prepare(tmp_path / "in", tmp_path / "set")
    with pytest.raises(InputError, match="does not exist"):
        prepare(tmp_path / "absent", tmp_path / "set")


def test_the_same_ct_twice_stays_once(people: list[Volume], people_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(people_folder / "anna.nii.gz", folder / "anna.nii.gz")
    flipped = Volume(people[0].hu[:, :, ::-1], people[0].affine @ np.diag([1, 1, -1, 1]))
    flipped.save(folder / "zoe.nii")  # another name, format and axis order
    report = prepare(folder, tmp_path / "set", keep_names=True, test_share=0.0)
    assert [case.name for case in report.manifest.cases] == ["anna"]
    assert "the same CT as anna" in report.manifest.rejected[0].reason
    assert not (tmp_path / "set" / "cases" / "zoe.safetensors").exists()
    again = prepare(folder, tmp_path / "set", keep_names=True, test_share=0.0)
    assert (again.prepared, again.reused) == (0, 2)


def as_dicom(folder: Path, volume: Volume, **more: Any) -> Path:
    """An axial series, feet first as scanners store it."""
    return write_series(folder, np.clip(volume.hu[::-1], -1024, 3000), spacing=(6.0, 6.0, 6.0), **more)


def test_dicom_trees_are_grouped_by_patient_and_named_by_nobody(people: list[Volume], tmp_path: Path) -> None:
    tree = tmp_path / "SECRET^NAME"
    patient = lambda name: lambda ds, k: setattr(ds, "PatientID", name)  # noqa: E731
    as_dicom(tree / "a" / "s1", people[0], edit=patient("SECRET-1"))
    as_dicom(tree / "b" / "s2", people[1], edit=patient("SECRET-1"))
    as_dicom(tree / "b" / "s3", people[2], edit=patient("SECRET-2"))
    output = tmp_path / "set"
    report = prepare(tree, output, test_share=0.5)
    cases = report.manifest.cases
    assert len(cases) == 3
    assert len({case.patient for case in cases}) == 2
    PreparedDataset(output, "test")  # the guard would refuse a torn patient
    text = all_text(output)
    assert "SECRET" not in text
    assert str(tmp_path) not in text
    for uid in ("1.2.826", "1.2.840.10008"):
        assert uid not in text


def test_one_series_of_a_study_is_taken_and_the_others_are_listed(people: list[Volume], tmp_path: Path) -> None:
    same = lambda ds, k: setattr(ds, "StudyInstanceUID", "1.2.3")  # noqa: E731
    as_dicom(tmp_path / "in" / "full", people[0], edit=same, number=2)
    write_series(tmp_path / "in" / "short", people[0].hu[::-2], spacing=(12.0, 6.0, 6.0), edit=same, number=3)
    report = prepare(tmp_path / "in", tmp_path / "one", test_share=0.0)
    assert len(report.manifest.cases) == 1
    assert report.manifest.cases[0].source_shape == (64, 64, 64)
    assert "another series of the same study was taken (64 images against 32)" in report.manifest.rejected[0].reason
    both = prepare(tmp_path / "in", tmp_path / "both", test_share=0.0, every_series=True)
    assert len(both.manifest.cases) == 2
    assert len({case.patient for case in both.manifest.cases}) == 1


def test_licences_of_pulled_series_reach_the_manifest(people: list[Volume], tmp_path: Path) -> None:
    from xrecon.preparation.pull import ArchivedSeries, write_record

    uids = [f"1.2.3.{number}" for number in (4, 5)]
    for uid, volume in zip(uids, people, strict=False):
        as_dicom(tmp_path / "in" / uid, volume, edit=lambda ds, k, uid=uid: setattr(ds, "SeriesInstanceUID", uid))
    known = ArchivedSeries(uids[0], "P1", "some_lungs", 64, 30.0, "CC BY 3.0", "10.1/2", "CHEST")
    write_record([known], tmp_path / "in", version="25")
    prepare(tmp_path / "in", tmp_path / "set", test_share=0.0, source="clinic", licence="by contract")
    licences = {(entry["source"], entry["licence"]) for entry in PreparedDataset(tmp_path / "set").manifest.licences()}
    assert licences == {("some_lungs, doi:10.1/2", "CC BY 3.0"), ("clinic", "by contract")}
    assert not load_manifest(tmp_path / "set").rejected  # the record itself is no stray file


def test_large_trees_are_indexed_in_parts(
    people: list[Volume], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xrecon.preparation import sources

    as_dicom(tmp_path / "in", people[0])
    monkeypatch.setattr(sources, "_CHUNK", 10)  # the series falls into seven parts
    report = prepare(tmp_path / "in", tmp_path / "set", test_share=0.0)
    assert [case.source_shape for case in report.manifest.cases] == [(64, 64, 64)]


def test_a_zip_of_slices_and_a_zip_of_volumes(people: list[Volume], people_folder: Path, tmp_path: Path) -> None:
    as_dicom(tmp_path / "series", people[1])
    (tmp_path / "in").mkdir()
    shutil.make_archive(str(tmp_path / "in" / "slices"), "zip", tmp_path / "series")
    (tmp_path / "volumes").mkdir()
    shutil.copy(people_folder / "anna.nii.gz", tmp_path / "volumes")
    shutil.make_archive(str(tmp_path / "in" / "volumes"), "zip", tmp_path / "volumes")
    report = prepare(tmp_path / "in", tmp_path / "set", keep_names=True, test_share=0.0)
    assert [case.name for case in report.manifest.cases] == ["slices", "volumes"]


def test_pseudonyms_depend_on_the_secret_alone(people_folder: Path, tmp_path: Path) -> None:
    scan = people_folder / "anna.nii.gz"

    def names(folder: str, salt: str | None) -> list[str]:
        report = prepare(scan, tmp_path / folder, salt=salt, test_share=0.0)
        return [case.name for case in report.manifest.cases]

    assert names("a", "pepper") == names("b", "pepper")
    assert names("a", "pepper") != names("c", "thyme")
    assert names("d", None) != names("e", None)  # every data set makes its own
    assert "anna" not in "".join(names("d", None))


def test_the_table_of_names_tells_the_user_who_is_who(people_folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "names.csv"
    report = prepare([people_folder / "anna.nii.gz"], tmp_path / "set", names_table=table)
    text = table.read_text(encoding="utf-8")
    assert report.manifest.cases[0].name in text
    assert "anna.nii.gz" in text
    assert table.stat().st_mode & 0o077 == 0
    with pytest.raises(InputError, match="must not lie inside the data set"):
        prepare([people_folder / "anna.nii.gz"], tmp_path / "set", names_table=tmp_path / "set" / "names.csv")
    with pytest.raises(OutputExistsError, match=r"names\.csv"):
        prepare([people_folder / "anna.nii.gz"], tmp_path / "set", names_table=table)


def test_patients_from_the_path(people_folder: Path, tmp_path: Path) -> None:
    for path, name in (("anna", "P7_first"), ("bert", "P7_second"), ("carl", "P8_first")):
        (tmp_path / "in").mkdir(exist_ok=True)
        shutil.copy(people_folder / f"{path}.nii.gz", tmp_path / "in" / f"{name}.nii.gz")
    report = prepare(tmp_path / "in", tmp_path / "set", keep_names=True, patient_pattern=r"(P\d+)_", test_share=0.5)
    patients = {case.name: case.patient for case in report.manifest.cases}
    assert patients == {"P7_first": "P7", "P7_second": "P7", "P8_first": "P8"}
    split = Split(train=("P7_first",), test=("P7_second",))
    with pytest.raises(InputError, match="more than one subset"):
        prepare(tmp_path / "in", tmp_path / "other", keep_names=True, patient_pattern=r"(P\d+)_", split=split)
    with pytest.raises(InputError, match="no regular expression"):
        prepare(tmp_path / "in", tmp_path / "other", patient_pattern="(")


def test_unlisted_cases_are_said(people_folder: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    request = PrepareRequest(
        [str(people_folder)],
        str(tmp_path / "set"),
        settings=SETTINGS,
        keep_names=True,
        split=Split(train=("anna", "dora"), test=("bert",)),
        workers=1,
    )
    manifest = prepare_dataset(request, note=notes.append).manifest
    assert [rejection.reason for rejection in manifest.rejected] == ["the split file does not list it"]
    assert notes == ["the split lists dora, which is not among the inputs"]


def test_other_settings_and_foreign_folders_are_refused(prepared: Path, people_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"other settings \(size=32, now 48\)"):
        prepare(people_folder, prepared, settings=PrepareSettings(size=48, lung_model="classical"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="is not empty"):
        prepare(people_folder, tmp_path / "full")


def test_inputs_can_be_added_and_stay_where_they_were_dealt(people_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "set"
    first = prepare([people_folder / "anna.nii.gz", people_folder / "bert.nii.gz"], output, keep_names=True)
    second = prepare(people_folder / "carl.nii.gz", output, keep_names=True)
    dealt = {case.name: case.subset for case in first.manifest.cases}
    later = {case.name: case.subset for case in second.manifest.cases}
    assert second.prepared == 1
    assert set(later) == {"anna", "bert", "carl"}
    assert {name: later[name] for name in dealt} == dealt


def test_output_to_another_file_system(people_folder: Path, tmp_path: Path) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    fs = MemoryFileSystem()
    fs.pipe_file("/bucket/in/anna.nii.gz", (people_folder / "anna.nii.gz").read_bytes())
    fs.pipe_file("/bucket/in/damaged.nii.gz", b"\x1f\x8b nothing")
    request = PrepareRequest(
        ["memory://bucket/in"], "memory://bucket/out", settings=SETTINGS, workers=1, test_share=0.0
    )
    try:
        report = prepare_dataset(request)
        assert len(report.manifest.cases) == 1
        assert prepare_dataset(request).reused == 1
        store = Store("memory://bucket/out")
        assert set(thumbnails(store, report.manifest)) == {report.manifest.cases[0].name}
        fs.get("/bucket/out/", str(tmp_path / "copy"), recursive=True)
        PreparedDataset(tmp_path / "copy", "train").verify()
        assert [rejection.reason for rejection in report.manifest.rejected if "damaged" in rejection.reason]
    finally:
        fs.store.clear()


def test_remote_dicom_slices(people: list[Volume], tmp_path: Path) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    fs = MemoryFileSystem()
    as_dicom(tmp_path / "series", people[0])
    fs.put(str(tmp_path / "series"), "/archive/series", recursive=True)
    try:
        report = prepare("memory://archive", tmp_path / "set", test_share=0.0)  # type: ignore[arg-type]
    finally:
        fs.store.clear()
    assert report.manifest.cases[0].source_shape == (64, 64, 64)


def test_the_quality_page_shows_every_case_and_every_refusal(prepared: Path, people_folder: Path) -> None:
    manifest = load_manifest(prepared)
    pictures = thumbnails(Store(str(prepared)), manifest)
    values = manifest.model_dump(mode="json")
    values["rejected"] = [{"source": "scan-1", "reason": "<b>bad</b>"}]
    values["cases"][0]["warnings"] = ["slices of 9 mm"]
    page = render_quality_page(Manifest.model_validate(values), pictures)
    assert page.count("data:image/jpeg;base64,") == 3
    for words in ("anna", "bert", "carl", "slices of 9 mm", "&lt;b&gt;bad&lt;/b&gt;", "CC0", "RESEARCH ONLY"):
        assert words in page, words
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_manifest_is_plain_json(prepared: Path) -> None:
    values = json.loads((prepared / "dataset.json").read_text(encoding="utf-8"))
    assert values["notice"].startswith("SYNTHETIC")
    assert values["environment"]["packages"]["torch"]


Flip = Callable[[Volume], Volume]


@pytest.mark.parametrize(
    ("axis", "words"), [(0, "head and feet"), (1, "front and back"), (2, "dextrocardia")], ids=["head", "front", "side"]
)
def test_a_ct_that_is_not_as_its_file_says_is_flagged(people: list[Volume], axis: int, words: str) -> None:
    from xrecon.preparation.case import prepare_volume

    wrong = Volume(np.flip(people[0].hu, axis), people[0].affine)
    warnings = prepare_volume(wrong, SETTINGS).thorax.warnings
    assert any(words in text for text in warnings), warnings
    right = prepare_volume(people[0], SETTINGS).thorax.warnings
    assert not any("may be swapped" in text or "dextrocardia" in text for text in right), right


def test_lungs_outside_the_frame_are_flagged(people: list[Volume]) -> None:
    from xrecon.preparation.case import prepare_volume

    stretched = Volume.centred(people[0].hu, (14.0, 6.0, 6.0))
    warnings = prepare_volume(stretched, SETTINGS).thorax.warnings
    assert any("lie outside the 384 mm frame" in text for text in warnings), warnings
    assert not any("outside the" in text for text in prepare_volume(people[0], SETTINGS).thorax.warnings)


def test_shifted_hu_are_flagged(people: list[Volume]) -> None:
    from xrecon.preparation.case import prepare_volume

    warm = people[0].with_hu(people[0].hu + np.float32(70))
    warnings = prepare_volume(warm, SETTINGS).thorax.warnings
    assert sum("is the calibration right?" in text for text in warnings) >= 1, warnings
