"""enrich load-contacts: a contact file into the database."""

from datetime import UTC, datetime
from pathlib import Path

import click

from enrich_pipeline.cli import session, terminal
from enrich_pipeline.intake.load import LoadSummary, load_file


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--rejects",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where bad rows go, with the reason (default: FILE.rejects.csv).",
)
def command(file: Path, rejects: Path | None) -> None:
    """Load contacts from FILE (CSV or Parquet) into crm.contacts.

    Columns that are missing are fine, unknown ones are named and ignored. A value that cannot be
    understood is left out with a reason, a row without an id goes to the rejects file, the rest
    loads. Loading a file again changes nothing.

    \b
    Examples:
      enrich load-contacts crm.csv
      enrich load-contacts export.parquet --rejects /tmp/rejects.csv
    """
    settings = session.load()
    with session.database(settings) as engine, terminal.working(f"Loading {file.name}") as show:
        summary = load_file(
            engine,
            file,
            settings.policy,
            datetime.now(UTC),
            rejects,
            lambda rows: show(f"Loading {file.name}", rows, None),
        )
    _tell(summary)


def _tell(summary: LoadSummary) -> None:
    out = terminal.out()
    if summary.encoding_notice:
        terminal.warn(summary.encoding_notice)
    if summary.ignored_columns:
        terminal.warn(f"unknown columns are ignored: {', '.join(summary.ignored_columns)}")
    out.print(
        f"{summary.read:,} rows read: {summary.inserted:,} new, {summary.updated:,} updated, "
        f"{summary.unchanged:,} unchanged, {summary.skipped_older:,} older than what is stored, "
        f"{sum(summary.rejected.values()):,} rejected."
    )
    for reason, count in summary.rejected.items():
        out.print(f"  rejected: {reason} {count:,}")
    if summary.rejects_path:
        out.print(f"  see {summary.rejects_path}")
    if summary.values_left_out:
        out.print("Values left out, by reason (the raw rows are kept):")
        for reason, count in summary.values_left_out.items():
            out.print(f"  {reason} {count:,}")
    out.print(
        f"{summary.persons:,} persons; {summary.joined:,} contacts joined with others, "
        f"{summary.suspected_duplicates:,} suspected duplicates listed."
    )
