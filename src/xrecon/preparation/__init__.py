"""From anybody's CTs to a prepared data set: find, check, frame, project, label, write; on one machine or many."""
