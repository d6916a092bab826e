"""Wire formats: bytes to segments and back. Knows nothing of policies."""
