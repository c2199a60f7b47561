"""The rules of enrichment as pure functions and values: no input or output, time is an argument."""
