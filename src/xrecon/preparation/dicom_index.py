"""The DICOM series in a list of files or a zip, read from headers only, and the choice of one series per study."""

from __future__ import annotations

import contextlib
import warnings
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xrecon.errors import InputError
from xrecon.io.dicom.grouping import LEAST_STACK, ImageHeader, Stack, image_header, stacks_of
from xrecon.io.dicom.pixels import guarded
from xrecon.io.dicom.slices import COMPUTED, DicomFile, dicom_file, files_in_zip, rejection
from xrecon.io.dicom.unused import UnusedFile
from xrecon.io.guards.archives import open_zip


@dataclass
class DicomIndex:
    """The headers of DICOM files. Holds identifiers: lives in memory only, and is never written.

    Attributes:
        images: CT images.
        skipped: how many files are no CT image, by reason.
        damaged: places of files whose header cannot be read to its end.
        unused: files of a zip that are no DICOM.
    """

    images: list[ImageHeader] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    damaged: list[str] = field(default_factory=list)
    unused: list[UnusedFile] = field(default_factory=list)

    def merge(self, other: DicomIndex) -> None:
        """Add what another part of the files holds."""
        self.images += other.images
        self.skipped += other.skipped
        self.damaged += other.damaged
        self.unused += other.unused


def index_files(paths: Sequence[str]) -> DicomIndex:
    """Index local DICOM files."""
    entries = []
    for path in paths:
        with Path(path).open("rb") as stream:
            entries.append(dicom_file(Path(path), stream.read(1024)))
    return _index(entries)


def index_zip(path: Path) -> DicomIndex:
    """Index the DICOM members of a zip. Raises InputError for a damaged or hostile one."""
    unused: list[UnusedFile] = []
    with contextlib.ExitStack() as stack:
        archive: zipfile.ZipFile = stack.enter_context(open_zip(path))
        index = _index(files_in_zip(archive, path, unused))
    index.unused = unused
    return index


def _index(entries: Iterable[DicomFile]) -> DicomIndex:
    index = DicomIndex()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of every odd value, also of those that nobody uses
        for entry in entries:
            try:
                with guarded(entry.name):
                    header = entry.header()
                    reason = rejection(header, entry.name)
                    if reason is None:
                        index.images.append(image_header(entry.name, header))
                    else:
                        index.skipped[reason] += 1
            except InputError:
                index.skipped["damaged header"] += 1
                index.damaged.append(entry.name)
    return index


@dataclass(frozen=True)
class SeriesChoice:
    """What `choose_series` decided about the series of an index.

    Attributes:
        stacks: all series, in the order in which a reader lists them.
        taken: to be prepared.
        left: the others, each with the reason.
    """

    stacks: tuple[Stack, ...]
    taken: tuple[Stack, ...]
    left: tuple[tuple[Stack, str], ...]

    def series_name(self, stack: Stack) -> str:
        """What `load_ct(series=...)` takes to read just this series: its UID, or its place in the list."""
        uid = stack.first.series
        shared = sum(other.first.series == uid for other in self.stacks) > 1
        return f"#{self.stacks.index(stack) + 1}" if shared or not uid else uid

    def scan_name(self, stack: Stack) -> str:
        """What a pseudonym of the scan is made of: the UID, with all that tells it from another series of this UID."""
        first = stack.first
        if self.series_name(stack) == first.series:
            return first.series
        return "\0".join((first.series, *first.patient, first.study, first.frame_of_reference, first.folder))

    def patient_name(self, stack: Stack) -> str:
        """What a pseudonym of the patient is made of: the ID; with name and date of birth where two share an ID.

        A patient without an ID is as many patients as studies (without a study UID: as series or folders): better two
        names for one than one name for two.
        """
        first = stack.first
        shown = _patient_label(first)
        namesakes = {other.first.patient for other in self.stacks if _patient_label(other.first) == shown}
        return shown if len(namesakes) == 1 else "\0".join((shown, *first.patient))


def _patient_label(image: ImageHeader) -> str:
    """The ID of the patient, or what stands for it; for pseudonyms only."""
    return image.patient_id or f"study {image.study or image.series or image.folder}"


def choose_series(index: DicomIndex, *, every: bool) -> SeriesChoice:
    """Of each study the original axial series with most images, or (`every`) all of them."""
    stacks = tuple(stacks_of(index.images))
    damaged = Counter(place.rpartition("/")[0] for place in index.damaged)
    taken: list[Stack] = []
    left: list[tuple[Stack, str]] = []
    studies: dict[tuple[object, str], list[Stack]] = defaultdict(list)
    for stack in sorted(stacks, key=lambda stack: stack.first.series):
        broken = sum(damaged[folder] for folder in {image.folder for image in stack.images})
        if broken:
            # A slice that cannot be read would be a hole in the volume, or an end that nobody misses.
            reason = f"{broken} files of its folder are truncated or damaged DICOM headers; copy the series again"
            left.append((stack, reason))
        elif stack.count < LEAST_STACK:
            left.append((stack, f"a series of {stack.count} images: an overview, no volume"))
        elif not stack.axial:
            left.append((stack, "not axial: a reformatted series of the study"))
        else:
            first = stack.first
            studies[first.patient, first.study or first.series or first.folder].append(stack)
    for group in studies.values():
        best = max(group, key=lambda stack: stack.preference)
        for stack in group:
            if stack is best or (every and (stack.rank < COMPUTED or best.rank == COMPUTED)):
                taken.append(stack)
            else:
                left.append((stack, _why_not(stack, best)))
    return SeriesChoice(stacks, tuple(taken), tuple(left))


def _why_not(stack: Stack, best: Stack) -> str:
    if stack.rank == COMPUTED and best.rank < COMPUTED:
        return "derived images (ImageType): the original series of the study was taken"
    counts = f"{best.count} images against {stack.count}"
    return f"another series of the same study was taken ({counts}); --every-series takes all"
