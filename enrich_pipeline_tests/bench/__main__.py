"""`python -m enrich_pipeline_tests.bench marts --contacts 1000000`: runs one benchmark.

Prints its figures. Where one of them misses its target it says so and exits with 1.
"""

import argparse
import signal
import sys
import time
from importlib import import_module

from rich.console import Console
from rich.table import Table

from ..campaigns.figures import Figures

BENCHES = ("contenders", "latency", "marts", "overlap", "rates", "scale", "selection")
"""Each is a module of this package with `add_arguments(parser)` and `run(arguments) -> Figures`."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="name", required=True)
    for name in BENCHES:
        module = import_module(f"{__package__}.{name}")
        module.add_arguments(
            commands.add_parser(
                name,
                description=module.__doc__,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )
    chosen = parser.parse_args()
    # Told to end, it still stops its server.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    figures: Figures = import_module(f"{__package__}.{chosen.name}").run(chosen)
    figures.note("seconds", round(time.monotonic() - started, 1))
    table = Table(title=f"bench {chosen.name}", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for figure, value in figures.values.items():
        table.add_row(figure, f"{value:,}" if isinstance(value, int) else str(value))
    Console().print(table)
    for violation in figures.violations:
        print(f"MISSED  {violation}")
    return 1 if figures.violations else 0


if __name__ == "__main__":
    sys.exit(main())
