"""Writing: one file atomically, several files of one command all together or not at all."""
