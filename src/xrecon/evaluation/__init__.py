"""How good a synthetic CT is: image metrics with their conventions, and tables over cases and models."""
