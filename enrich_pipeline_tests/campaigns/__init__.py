"""Campaigns: each promise about money and data, put to the proof by many seeded runs.

One module per campaign, with `run(scale, seed) -> Figures`; `python -m` this package runs one by
name. What they count and check is `figures` and `checks`; what they do is real: processes that are
killed, servers that restart, connections that break.
"""
