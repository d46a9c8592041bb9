"""Films: simulated from a CT, and as the networks see them."""
