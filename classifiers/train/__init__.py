"""The steps that make a classifier: each runs as `python -m classifiers.train.<step>` and says more with `--help`."""
