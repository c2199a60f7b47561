"""The engine: what a night buys, in which order, and how it is paid for exactly once.

`send.py` is the only place where a billable request leaves; `settle.py` the only one where a reply
becomes results and money.
"""
