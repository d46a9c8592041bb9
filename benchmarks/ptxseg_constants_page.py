"""Write docs/results/ptx-seg-constants.md: every constant of PTX-Seg, what it decides, and where it comes from.

Value and description are read from the source, where the description stands below the constant. The origin is kept
here.

    python benchmarks/ptxseg_constants_page.py            # write the page
    python benchmarks/ptxseg_constants_page.py --check    # fail if it is out of date
"""

from __future__ import annotations

import argparse
import ast
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import xrecon

PAGE = Path(__file__).resolve().parent.parent / "docs" / "results" / "ptx-seg-constants.md"
STEPS = {
    "Check": ("ptxseg.plausibility",),
    "Body": ("anatomy.body",),
    "Working grid and what is measured on it": ("ptxseg.work_grid", "ptxseg.scan", "ptxseg.levels"),
    "Airways": ("ptxseg.airways",),
    "Hemithoraces": (
        "ptxseg.hemithoraces.lungs",
        "ptxseg.hemithoraces.sides",
        "ptxseg.hemithoraces.net_lungs",
        "ptxseg.hemithoraces.lung_packages",
        "ptxseg.hemithoraces.collapse",
    ),
    "Candidates": ("ptxseg.candidates.air", "ptxseg.candidates.pleural_line", "ptxseg.flood"),
    "Judgement": (
        "ptxseg.candidates.features",
        "ptxseg.candidates.border",
        "ptxseg.candidates.necks",
        "ptxseg.candidates.steepness",
        "ptxseg.judge",
        "ptxseg.candidates.side_air",
    ),
    "Labels and findings": ("ptxseg.working_labels", "ptxseg.describe"),
}
"""Modules by the step that they serve, in the order of the pipeline."""
CODES = {"RIGHT", "LEFT", "AIR_CLASS", "_LUNG", "_AIR", "_WINDPIPE", "_CHEST", "_THREADS"}
"""Numbers that stand for something and decide nothing."""
UNITS = {
    "HU": "HU",
    "MM": "mm",
    "MM2": "mm2",
    "CM2": "cm2",
    "ML": "mL",
    "SHARE": "share",
    "VOXELS": "voxels",
    "REACH": "voxels",
    "NOISE": "times the noise",
    "CONFIDENCE": "0 to 1",
}
"""Unit by the last word of a name."""
BY_DESIGN = "by design"

