"""Hostile input by the million: mutated inputs against the parsers and readers, each with a law that must hold. `make fuzz`."""
