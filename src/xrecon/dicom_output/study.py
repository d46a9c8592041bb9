"""What every instance of one result shares: patient, study, sources, UIDs, time; and the modules that say so."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from xrecon import __version__
from xrecon.dicom_output.identifiers import IMPLEMENTATION_UID, UidMint, hidden_uid
from xrecon.dicom_output.origin import PATIENT_KEYWORDS, STUDY_KEYWORDS, ImageReference, Origin
from xrecon.errors import InputError
from xrecon.volume import RESEARCH_NOTICE

MANUFACTURER = "The xrecon authors"
MODEL_NAME = "xrecon"
MEASURED_NOTICE = "RESEARCH ONLY / NOT FOR DIAGNOSIS"
"""Of a CT that was measured, not computed; everything else is synthetic."""
SOURCE_IMAGE = ("121322", "DCM", "Source image for image processing operation")
_EMPTY_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_EMPTY_STUDY = ("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName")
_PSEUDONYM_LETTERS = 12


@dataclass(frozen=True, eq=False)
class StudyContext:
    """Patient, study and sources of one result.

    Attributes:
        identity: elements of the patient and study modules, StudyInstanceUID included.
        images: source images to refer to, with the UIDs that may be written.
        frame_of_reference: UID of the room that the source CT and the result share.
        mint: gives the UIDs of what is written.
        written_at: time of creation.
        keeps_identity: the identity is the source's; else it is a pseudonym.
    """

    identity: Dataset
    images: tuple[ImageReference, ...]
    frame_of_reference: str
    mint: UidMint
    written_at: datetime
    keeps_identity: bool


def study_context(
    origin: Origin | None,
    *,
    digest: str,
    keep_identity: bool = False,
    mint: UidMint | None = None,
    written_at: datetime | None = None,
) -> StudyContext:
    """The study that a result is written into.

    With `keep_identity` it is the study of the source, with its patient. Otherwise patient and study are new: the
    pseudonym comes from the content of the input alone, and the UIDs of sources are replaced by digests of them, so
    that whoever holds a source can tell that it belongs to the result, and no one else can.

    Args:
        origin: where the result comes from; None where that is no DICOM.
        digest: SHA-256 of the inputs' content.
        keep_identity: copy patient and study.
        mint: gives the UIDs; default random ones.
        written_at: default now.

    Raises:
        InputError: the identity is to be kept, and the input has none.
    """
    mint = mint or UidMint()
    written_at = written_at or datetime.now()
    if keep_identity:
        if origin is None or not origin.identity.get("PatientID") or not origin.identity.get("StudyInstanceUID"):
            raise InputError(
                "--keep-identity: the input states no patient and study (PatientID (0010,0020), StudyInstanceUID "
                "(0020,000D)); give DICOM that does, or leave --keep-identity out"
            )
        room = origin.frame_of_reference or mint.uid("frame of reference")
        return StudyContext(origin.identity, origin.images, room, mint, written_at, True)
    images = () if origin is None else tuple(_hidden(image) for image in origin.images)
    room = "" if origin is None else origin.frame_of_reference
    room = hidden_uid(room) if room else mint.uid("frame of reference")
    return StudyContext(_pseudonym(digest, mint, written_at), images, room, mint, written_at, False)


def _hidden(image: ImageReference) -> ImageReference:
    return ImageReference(image.sop_class, *map(hidden_uid, (image.instance, image.series, image.study)))


def _pseudonym(digest: str, mint: UidMint, written_at: datetime) -> Dataset:
    letters = digest[:_PSEUDONYM_LETTERS].upper()
    identity = Dataset()
    identity.PatientName, identity.PatientID = f"XRECON^{letters}", f"XRECON-{letters}"
    identity.StudyID = "1"
    identity.StudyInstanceUID = mint.uid("study")
    identity.StudyDate, identity.StudyTime = date_of(written_at), time_of(written_at)
    identity.StudyDescription = RESEARCH_NOTICE
    return identity


def joint_digest(digests: Sequence[str]) -> str:
    """One SHA-256 of several, in their order."""
    return hashlib.sha256("\n".join(digests).encode("ascii")).hexdigest()


def date_of(moment: datetime) -> str:
    """Value of a DA element."""
    return moment.strftime("%Y%m%d")


def time_of(moment: datetime) -> str:
    """Value of a TM element, seconds."""
    return moment.strftime("%H%M%S")


@dataclass(frozen=True)
class SeriesPlace:
    """One series of a result.

    Attributes:
        name: part of the result, for its UIDs.
        number: SeriesNumber.
        modality: Modality.
        description: what it is, in at most 18 letters; the notice follows.
        synthetic: the values were computed, not measured.
    """

    name: str
    number: int
    modality: str
    description: str
    synthetic: bool = True

    @property
    def notice(self) -> str:
        """What the series says of its use."""
        return RESEARCH_NOTICE if self.synthetic else MEASURED_NOTICE


def new_instance(study: StudyContext, series: SeriesPlace, sop_class: str, *, number: int) -> FileDataset:
    """A data set with the modules that all instances share: SOP common, patient, study, series, equipment."""
    uid = study.mint.uid(f"{series.name} instance {number}")
    instance = FileDataset("", {}, file_meta=file_meta(sop_class, uid), preamble=b"\0" * 128)
    instance.SOPClassUID, instance.SOPInstanceUID = sop_class, uid
    instance.Modality = series.modality
    instance.InstanceNumber = str(number)
    put_shared_modules(instance, study, series)
    return instance


def file_meta(sop_class: str, uid: str) -> FileMetaDataset:
    """The head of a file in Explicit VR Little Endian."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(sop_class), UID(uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = f"XRECON_{__version__}"[:16]
    return meta


def put_shared_modules(instance: Dataset, study: StudyContext, series: SeriesPlace) -> None:
    """Write patient, study, series, equipment and times into an instance, over whatever is there."""
    instance.SpecificCharacterSet = "ISO_IR 192"
    for keyword in (*_EMPTY_PATIENT, *_EMPTY_STUDY):
        setattr(instance, keyword, "")
    for keyword in (*PATIENT_KEYWORDS, *STUDY_KEYWORDS):
        if keyword in study.identity:
            setattr(instance, keyword, study.identity.get(keyword))
    if not study.keeps_identity:
        instance.PatientIdentityRemoved = "YES"
        instance.DeidentificationMethod = "xrecon: new patient and study, source UIDs replaced by digests"
    instance.SeriesInstanceUID = study.mint.uid(f"{series.name} series")
    instance.SeriesNumber = str(series.number)
    instance.SeriesDescription = f"{series.description}; {series.notice}"[:64]
    instance.Manufacturer, instance.ManufacturerModelName = MANUFACTURER, MODEL_NAME
    instance.DeviceSerialNumber = instance.SoftwareVersions = f"xrecon-{__version__}"
    instance.InstanceCreationDate = date_of(study.written_at)
    instance.InstanceCreationTime = time_of(study.written_at)
    instance.ContentDate, instance.ContentTime = date_of(study.written_at), time_of(study.written_at)
    instance.SeriesDate, instance.SeriesTime = date_of(study.written_at), time_of(study.written_at)


def source_items(study: StudyContext) -> list[Dataset]:
    """Items of Source Image Sequence."""
    items = []
    for image in study.images:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.sop_class, image.instance
        item.PurposeOfReferenceCodeSequence = [code_item(*SOURCE_IMAGE)]
        items.append(item)
    return items


def code_item(value: str, scheme: str, meaning: str) -> Dataset:
    """An item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item
