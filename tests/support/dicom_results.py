"""A small chest with its labels, and its result as DICOM, for the tests of writers, readers and archives."""

from __future__ import annotations

import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from xrecon.dicom_output.identifiers import UidMint
from xrecon.dicom_output.origin import Origin
from xrecon.dicom_output.result import DicomResult, Measured, dicom_result
from xrecon.dicom_output.study import StudyContext, study_context
from xrecon.quantify.findings import build_findings
from xrecon.segmentation import Segmentation
from xrecon.volume import CANONICAL, Volume

SPACING_MM = (5.0, 2.0, 1.5)
ORIGIN_MM = (-30.0, -41.0, 123.5)
WHEN = datetime(2026, 1, 2, 3, 4, 5)
RIGHT_MARKER, AIR_LEFT = (3, 6, 5), (4, 9, 33)
"""[D, H, W] of a bright voxel at the patient's right, front, top; and of a voxel of free air on the left."""


def small_chest(*, tilt_deg: float = 0.0) -> tuple[Volume, Segmentation]:
    """A synthetic CT [16, 24, 40] and its labels: two lungs, free air in front of the left one, one bright voxel."""
    hu = np.full((16, 24, 40), -1000.0, dtype=np.float32)
    hu[1:15, 3:21, 3:37] = 40
    labels = np.zeros(hu.shape, dtype=np.uint8)
    labels[3:13, 6:18, 7:17], labels[3:13, 12:18, 23:34] = 1, 2
    labels[3:13, 6:12, 23:34] = 3
    hu[labels > 0] = -850.4
    hu[labels == 3] = -1003.6
    hu[RIGHT_MARKER] = 1234
    affine = np.eye(4)
    turn = np.deg2rad(tilt_deg)
    rotation = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    affine[:3, :3] = rotation @ CANONICAL * np.array(SPACING_MM)
    affine[:3, 3] = ORIGIN_MM
    air_side = np.where(labels == 3, 2, 0).astype(np.uint8)
    return Volume(hu, affine, synthetic=True), Segmentation(labels, air_side, affine)


def small_study(origin: Origin | None = None, *, keep_identity: bool = False, key: str = "test") -> StudyContext:
    return study_context(
        origin, digest="0123456789abcdef" * 4, keep_identity=keep_identity, mint=UidMint(key), written_at=WHEN
    )


def small_result(study: StudyContext | None = None, *, tilt_deg: float = 0.0) -> DicomResult:
    """CT, segmentation, report and preview of `small_chest`."""
    volume, segmentation = small_chest(tilt_deg=tilt_deg)
    picture = np.random.default_rng(0).integers(0, 256, (31, 47, 3), dtype=np.uint8)
    return dicom_result(
        volume,
        study or small_study(),
        description="CT from two films",
        measured=Measured(segmentation, build_findings(segmentation)),
        preview=picture,
    )


def program(name: str, package: str) -> str:
    """The path of a program of a Debian package; the test skips where it is absent."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed (Debian package {package})")
    return path


def said_by(*command: str | Path) -> str:
    """Both outputs of a program that must succeed."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
