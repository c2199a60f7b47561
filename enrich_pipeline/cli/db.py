"""enrich db: the embedded database opened for a BI tool on this machine, and closed again."""

import socket

import click
from sqlalchemy import URL

from enrich_pipeline.cli import session, terminal
from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.settings import Settings
from enrich_pipeline.store import bi_login, embedded
from enrich_pipeline.store.door import Door

_PORT = 5433


@click.group()
def command() -> None:
    """Let a BI tool on this machine read the embedded database.

    It listens on no port unless it was opened. Opened, one login reads schema analytics (or
    analytics_masked, without the values of persons) over 127.0.0.1, and nobody else comes in.

    \b
    Examples:
      enrich db open
      enrich db open --role masked --port 5500
      enrich db status
      enrich db close
    """


@command.command("open")
@click.option("--port", type=click.IntRange(1024, 65535), default=_PORT, show_default=True)
@click.option(
    "--role",
    "kind",
    type=click.Choice(["reader", "masked"]),
    default="reader",
    show_default=True,
    help="reader sees everything in analytics, masked no values of persons.",
)
def open_command(port: int, kind: str) -> None:
    """Open the database on 127.0.0.1 and print the address with a new password, once.

    The login only reads, has ten connections and a minute per statement. Opening restarts the
    server, so that nothing else may be connected; it stays open until `enrich db close` or the
    server's next start. Opened again, the password before is void.

    \b
    Examples:
      enrich db open
      enrich db open --role masked
    """
    role = f"bi_{kind}"
    settings = _embedded_only(role)
    with session.database(settings) as engine:
        with engine.connect() as connection:
            is_open = bi_login.port(connection) == port
        if not is_open:
            _refuse_busy(bi_login.others(engine))
            _refuse_taken(port)
        with engine.begin() as connection:
            password = bi_login.make(connection, role)
    if not is_open:
        with terminal.working("Restarting the embedded database"):
            embedded.restart(settings.home, Door(port, embedded.DATABASE, bi_login.LOGIN))
    address = URL.create(
        "postgresql", bi_login.LOGIN, password, "127.0.0.1", port, embedded.DATABASE
    )
    terminal.out().print(address.render_as_string(hide_password=False), soft_wrap=True)
    terminal.note(
        f"Reads schema {bi_login.SCHEMAS[role]} from this machine, until `enrich db close`. "
        "The password is shown this once."
    )


@command.command("close")
def close_command() -> None:
    """Take the login away, end its sessions and close the port. Repeatable.

    \b
    Examples:
      enrich db close
    """
    settings = _embedded_only("bi_reader")
    with session.database(settings) as engine:
        with engine.begin() as connection:
            bi_login.remove(connection)
            port = bi_login.port(connection)
        others = 0 if port is None else bi_login.others(engine)
    if port is not None and others:
        terminal.out().print(
            f"The login is gone: nobody comes in on port {port} any more. {others} other sessions "
            "use the database, so the port itself closes when the server next starts, or with "
            "`enrich db close` once they have ended."
        )
        return
    if port is not None:
        with terminal.working("Restarting the embedded database"):
            embedded.restart(settings.home)
    terminal.out().print("Closed: the database listens on no port.")


@command.command("status")
def status_command() -> None:
    """Say whether the database is open, on which port and for what.

    \b
    Examples:
      enrich db status
    """
    settings = _embedded_only("bi_reader")
    role, port, own = None, None, 0
    if embedded.is_running(settings.home):
        with session.database(settings) as engine, engine.connect() as connection:
            role, own = bi_login.role(connection), bi_login.sessions(connection)
            port = bi_login.port(connection)
    if port is None:
        terminal.out().print("Closed: the database listens on no port.")
    elif role is None:
        terminal.out().print(f"Locked: port {port} is still there, and no login may come in.")
    else:
        terminal.out().print(
            f"Open on 127.0.0.1:{port}: {bi_login.LOGIN} reads schema {bi_login.SCHEMAS[role]}, "
            f"{own} sessions now."
        )


def _embedded_only(role: str) -> Settings:
    settings = session.load()
    if not settings.is_embedded:
        raise ConfigurationError(
            "ENRICH_DATABASE_URL names a server of your own, which is not opened from here; "
            f"give a login of it the role instead: GRANT {role} TO your_login"
        )
    return settings


def _refuse_busy(others: int) -> None:
    if others:
        raise ConfigurationError(
            f"{others} other sessions use the database, and opening restarts it: "
            "wait for runs to end, stop `enrich dev` and `dagster dev`, then open it again"
        )


def _refuse_taken(port: int) -> None:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        raise ConfigurationError(
            f"port {port} of 127.0.0.1 is taken: name another one with --port"
        ) from None
