"""Who finds the hemithoraces: the registry, edges from a network's shares, and the adapters to other packages."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from xrecon.anatomy.body import find_body
from xrecon.anatomy.morphology import Mask
from xrecon.errors import CheckpointError, InputError, MissingPartError
from xrecon.models import create_discriminator
from xrecon.models.checkpoint import save_model
from xrecon.models.lung_network import CoarseShares, LungNet, LungNetConfig
from xrecon.phantoms.thorax import Phantom, ThoraxParameters, thorax_phantom
from xrecon.ptxseg.airways import Airways, find_airways
from xrecon.ptxseg.hemithoraces.lung_models import AUTO, names, resolve
from xrecon.ptxseg.hemithoraces.lung_packages import LungmaskLungs, TotalSegmentatorLungs, lobe_sides, with_free_air
from xrecon.ptxseg.hemithoraces.lungs import Hemithoraces, with_sides
from xrecon.ptxseg.hemithoraces.net_lungs import NetLungs, hemithoraces_from_shares
from xrecon.ptxseg.pipeline import segment
from xrecon.segmentation import Label
from xrecon.volume import Volume

SPACING = (4.0, 4.0, 4.0)


class Chest:
    """The artificial thorax with air on the left, and what is known of it before its lungs are looked for."""

    def __init__(self) -> None:
        parameters = ThoraxParameters(noise_hu=10.0, pneumothorax_side="left", pneumothorax_ml=700.0)
        self.phantom: Phantom = thorax_phantom(96, 4.0, parameters=parameters)
        self.hu: NDArray[np.float32] = np.asarray(self.phantom.volume.hu)
        self.body: Mask = find_body(self.phantom.volume).at([np.arange(n) for n in self.hu.shape])
        self.airways: Airways = find_airways(self.hu, self.body, SPACING)
        labels = self.phantom.labels
        self.sides = np.where(labels == Label.AIR, np.uint8(2), labels)


@pytest.fixture(scope="module")
def chest() -> Chest:
    return Chest()


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return 2.0 * float((first & second).sum()) / max(1.0, float(first.sum() + second.sum()))


def blurred_shares(sides: NDArray[np.uint8]) -> CoarseShares:
    """What a network on a grid half as fine would say: block means."""
    d, h, w = sides.shape
    blocks = sides.reshape(d // 2, 2, h // 2, 2, w // 2, 2)
    right, left = ((blocks == side).mean(axis=(1, 3, 5), dtype=np.float32) for side in (1, 2))
    return CoarseShares(np.stack([1.0 - right - left, right, left]), (2.0, 2.0, 2.0), (0.5, 0.5, 0.5), (d, h, w))


def test_every_name_is_known_and_auto_is_one_of_them() -> None:
    assert names() == ("auto", "classical", "net", "lungmask", "totalsegmentator")
    assert resolve("auto").name == AUTO
    with pytest.raises(InputError, match="choose one of auto, classical, net"):
        resolve("lungs")


def test_coarse_shares_become_sharp_sides(chest: Chest) -> None:
    result = hemithoraces_from_shares(
        blurred_shares(chest.sides), chest.hu, body=chest.body, airways=chest.airways, spacing=SPACING
    )
    assert result.missing is None
    for side in (1, 2):
        assert dice(result.sides == side, chest.sides == side) > 0.97
    assert (result.sides[chest.phantom.labels == Label.AIR] == 2).mean() > 0.97


def with_filled_lung(chest: Chest, value: float) -> tuple[NDArray[np.float32], Mask]:
    """The chest with the lower third of the left lung at one HU, and where that is."""
    hu = chest.hu.copy()
    lung = chest.phantom.labels == Label.LEFT_LUNG
    rows = np.flatnonzero(lung.any(axis=(1, 2)))
    filled = lung.copy()
    filled[: rows[0] + 2 * len(rows) // 3] = False
    hu[filled] = value
    return hu, filled


def test_lung_without_air_belongs_to_its_side(chest: Chest) -> None:
    """A third of the left lung is filled: no threshold finds it, the network's shares do."""
    hu, filled = with_filled_lung(chest, 40.0)
    result = hemithoraces_from_shares(
        blurred_shares(chest.sides), hu, body=chest.body, airways=chest.airways, spacing=SPACING
    )
    assert (result.sides[filled] == 2).mean() > 0.8
    assert dice(result.sides == 2, chest.sides == 2) > 0.94


