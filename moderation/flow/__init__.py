"""One request through the house: read, decide, log, act, forward, and the same for the answer.

`active` is the policy in force, `reading` judges texts, `ledger` writes decisions, `chat` carries one proxied call,
`streaming` carries a streamed answer. All of them take their clock, randomness and adapters as arguments.
"""
