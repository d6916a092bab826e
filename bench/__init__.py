"""What the sidecar costs beside a direct call and a bare pass-through (`make bench`, or `python -m bench.run --help`), where its
time goes (`python -m bench.profile`), and whether anything grows (`make soak`, or `python -m bench.soak --help`)."""
