"""Production of a film library: varied chests, planted air, projection, exact thickness maps."""
