"""How commands speak: results on stdout, everything else on stderr, progress where it helps."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

_PLAIN_EVERY_SECONDS = 10.0


def out() -> Console:
    """Results. Not a terminal: no colours, and lines as long as they are."""
    return _console(stderr=False)


def err() -> Console:
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr, highlight=False, markup=False, width=None if stream.isatty() else 160
    )


def error(message: str) -> None:
    """One line per problem."""
    for line in message.splitlines() or [""]:
        err().print(f"Error: {line}", style="red", soft_wrap=True)


def warn(message: str) -> None:
    err().print(f"Warning: {message}", style="yellow", soft_wrap=True)


def note(message: str) -> None:
    err().print(message, soft_wrap=True)


def table(title: str, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> Table:
    """A table whose columns after the first are figures."""
    shown = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    for index, name in enumerate(columns):
        shown.add_column(name, justify="left" if index == 0 else "right")
    for row in rows:
        shown.add_row(*("" if cell is None else str(cell) for cell in row))
    return shown


@contextmanager
def working(what: str) -> Iterator[Callable[[str, int | None, int | None], None]]:
    """Show that something is going on: a bar on a terminal, else a line now and then.

    Gives a function that takes what is done now, and how many of how many where that is known.
    """
    console = err()
    if not console.is_terminal:
        yield _plain(console, what)
        return
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    with progress:
        task = progress.add_task(what, total=None, counts="")

        def show(text: str, done: int | None = None, total: int | None = None) -> None:
            counts = "" if done is None else f"{done:,}" + (f" / {total:,}" if total else "")
            progress.update(task, description=text, completed=done or 0, total=total, counts=counts)

        yield show


def _plain(console: Console, what: str) -> Callable[[str, int | None, int | None], None]:
    console.print(f"{what} ...", soft_wrap=True)
    shown_at = time.monotonic()
    last = ""

    def show(text: str, done: int | None = None, total: int | None = None) -> None:
        nonlocal shown_at, last
        line = text if done is None else f"{text}: {done:,}" + (f" of {total:,}" if total else "")
        if line != last and time.monotonic() - shown_at >= _PLAIN_EVERY_SECONDS:
            console.print(line, soft_wrap=True)
            shown_at, last = time.monotonic(), line

    return show


def credits_of(micro: int) -> str:
    """Micro-credits as credits, exactly."""
    text = f"{Decimal(micro) / 1_000_000:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
