"""The public names of DESIGN as a script of a user has them: `import xrecon` and nothing deeper, on small data."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
import torch

import xrecon
from support.training_runs import small_dataset

REPOSITORY = Path(__file__).resolve().parents[2]


def test_from_a_ct_over_two_films_to_a_measured_reconstruction(phantom64_file: Path, tmp_path: Path) -> None:
    ct = xrecon.load_ct(phantom64_file)
    pa, lateral = xrecon.simulate(ct, size=64)
    assert isinstance(pa, xrecon.Radiograph)
    rec = xrecon.reconstruct(pa, lateral, model="pca", size=64)
    assert isinstance(rec, xrecon.Reconstruction)
    same = xrecon.image_metrics(rec.volume, rec.volume)
    assert same.mae_hu == 0.0
    saved = xrecon.load_ct(rec.volume.save(tmp_path / "ct.nii.gz"))
    assert xrecon.image_metrics(rec.volume, saved).mae_hu < 0.51  # files hold whole HU


def test_a_planted_pneumothorax_is_found_and_measured(phantom64_file: Path) -> None:
    sick, truth = xrecon.plant_pneumothorax(xrecon.load_ct(phantom64_file), side="right", occupancy=0.4, seed=0)
    assert isinstance(truth, xrecon.Segmentation)
    segmentation = xrecon.segment(sick, lung_model="classical")
    measured = xrecon.occupancy(segmentation)
    assert measured.right == pytest.approx(xrecon.occupancy(truth).right, abs=0.1)
    assert measured.left < 0.1
    assert measured.whole_chest > 0.1


def test_projection_and_backprojection_are_adjoint() -> None:
    beam = xrecon.ConeBeam.preset("chest", "pa", size=16)
    rng = torch.Generator().manual_seed(0)
    mu = torch.rand((1, 1, 16, 16, 16), generator=rng)
    film = torch.rand((1, 1, 16, 16), generator=rng)
    spacing = (24.0, 24.0, 24.0)
    forward = (xrecon.project(mu, spacing, beam) * film).sum()
    back = (xrecon.backproject(film, (16, 16, 16), spacing, beam) * mu).sum()
    assert forward.item() == pytest.approx(back.item(), rel=1e-4)


def test_a_prepared_set_augments_trains_and_reconstructs(phantom64_file: Path, tmp_path: Path) -> None:
    folder = small_dataset(tmp_path / "set")
    data = xrecon.PreparedDataset(folder, "train")
    from xrecon.augmentation import AugmentConfig

    augmenter = xrecon.Augmenter(AugmentConfig(), size=data.size, frame_mm=data.frame_mm, beams=data.beams)
    sample = augmenter(data[0].load(), 0)
    assert sample.ct.shape == (64, 64, 64)
    slim = {
        "size": 64,
        "stem_channels": 4,
        "growth": 4,
        "dense_layers": [1] * 5,
        "decoder_channels": [2, 2, 4, 4, 8, 8],
    }
    run = xrecon.train(
        {
            "name": "slim",
            "generator": {"name": "xrecon", "settings": slim},
            "discriminator": {"name": "coordconv", "settings": {"base_channels": 4}},
            "data": {"path": str(folder), "workers": 0},
            "losses": {"projection_pixels": 24},
            "run": {"steps": 1, "tensorboard": False},
        },
        output=tmp_path / "run",
        device="cpu",
    )
    assert run.model is not None
    pa, lateral = xrecon.simulate(xrecon.load_ct(phantom64_file), size=64)
    rec = xrecon.reconstruct(pa, lateral, model=str(run.model), size=64)
    assert rec.volume.shape == (64, 64, 64)


def test_models_are_evaluated_on_a_folder_of_cts(phantom64_file: Path, tmp_path: Path) -> None:
    report = xrecon.evaluate(
        phantom64_file.parent, output=tmp_path / "out", models=["atlas"], baselines=False, anatomy=False
    )
    assert "atlas" in report.table
    assert {row.model for row in report.results.rows} == {"atlas"}
    assert (tmp_path / "out" / "summary.json").is_file()


def test_networks_by_name_take_two_films() -> None:
    channels = {"stem_channels": 4, "growth": 4, "decoder_channels": (2, 2, 4, 4, 8, 8)}
    network = xrecon.models.create("xrecon", size=64, dense_layers=(1, 1, 1, 1, 1), **channels).eval()
    film = torch.zeros((1, 1, 64, 64))
    with torch.no_grad():
        assert network(film, film).shape == (1, 1, 64, 64, 64)


@pytest.mark.parametrize("name", sorted(xrecon._HOME))
def test_every_parameter_of_a_public_function_is_documented(name: str) -> None:
    value = getattr(xrecon, name)
    text = inspect.getdoc(value) or ""
    if inspect.isclass(value):
        assert len(text.splitlines()[0]) > 20
        return
    for parameter in inspect.signature(value).parameters:
        assert re.search(rf"\b{parameter}\b", text), f"xrecon.{name}: the docstring does not name {parameter!r}"
    assert "Raises" in text or "Example" in text


def test_examples_and_readme_need_no_deep_imports() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert blocks
    scripts = sorted((REPOSITORY / "examples").glob("*.py"))
    assert scripts
    for text in [*blocks, *(script.read_text(encoding="utf-8") for script in scripts)]:
        for node in ast.walk(ast.parse(text)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for module in names:
                assert module.partition(".")[0] != "xrecon" or module.count(".") <= 1, f"{module} is a deep import"
