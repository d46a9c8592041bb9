"""The projector's interchangeable ways to compute the same integrals."""