_CONTOURS = "Manual contours of aerated lung lie a little outside it."
_HELD_OUT = "Chosen on train cases, those held out from the network among them."
_BULGE = (
    "Planted in train cases, `benchmarks/ptxseg_limits.py`: pockets of 600 mL have 0.44 to 0.54 lung round the "
    "border (smaller ones up to 0.69) and 54 % or more of their surface on the wall; bullae of 120 and 400 mL "
    "0.53 to 0.59, and at most 33 %."
)
_FILMS = (
    "Planted in train cases, `benchmarks/ptxseg_pleura.py --bins 10 20`: what was found of pockets of 10 to 32 mL "
    "is at most 5.4 mm deep."
)
_SMOOTH = (
    "Chosen on train cases at 4 and 6 mm: thin lung, and what `deform` makes of healthy chests, is less empty and "
    "less even there."
)
_FAT = (
    "Collapses planted in train cases: without a limit up to 57 mL of lung were lost (case_007), without the rule "
    "fat of the hilum was gained."
)
ORIGIN = {
    "ptxseg.candidates.steepness.SHARP_SLOPE_SHARE": "Cases 121 and 122 reconstructed with exact maps.",
    "ptxseg.judge._SHARP_EDGE_SHARE": "As `SHARP_SLOPE_SHARE`.",
    "ptxseg.judge._BELOW_AIR_HU": "Reconstructions of train cases have -26 to -45 HU there; real air is not below.",
    "ptxseg.judge._DOME_SHEET_HU": "Cases 003, 005, 007, 118, 121: raised diaphragms and loculated pockets.",
    "ptxseg.judge._DOME_TOP": "As `_DOME_SHEET_HU`.",
    "ptxseg.judge._DOME_SPHERICITY": "As `_DOME_SHEET_HU`.",
    "ptxseg.judge._DOME_DEPTH_MM": "As `_DOME_SHEET_HU`.",
    "ptxseg.plausibility._SMOOTH_EDGE_MM": "Stored CTs of about 2 mm have edges of 3 to 6 mm.",
    "ptxseg.work_grid._COARSEST_MM": "In the prototype interpolating finer axes gained less than it cost in time.",
    "ptxseg.airways.TRACHEAL_AIR_HU": "Train cases show -946 to -993 HU in the windpipe.",
    "ptxseg.hemithoraces.lungs.CLOSE_MM": "As in manual contours, which hold vessels to about 9 mm.",
    "ptxseg.hemithoraces.lungs.EDGE_HU": _CONTOURS,
    "ptxseg.hemithoraces.net_lungs._DENSE_OPEN_MM": (
        "Of 3.5, 4.5 and 5 mm in 42 planted train pockets 3.5 has the highest Dice of lung, by 0.001; 4.5 keeps a "
        "voxel's erosion on grids of 4 mm. `benchmarks/ptxseg_constants.py --constant "
        "hemithoraces.net_lungs._DENSE_OPEN_MM --values 3.5 4.5 5`."
    ),
    "ptxseg.hemithoraces.net_lungs._DENSE_SHARE": _HELD_OUT,
    "ptxseg.hemithoraces.net_lungs._FAT_SPREAD_HU": _FAT,
    "ptxseg.hemithoraces.net_lungs._FAT_SPREAD_NOISE": _FAT,
    "ptxseg.hemithoraces.collapse.COMPRESSED_HU": _HELD_OUT,
    "ptxseg.hemithoraces.collapse._DARK_SHARE": f"Planted collapses of train cases have 0.35 to 0.9. {_HELD_OUT}",
    "ptxseg.candidates.air._MIN_BLURRED_WALL_SHARE": (
        "Train cases at slices of 2.5 mm, `benchmarks/ptxseg.py --slices 2.5`: the pocket of case_101 that is "
        "missed without it has 0.42."
    ),
    "ptxseg.candidates.pleural_line.LINE_HU": "Planted in train cases, `benchmarks/ptxseg_pleura.py`.",
    "ptxseg.candidates.necks._NECK_MM": "Planted in train cases beside bullae: with 4.5 and 6 mm the same bullae part.",
    "ptxseg.judge._AIRLESS_STEP_HU": "The lung behind the stomach of train case_013 rises by 218 HU.",
    "ptxseg.judge._HALF_BALL_WALL_SHARE": "Geometry: of half a ball's surface of 3 pi r2 the flat face is pi r2.",
    "ptxseg.judge._INTO_LUNG_SHARE": _BULGE,
    "ptxseg.judge.MOSTLY_WALL_SHARE": _BULGE,
    "ptxseg.judge._SMALL_ML": _FILMS,
    "ptxseg.judge._BROAD_MM": _FILMS,
    "ptxseg.judge._SMOOTH_DEEP_MM": _SMOOTH,
    "ptxseg.judge._SMOOTH_PURE_SHARE": _SMOOTH,
    "ptxseg.judge._SMOOTH_SPREAD_HU": _SMOOTH,
    "ptxseg.judge._SMOOTH_WALL_SHARE": (
        "Planted in train cases, at 6 and 4 mm and blurred, `benchmarks/ptxseg_limits.py`: of what passes the "
        "other rules 56 pockets have 0.57 to 0.85 of their surface on the wall, 24 bullae 0.45 to 0.55."
    ),
    "ptxseg.working_labels._COMPRESSED_CLOSE_MM": (
        "Of 5, 7, 9 and 12 mm in 42 planted train pockets the first two have the highest Dice of lung and most "
        "occupancies within one point (39; 38 and 37 with the others); 12 takes fat of the hilum. "
        "`benchmarks/ptxseg_constants.py`."
    ),
    "ptxseg.working_labels._STRAY_SHARE": (
        "The dome of the diaphragm in train case_011 has less. With the rule 39 of 42 planted train pockets are "
        "within one point of the occupancy, without it 38, and lung has a higher Dice. "
        "`benchmarks/ptxseg_constants.py`."
    ),
    "ptxseg.describe.DETECTION_LIMIT_ML": (
        "`benchmarks/ptxseg.py --bins 10 20 45`: planted pockets of 45 mL were found in 14 of 14 train and 4 of 4 "
        "test CTs, of 10 to 32 mL in 21 of 28 train CTs."
    ),
    "ptxseg.describe.FAR_APART_LIMIT_ML": (
        "Train cases at slices of 2.5 mm, `benchmarks/ptxseg.py --slices 2.5`: of 90 mL 12 of 14 pockets were "
        "found, of 200 mL all 6; at 5 mm all 14."
    ),
}
"""Where a constant comes from, by module and name, if anything was measured for it."""

