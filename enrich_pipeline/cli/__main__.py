"""python -m enrich_pipeline.cli: the `enrich` command where its script is not on the path."""

from enrich_pipeline.cli.main import main

main()
