"""enrich sandbox: the five simulated providers, a program of its own."""

import click

from enrich_pipeline.cli import terminal
from enrich_pipeline.sandbox import __main__ as sandbox


class _PassedOn(click.Command):
    """The sandbox reads its own options; its help is shown below ours."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        parser = sandbox.parser()
        parser.prog = "enrich sandbox"
        formatter.write_paragraph()
        formatter.write(parser.format_help().partition("\n\n")[2])


@click.command(
    cls=_PassedOn,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def command(options: tuple[str, ...]) -> int:
    """Serve the five providers as their documents describe them, with a charge meter.

    Point the pipeline at it with ENRICH_<PROVIDER>_BASE_URL=http://127.0.0.1:8799/<provider> and
    any API key. Nothing it charges is real.

    \b
    Examples:
      enrich sandbox
      enrich sandbox --port 9000 --directory crm.csv --latency-ms 200
      curl http://127.0.0.1:8799/_sandbox/meter
    """
    terminal.note("Serving the simulated providers; Ctrl-C ends it")
    return sandbox.main(options)
