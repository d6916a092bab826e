"""What the sidecar costs beside a direct call and a bare pass-through (`make bench`, or `python -m bench.run --help`), and whether
anything grows (`make soak`, or `python -m bench.soak --help`)."""
