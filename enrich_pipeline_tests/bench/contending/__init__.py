"""What people would use instead of this pipeline, one module each; `contenders` runs them.

Each is a program of its own that finds `night.json` in its folder (see `asking.Night`).
"""
