"""Detectors: text in, findings out. `api` is the contract, `run` the only way in from above."""
