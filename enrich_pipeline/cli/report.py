"""enrich report: one night as a page to read in the morning."""

from datetime import UTC, datetime
from pathlib import Path

import click

from enrich_pipeline.cli import session, terminal
from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.reports.morning import file, page
from enrich_pipeline.reports.morning.sentences import sentences


@click.command()
@click.option(
    "--date",
    "given_day",
    type=click.DateTime(["%Y-%m-%d"]),
    help="The night (default: the last one).",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write (default: reports/DATE.html in ENRICH_HOME).",
)
def command(given_day: datetime | None, out: Path | None) -> None:
    """Write one night as a web page: what it found, what it cost, what needs a person.

    One file without a network, for any browser, to mail or to keep. It holds contact ids and the
    names of companies, no other value of a person. `enrich refresh` writes it as well.

    \b
    Examples:
      enrich report
      enrich report --date 2026-11-20 --out night.html
    """
    settings = session.load()
    day = given_day.date() if given_day else None
    with session.database(settings) as engine:
        report = page.read(engine, settings.policy, day, datetime.now(UTC))
    path = (out or file.path_of(settings.home, report.day)).resolve()
    try:
        size = file.write(path, page.render(report))
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {path}: {error.strerror}; name another --out"
        ) from None
    shown = terminal.out()
    for sentence in sentences(report.figures):
        shown.print(sentence, soft_wrap=True)
    shown.print(f"{path} ({size / 1000:,.0f} kB)", soft_wrap=True)
