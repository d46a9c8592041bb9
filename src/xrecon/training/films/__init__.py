"""Training of the film networks on a film library (`xrecon train films`)."""
