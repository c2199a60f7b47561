"""The group of commands, and the exit code and one line for everything that can go wrong.

0 done; 3 done, with results still pending; 2 wrong usage or configuration; 1 failed.
"""

import importlib
import sys
from collections.abc import Sequence

import click

from enrich_pipeline.cli import log, terminal
from enrich_pipeline.domain.errors import ConfigurationError, EnrichError

DONE, FAILED, USAGE, OPEN = 0, 1, 2, 3

_COMMANDS = {
    "init": "Bring the database up, migrate it and write .env.",
    "load-contacts": "Load contacts from a CSV or Parquet file.",
    "refresh": "Run the nightly job for a date.",
    "status": "Coverage, freshness, spend, pending and in doubt.",
    "report": "Write a night as a page to read in the morning.",
    "reconcile": "Compare the ledger with what the providers report.",
    "in-doubt": "List what is in doubt; settle it with evidence.",
    "invariants": "Check the books against themselves.",
    "alerts": "Say what needs a person, through your channels.",
    "pause": "Stop all sending; what is in flight settles.",
    "resume": "End a pause.",
    "lock": "Keep the CRM's own value of a contact's field.",
    "unlock": "Let a locked value be enriched again.",
    "split": "Part contacts that were taken for one human.",
    "suppress": "Never enrich somebody again.",
    "erase": "Erase a person everywhere, and keep the person out.",
    "export-person": "Write down all that is known of a person, with sources.",
    "prune": "Remove what is kept longer than configured.",
    "db": "Open the embedded database to a BI tool; close it.",
    "webhooks": "Receive webhook deliveries.",
    "sandbox": "Serve the five simulated providers.",
    "dev": "Run everything together with Dagster's UI.",
    "demo": "Play a whole night on simulated providers.",
}
"""In the order in which somebody new needs them; each is a module of this package."""


class _Commands(click.Group):
    """Imports a command when it is used, so that the others do not slow it down."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = f"enrich_pipeline.cli.{cmd_name.replace('-', '_')}"
        command: click.Command = importlib.import_module(module).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="enrich-pipeline", prog_name="enrich")
def enrich() -> None:
    """Keep CRM contacts true: a nightly job over paid providers that never pays twice.

    \b
    First steps:
      enrich demo                       a whole night on simulated providers
      enrich init                       database up, .env written
      enrich load-contacts crm.csv      your contacts in
      enrich refresh --dry-run          what tonight would cost
      enrich refresh                    tonight

    Exit codes: 0 done; 3 done, with results still pending; 2 wrong usage or
    configuration; 1 failed.
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and give its exit code; every failure is one line on stderr."""
    try:
        result = enrich.main(
            args=None if arguments is None else list(arguments),
            prog_name="enrich",
            standalone_mode=False,
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        terminal.error("interrupted; what was started is continued by the next run")
        return FAILED
    except ConfigurationError as error:
        terminal.error(str(error))
        return USAGE
    except EnrichError as error:
        terminal.error(str(error))
        return FAILED
    except BrokenPipeError:
        return FAILED
    except Exception as error:  # noqa: BLE001  (the last resort: told by class, kept by place)
        where = log.unexpected(error)
        terminal.error(f"unexpected {type(error).__name__}; where it happened is in {where}")
        return FAILED
    return result if isinstance(result, int) else DONE


def main() -> None:
    sys.exit(run())
