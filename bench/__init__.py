"""What the sidecar costs, measured beside a direct call and a bare pass-through (`make bench`, or `python -m bench.run --help`), and
whether anything grows (`make soak`)."""
