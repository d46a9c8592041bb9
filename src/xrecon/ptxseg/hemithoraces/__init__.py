"""Who finds the hemithoraces, and how right and left are told apart."""
