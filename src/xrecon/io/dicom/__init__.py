"""DICOM in: CT series and films."""
