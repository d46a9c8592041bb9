"""The hemithoraces: the methods that find them, and how right and left are told apart."""
