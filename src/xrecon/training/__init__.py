"""Training: what is learned, from which cases, and the loop that learns it."""
