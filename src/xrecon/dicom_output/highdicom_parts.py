"""What the writers that build on highdicom share: the optional package, and our own head on its instances."""

from __future__ import annotations

import importlib
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from xrecon.dicom_output.study import SeriesPlace, StudyContext, date_of, file_meta, put_shared_modules, time_of
from xrecon.errors import MissingPartError

_FOREIGN_ROOT = "1.2.826.0.1.3680043.10.511.3."
"""Root of the UIDs that highdicom invents."""


def highdicom() -> Any:
    """The package. Raises MissingPartError."""
    try:
        package: Any = importlib.import_module("highdicom")
    except ImportError as error:
        raise MissingPartError(
            "a DICOM segmentation or report needs the package highdicom, which is not installed: "
            "pip install 'xrecon[dicom]'"
        ) from error
    return package


def finish(instance: Dataset, study: StudyContext, place: SeriesPlace) -> Dataset:
    """The instance with our patient, study, equipment, times and head, and with UIDs of ours instead of highdicom's."""
    put_shared_modules(instance, study, place)
    instance.file_meta = file_meta(instance.SOPClassUID, instance.SOPInstanceUID)

    order: dict[str, str] = {}

    def replace(_dataset: Dataset, element: DataElement) -> None:
        if element.VR == "UI" and isinstance(element.value, str) and element.value.startswith(_FOREIGN_ROOT):
            name = order.setdefault(element.value, f"{place.name} inner {len(order) + 1}")
            element.value = study.mint.uid(name)
        elif element.keyword == "ContributionDateTime":  # highdicom's mention of itself
            element.value = date_of(study.written_at) + time_of(study.written_at)

    instance.walk(replace)
    return instance
