"""The anatomy of a chest CT that everything shares: the body, its frame, healthy lungs, and morphology in mm."""
