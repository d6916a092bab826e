"""The decision log: pure leaves (canon, merkle, note, record) and the adapters that write, index, verify."""
