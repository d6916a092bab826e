"""A moderation sidecar for Qwen: reads every prompt and every answer, decides by a YAML policy, logs each decision.

Floors (imports point down only; tests/test_architecture.py enforces it):
0 nouns: text, verdict, errors. 1 pure leaves: normalise, sentence, act, wire/, audit/{canon,merkle,note,record}.
2 pure engine: policy/, detect/{api,regex,patterns,words,secrets,...}, stream. 3 adapters: detect/{run,pii}, upstream,
audit/{store,index,verify}, metrics. 4 assembly: config, flow, server, desk. 5: cli.
"""

__version__ = "0.1.0"