def test_one_side_alone_is_the_same_as_of_both(chest: Chest) -> None:
    hu, _ = with_filled_lung(chest, 40.0)
    shares = blurred_shares(chest.sides)
    two_sides = hemithoraces_from_shares(shares, hu, body=chest.body, airways=chest.airways, spacing=SPACING)
    for side in (1, 2):
        alone = hemithoraces_from_shares(
            shares, hu, body=chest.body, airways=chest.airways, spacing=SPACING, searched=[side]
        )
        assert np.array_equal(alone.sides, np.where(two_sides.sides == side, two_sides.sides, 0))
        assert alone.missing is None


def test_the_box_of_a_side_holds_all_of_its_shares(chest: Chest) -> None:
    shares = blurred_shares(chest.sides)
    fine = shares.fine()
    box = shares.box([2], least=0.08)
    assert box is not None
    np.testing.assert_allclose(shares.fine(box), fine[(slice(None), *box)], atol=1e-6)
    outside = fine[2].copy()
    outside[box] = 0.0
    assert outside.max() <= 0.08
    assert np.prod([part.stop - part.start for part in box]) < 0.5 * fine[2].size
    assert shares.box([0], least=1.5) is None


def test_fat_is_no_lung_without_air(chest: Chest) -> None:
    """What the network takes for lung beside the heart, but is as light as fat, is left out."""
    hu, fat = with_filled_lung(chest, -80.0)
    result = hemithoraces_from_shares(
        blurred_shares(chest.sides), hu, body=chest.body, airways=chest.airways, spacing=SPACING
    )
    assert (result.sides[fat] == 2).mean() < 0.35


def test_lung_with_specks_of_air_is_no_fat(chest: Chest) -> None:
    """Of the mean HU of fat, but uneven: lung that has lost most of its air."""
    hu, speckled = with_filled_lung(chest, -80.0)
    hu[speckled] += np.random.default_rng(0).normal(0.0, 120.0, int(speckled.sum()))
    result = hemithoraces_from_shares(
        blurred_shares(chest.sides), hu, body=chest.body, airways=chest.airways, spacing=SPACING
    )
    assert (result.sides[speckled] == 2).mean() > 0.8


def test_without_hemithorax_there_is_no_lung(chest: Chest) -> None:
    shares = blurred_shares(np.zeros_like(chest.sides))
    with pytest.raises(InputError, match="no lungs found"):
        hemithoraces_from_shares(shares, chest.hu, body=chest.body, airways=chest.airways, spacing=SPACING)


def test_a_network_of_another_kind_is_refused(tmp_path: Path) -> None:
    judge = create_discriminator("plain", base_channels=2)
    folder = save_model(judge, tmp_path / "judge", name="x", training_data="x", licence="x")
    with pytest.raises(CheckpointError, match="family 'discriminator', expected a lung network"):
        NetLungs(folder)


