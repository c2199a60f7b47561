"""A way into the embedded server over TCP, for one login: what the server is told when it starts.

On the command line and not in its settings: the next start knows nothing of a door.
"""

from dataclasses import dataclass
from pathlib import Path

_ADDRESS = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Door:
    """A port of 127.0.0.1 through which one login comes in by its password, and nobody else."""

    port: int
    database: str
    login: str

    def settings(self, data: Path) -> dict[str, str]:
        """What the server that keeps its files in `data` is started with."""
        return {
            "listen_addresses": _ADDRESS,
            "port": str(self.port),
            "hba_file": str(self._rules(data)),
        }

    def write_rules(self, data: Path) -> Path:
        """Write who may connect: as ever by the socket, by TCP the login and nobody else."""
        rules = self._rules(data)
        rules.write_text(
            "local all all trust\n"
            f"host {self.database} {self.login} {_ADDRESS}/32 scram-sha-256\n"
            "host all all all reject\n"
        )
        rules.chmod(0o600)
        return rules

    def keep_socket_name(self, usual: Path) -> None:
        """Let the socket be found by its usual name: PostgreSQL names it by the port.

        A server that starts on the usual port puts its own socket there, whatever it finds.
        """
        socket = usual.with_name(f".s.PGSQL.{self.port}")
        if socket != usual:
            usual.unlink(missing_ok=True)
            usual.symlink_to(socket.name)

    @staticmethod
    def _rules(data: Path) -> Path:
        return data / "pg_hba_door.conf"
