"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from xrecon.inference.models import model_names


class GeometryName(str, Enum):
    """Presets of `xrecon.geometry`."""

    CHEST = "chest"
    X2CT = "x2ct"
    PROST = "prost"


class PhysicsName(str, Enum):
    """Presets of `xrecon.projector.physics`."""

    LINEAR = "linear"
    CLINICAL = "clinical"


class SubsetName(str, Enum):
    """Subsets of a prepared data set and of a split; `xrecon.data.split.Subset`."""

    TRAIN = "train"
    TEST = "test"
    AUX = "aux"


MODEL_HELP = f"{', '.join(model_names())}, or the folder of a trained network"
"""What `--model` takes, from the table of models."""

CasesOption = Annotated[
    Path, typer.Option("--dataset", metavar="FOLDER", help="Data set of `xrecon prepare`, or a folder of CT files.")
]
CasesSplitOption = Annotated[
    Path | None,
    typer.Option(
        "--split",
        metavar="FILE",
        help="For CT files: YAML with the lists train and test; by default all CTs of the folder are test cases.",
    ),
]
WorkersOption = Annotated[int, typer.Option("--workers", min=1, help="Cases at a time (more than 1 needs Dask).")]
SchedulerOption = Annotated[
    str | None, typer.Option("--scheduler", metavar="ADDRESS", help="Run on this Dask cluster.")
]
ProcessesOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes on this machine; default: by cores and memory.")
]
ClusterOption = Annotated[
    str | None,
    typer.Option("--scheduler", metavar="ADDRESS", help="Compute on the Dask cluster of this scheduler instead."),
]
PaFilmOption = Annotated[Path, typer.Option("--pa", metavar="FILE", help="PA film: PNG, JPEG, TIFF or DICOM.")]
LateralFilmOption = Annotated[Path, typer.Option("--lateral", metavar="FILE", help="Lateral film of the same patient.")]
PixelOption = Annotated[
    float | None,
    typer.Option("--pixel-mm", min=0.01, max=20.0, help="Pixel pitch of both films at the detector, mm."),
]
InvertOption = Annotated[
    bool | None, typer.Option("--invert/--no-invert", help="Dense tissue is dark / bright in the files.")
]
MirrorPaOption = Annotated[bool, typer.Option("--mirror-pa", help="The PA film is hung mirrored.")]
MirrorLateralOption = Annotated[
    bool, typer.Option("--mirror-lateral", help="The lateral film faces right: front on the image's right.")
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Take the films as they are, even if they look swapped, alike or no chest.")
]
FilmNetworksOption = Annotated[
    str | None,
    typer.Option(
        "--film-networks",
        metavar="default|none|DIR",
        help="Networks that look for free air on both films: the shipped ones, none, or a folder of trained ones.",
    ),
]
OutputFolderOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write to; made if absent.")
]
GeometryOption = Annotated[
    GeometryName, typer.Option("--geometry", help="Preset of distances and detector, for films that do not state them.")
]
SimulatedGeometryOption = Annotated[
    GeometryName, typer.Option("--geometry", help="Preset of the distances and the detector of the simulated films.")
]
SizeOption = Annotated[
    int, typer.Option("--size", min=64, max=256, help="Voxels per edge of the 384 mm cube that is reconstructed.")
]
GivenGeometryOption = Annotated[
    GeometryName | None,
    typer.Option(
        "--geometry",
        help="Preset of the films simulated from CT files; default chest. A data set has films of its own.",
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help="Device to compute on: cpu, cuda, cuda:1, mps.")]
AssetsOption = Annotated[
    Path | None,
    typer.Option("--assets", metavar="FILE", help="Priors made by `xrecon train priors`; default: the shipped ones."),
]
LungModelOption = Annotated[
    str,
    typer.Option(
        "--lung-model",
        metavar="NAME",
        help="Method that finds the lungs: auto, classical, net, lungmask, totalsegmentator, or the folder of a run of "
        "`xrecon train lungs`. auto takes the most accurate one for the CT.",
    ),
]
"""The names of `xrecon.ptxseg.hemithoraces.lung_models`, which are too heavy to import here."""
DicomOption = Annotated[
    bool, typer.Option("--dicom", help="Also write DICOM, into the folder dicom (docs/dicom-conformance.md).")
]
KeepIdentityOption = Annotated[
    bool,
    typer.Option(
        "--keep-identity",
        help="With --dicom: write into the study of the DICOM input, with its patient; otherwise under a pseudonym.",
    ),
]
BurnInOption = Annotated[
    bool, typer.Option("--burn-in", help="With --dicom: draw the notice into the pixels of every slice.")
]
SplitOption = Annotated[
    Path | None,
    typer.Option("--split", metavar="FILE", help="YAML with the lists train and test; only train cases are used."),
]


@dataclass(frozen=True)
class DicomChoice:
    """What a command writes as DICOM beside its files.

    Attributes:
        subfolder: name of the folder of DICOM files; "" where none are written.
        keep_identity: write into the study of the input.
        burn_in: draw the notice into the slices.
    """

    subfolder: str
    keep_identity: bool
    burn_in: bool

    def summary(self, output: Path) -> dict[str, Path]:
        """What `--json` says of it."""
        return {"dicom": output / self.subfolder} if self.subfolder else {}


def dicom_choice(dicom: bool, *, keep_identity: bool, burn_in: bool, segments: bool) -> DicomChoice:
    """The choice of `--dicom` and what belongs to it.

    Args:
        dicom: `--dicom`.
        keep_identity: `--keep-identity`.
        burn_in: `--burn-in`.
        segments: the command also writes a segmentation, which needs highdicom.

    Raises:
        InputError: an option that means nothing without `--dicom`.
        MissingPartError: highdicom is not installed.
    """
    from xrecon.errors import InputError

    for given, name in ((keep_identity, "--keep-identity"), (burn_in, "--burn-in")):
        if given and not dicom:
            raise InputError(f"{name} concerns DICOM output: add --dicom, or leave it out")
    if not dicom:
        return DicomChoice("", False, False)
    from xrecon.dicom_output.result import FOLDER, check_installed

    if segments:
        check_installed()
    return DicomChoice(FOLDER, keep_identity, burn_in)


def chosen_cases(folder: Path, split: Path | None) -> tuple[tuple[str, Path], ...]:
    """(name, path) of the train cases of the split in `folder`; without a split, of all CTs in it.

    Raises:
        InputError: as `xrecon.data.split.cases_in` and `xrecon.data.ct_folder.find_cases`.
        ConfigError: the split cannot be read, or lists a case twice.
    """
    from xrecon.config import load_config
    from xrecon.data.ct_folder import find_cases
    from xrecon.data.split import Split, cases_in

    return find_cases(folder) if split is None else cases_in(folder, load_config(Split, split), "train")
