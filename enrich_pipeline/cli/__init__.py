"""The `enrich` command: a thin layer over the library, one file per command."""