HEAD = f"""# Constants of PTX-Seg

Every number that decides something in [PTX-Seg](../ptx-seg.md), by step. Written by
`python benchmarks/ptxseg_constants_page.py`: values and descriptions are those of the source, a test compares them.

Pockets, bullae and collapses are planted ([planting](../planting.md)); train and test cases are those of
`configs/splits/shared-data.yaml`. What was measured to choose a constant was measured on train cases. "{BY_DESIGN}" is
what follows from the anatomy, the physics or the arithmetic that the description names, or was set when the step was
written: no measurement of it is recorded. `python benchmarks/ptxseg_constants.py --constant MODULE.NAME --values ...`
makes one.
"""


@dataclass(frozen=True)
class Constant:
    """One number, or several, of a module of xrecon: its name, value and what it decides."""

    module: str
    name: str
    value: object
    description: str

    @property
    def key(self) -> str:
        """Module and name."""
        return f"{self.module}.{self.name}"

    @property
    def unit(self) -> str:
        """Unit, by the last word of the name."""
        return UNITS.get(self.name.rpartition("_")[2], "")

    @property
    def value_text(self) -> str:
        """The value as it stands on the page."""
        numbers = self.value if isinstance(self.value, tuple) else (self.value,)
        return ", ".join(f"{number:g}" for number in numbers)

    @property
    def row(self) -> str:
        """Its line of the table."""
        cells = (f"`{self.name}`", self.value_text, self.unit, self.description, ORIGIN.get(self.key, BY_DESIGN))
        return f"| {' | '.join(cells)} |"


def constants_of(module: str) -> Iterator[Constant]:
    """The numbers that a module of xrecon names in capitals, in the order of the source.

    Raises:
        SystemExit: a number without a description.
    """
    path = Path(xrecon.__file__).parent.joinpath(*module.split(".")).with_suffix(".py")
    values = vars(importlib.import_module(f"xrecon.{module}"))
    pending: list[str] = []
    for node in [*ast.parse(path.read_text(encoding="utf-8")).body, None]:
        if isinstance(node, ast.Assign):
            pending += [name for name in _names(node) if name not in CODES and _is_number(values[name])]
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            for name in pending:
                yield Constant(module, name, values[name], " ".join(node.value.value.split()))
        elif pending:
            raise SystemExit(f"{path.name}: {', '.join(pending)}: say below the constant what it decides")
        pending = []


def _names(node: ast.Assign) -> list[str]:
    targets = [part for target in node.targets for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return [target.id for target in targets if isinstance(target, ast.Name) and target.id.isupper()]


def _is_number(value: object) -> bool:
    numbers = value if isinstance(value, tuple) else (value,)
    return all(isinstance(number, (int, float)) for number in numbers)


def page() -> str:
    """The whole page.

    Raises:
        SystemExit: a constant without a description, or an origin of one that does not exist.
    """
    parts = [HEAD]
    keys = set()
    for step, modules in STEPS.items():
        parts.append(f"## {step}\n")
        for module in modules:
            constants = list(constants_of(module))
            if not constants:
                continue
            keys |= {constant.key for constant in constants}
            head = ("| constant | value | unit | what it decides | where it comes from |", "|---|--:|---|---|---|")
            file = f"`{module.replace('.', '/')}.py`"
            parts.append("\n".join([file, "", *head, *(constant.row for constant in constants), ""]))
    unknown = sorted(set(ORIGIN) - keys)
    if unknown:
        raise SystemExit(f"ORIGIN names constants that do not exist: {', '.join(unknown)}")
    return "\n".join(parts)


def main() -> None:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is out of date")
    if not parser.parse_args().check:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page(), encoding="utf-8")
        print(PAGE)
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page():
        raise SystemExit(f"{PAGE.name} is out of date: run python benchmarks/ptxseg_constants_page.py")


if __name__ == "__main__":
    main()
