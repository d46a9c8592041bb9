"""Steps that change the tissue of the chest, and the scanner that saw it."""
