"""`segment`: from a chest CT to lungs and free pleural air by side. Here stands the order of the steps."""

from __future__ import annotations

from collections.abc import Callable

from xrecon.anatomy.body import find_body
from xrecon.anatomy.orientation import orientation_warnings
from xrecon.errors import InputError
from xrecon.ptxseg import plausibility
from xrecon.ptxseg.candidates.side_air import find_air
from xrecon.ptxseg.describe import describe, notes_for
from xrecon.ptxseg.hemithoraces.lung_models import resolve
from xrecon.ptxseg.hemithoraces.search import search
from xrecon.ptxseg.hemithoraces.sides import SIDE_NAMES
from xrecon.ptxseg.levels import edge_levels
from xrecon.ptxseg.refine import as_stored, onto_input
from xrecon.ptxseg.scan import read_scan
from xrecon.ptxseg.work_grid import working_grid
from xrecon.ptxseg.working_labels import working_labels
from xrecon.segmentation import Segmentation
from xrecon.volume import Volume

Progress = Callable[[str, float], None]
"""Called with the name of the step that begins and the share (0..1) of the work that is done."""


def segment(ct: Volume, *, lung_model: str = "auto", progress: Progress | None = None) -> Segmentation:
    """Find lungs and free pleural air in a chest CT, by side.

    Args:
        ct: HU, any orientation and spacing, measured or reconstructed.
        lung_model: what finds the hemithoraces: "auto" (the classical method; the network in smooth images, and for a
            collapsed lung that is dense), another name of `lung_models.names()`, or a folder of `xrecon train lungs`.
        progress: called at the beginning of every step.

    Returns:
        Labels on the grid of `ct` (0 background, 1 right lung, 2 left lung, 3 free pleural air) with the side of the
        air, and `findings`: levels, flags and every candidate (`segmentation.SegmentationDetails`). Only components of
        the kind "pneumothorax" are labelled 3.

    Raises:
        InputError: not a chest CT in HU, no lungs in it, or an unknown lung model.
        MissingPartError: the lung model needs a package or weights that are not installed.

    Example:
        >>> import xrecon
        >>> from xrecon.phantoms.thorax import thorax_phantom
        >>> segmentation = xrecon.segment(thorax_phantom(64, 6.0).volume, lung_model="classical")
        >>> segmentation.findings["lung_model"]
        'classical'
    """
    volume = ct.canonical()
    try:
        return _segmented(ct, volume, lung_model=lung_model, report=progress or _ignore)
    except InputError as error:
        turned = orientation_warnings(volume)
        if not turned:
            raise
        raise InputError("; ".join((str(error), *turned))) from error


def _segmented(ct: Volume, volume: Volume, *, lung_model: str, report: Progress) -> Segmentation:
    """The steps in their order; `volume` is `ct` in canonical orientation. Raises as `segment`."""
    entry = resolve(lung_model)
    report("checking", 0.0)
    plausibility.check_units(volume)
    model = entry.load()
    report("body", 0.02)
    body = find_body(volume)
    grid = working_grid(volume, body.box())
    inside = body.at(grid.nearest_voxels())
    report("airways", 0.2)
    scan = read_scan(grid, inside)
    report("lungs", 0.35)
    lungs = search(
        scan,
        inside,
        entry=entry,
        model=model,
        automatic=lung_model == "auto",
        on_collapse=lambda: report("collapsed lung", 0.5),
    )
    report("air", 0.65)
    air_by_side = find_air(scan, inside, lungs.chest.sides, lungs.levels)
    classes = working_labels(scan, lungs.chest.sides, air_by_side)
    report("boundary", 0.9)
    edges = [edge_levels(air_by_side[side].levels, min(volume.spacing_mm)) for side in SIDE_NAMES]
    fine = onto_input(scan.grid, classes, edges=edges, air_hu=scan.airways.air_hu)
    findings = describe(lungs.model, scan, lungs.chest, air_by_side=air_by_side, classes=classes)
    findings["warnings"] = list(orientation_warnings(volume))
    report("done", 1.0)
    return Segmentation(*as_stored(ct, fine, volume), ct.affine, findings, notes_for(ct, findings), ct.source_grid)


def _ignore(_step: str, _share: float) -> None:
    """Progress that nobody watches."""
