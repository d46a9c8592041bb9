"""Results as DICOM: CT series, segmentation, structured report, secondary capture. Writers know no command line."""
