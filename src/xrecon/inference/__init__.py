"""From two films to a CT with any model, and how far to trust it."""
