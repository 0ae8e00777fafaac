"""Everything that knows MRML: volumes in, nodes out. The engine knows nothing of it."""
