"""A real archive: Orthanc from Debian on the loopback interface, with a folder of its own, for the time of a test."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
AE_TITLE = "ARCHIVE"
_START_S = 60.0


@dataclass(frozen=True)
class Orthanc:
    """Where a running archive answers."""

    dicom_port: int
    http_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def dicomweb_url(self) -> str:
        return f"{self.url}/dicom-web"

    def ask(self, path: str) -> Any:
        """What the REST interface answers."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def instances(self) -> set[str]:
        """SOP Instance UIDs of everything that is stored."""
        rows = self.ask("/instances?expand")
        return {row["MainDicomTags"]["SOPInstanceUID"] for row in rows}

    def clear(self) -> None:
        for name in self.ask("/patients"):
            request = urllib.request.Request(f"{self.url}/patients/{name}", method="DELETE")
            urllib.request.urlopen(request, timeout=30).close()


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


@contextlib.contextmanager
def running_orthanc(folder: Path, *, peers: dict[str, int] | None = None) -> Iterator[Orthanc]:
    """Start the archive, wait until it answers, and stop it at the end. Skips where it is not installed.

    Args:
        folder: for its data, log and settings.
        peers: AE title to port of those that it may send to.
    """
    binary = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if binary is None:
        pytest.skip("Orthanc is not installed (Debian package orthanc)")
    if not PLUGIN.exists():
        pytest.skip("the DICOMweb plugin of Orthanc is not installed (Debian package orthanc-dicomweb)")
    archive = Orthanc(free_port(), free_port())
    settings = {
        "Name": "test", "StorageDirectory": str(folder / "data"), "IndexDirectory": str(folder / "data"),
        "HttpPort": archive.http_port, "DicomPort": archive.dicom_port, "DicomAet": AE_TITLE,
        "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}, "DicomAlwaysAllowGet": True, "DicomAlwaysAllowFind": True,
        "DicomModalities": {name: [name, "127.0.0.1", port] for name, port in (peers or {}).items()},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen([binary, str(folder / "orthanc.json")], stdout=log, stderr=log)
        try:
            _wait(archive, process, folder / "log.txt")
            yield archive
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(archive: Orthanc, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError):
            archive.ask("/system")
            return
        time.sleep(0.1)
    raise RuntimeError(f"Orthanc did not start:\n{log.read_text()[-2000:]}")
