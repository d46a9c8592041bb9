"""Training and test data: phantoms, planted findings, prepared cases."""
