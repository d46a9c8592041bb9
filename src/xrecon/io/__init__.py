"""Files to plain arrays and back. Nothing here knows of volumes' meaning, projectors or networks."""