def test_a_network_in_a_folder_is_taken_by_its_path(chest: Chest, tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = save_model(
        LungNet(LungNetConfig(channels=(4, 6), pitch_mm=8.0)),
        tmp_path / "run",
        name="x",
        training_data="x",
        licence="x",
    )
    model = resolve(str(folder)).load()
    assert isinstance(model, NetLungs)
    assert model.information.name == "x"
    try:  # untrained: anything but a wrong shape or another error will do
        sides = model(chest.phantom.volume, body=chest.body, airways=chest.airways).sides
        assert sides.shape == chest.hu.shape
    except InputError as error:
        assert "no lungs found" in str(error)
    with pytest.raises(MissingPartError, match="xrecon train lungs"):
        NetLungs(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError):
        NetLungs(tmp_path / "empty")


def test_free_air_joins_the_lungs_of_a_package(chest: Chest) -> None:
    lungs = np.where(chest.phantom.labels <= 2, chest.phantom.labels, np.uint8(0))
    result = with_free_air(lungs, chest.hu, body=chest.body, airways=chest.airways, spacing=SPACING)
    for side in (1, 2):
        assert dice(result.sides == side, chest.sides == side) > 0.97
    with pytest.raises(InputError, match="another grid"):
        with_free_air(lungs[1:], chest.hu, body=chest.body, airways=chest.airways, spacing=SPACING)


@pytest.mark.parametrize("name", ["lungmask", "totalsegmentator"])
def test_an_absent_package_is_named_with_its_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPartError, match=f"(?i)pip install {name}"):
        resolve(name).load()


def test_lungmask_runs_with_weights_of_its_architecture(
    chest: Chest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real package with random weights of its true network: the way there and back, not its quality."""
    pytest.importorskip("lungmask.mask", reason="the package lungmask is not installed")
    from lungmask.resunet import UNet

    torch.manual_seed(0)
    network = UNet(n_classes=3, padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False)
    torch.save(network.state_dict(), tmp_path / "random.pth")
    monkeypatch.setenv("XRECON_LUNGMASK_WEIGHTS", str(tmp_path / "absent.pth"))
    with pytest.raises(MissingPartError, match=r"absent\.pth"):
        LungmaskLungs()
    monkeypatch.setenv("XRECON_LUNGMASK_WEIGHTS", str(tmp_path / "random.pth"))
    part = Volume(chest.hu[4::20], np.asarray(chest.phantom.volume.affine) @ np.diag([20.0, 1.0, 1.0, 1.0]))
    model = resolve("lungmask").load()
    result = model(part, body=chest.body[4::20], airways=find_airways(part.hu, chest.body[4::20], part.spacing_mm))
    assert result.sides.shape == part.shape
    assert set(np.unique(result.sides)) <= {0, 1, 2}


def test_totalsegmentator_takes_what_we_give_it() -> None:
    """Its weights are no part of the package, so that only the call itself can be checked here."""
    api = pytest.importorskip("totalsegmentator.python_api", reason="the package TotalSegmentator is not installed")
    model = TotalSegmentatorLungs()
    assert sorted(model._sides.values()) == [1, 1, 1, 2, 2]
    assert all(lobe.startswith("lung_") for lobe in model._lobes)
    inspect.signature(api.totalsegmentator).bind(
        None, None, fast=True, roi_subset=model._lobes, device="cpu", quiet=True, skip_saving=True
    )


def test_lobes_by_side() -> None:
    assert lobe_sides({1: "spleen", 4: "lung_upper_lobe_left", 7: "lung_lower_lobe_right"}) == {4: 2, 7: 1}
    with pytest.raises(InputError, match="no lobes"):
        lobe_sides({1: "spleen", 2: "lung_upper_lobe_left"})


def test_the_shipped_network_segments_the_artificial_thorax(chest: Chest) -> None:
    result = segment(chest.phantom.volume, lung_model="net")
    assert result.findings["lung_model"] == "net"
    truth = chest.phantom.labels
    for label in (Label.RIGHT_LUNG, Label.LEFT_LUNG, Label.AIR):
        assert dice(result.labels == label, truth == label) > 0.85


def test_only_the_named_side_is_completed_and_nothing_is_taken_away() -> None:
    chest = Hemithoraces(np.array([[[0, 1, 0, 0, 2, 0]]], dtype=np.uint8), "left")
    other = Hemithoraces(np.array([[[1, 2, 1, 2, 1, 2]]], dtype=np.uint8), None)
    result = with_sides(chest, other, [2])
    assert result.sides.ravel().tolist() == [0, 1, 0, 2, 2, 2]
    assert result.missing is None
    assert with_sides(chest, other, []).missing == "left"
