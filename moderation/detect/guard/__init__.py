"""Judges over the network, each as two pure functions: what goes out for a text, and what the answer to it says.

One file an engine (`qwen3guard`, `openai_moderation`, `aliyun`, `llm_judge`); `exchange` holds the nouns they share, `chat` what
two of them share of chat completions, `pieces` cuts texts at a service's limit, `acs3` signs, `pace` keeps a rate. None of them
sends anything, reads a clock or knows a policy: detect/remote.py sends.

They are strict. A word that is not in the engine's own format is no judgement but Unknown with the cause `invalid`: a guard that
was talked into chatting must not count as one that said "safe". No word of an answer, nor of a text, is kept or shown.
"""
