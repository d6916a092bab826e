"""Policies: YAML to a compiled Policy, and the one function that decides."""
