"""An alert: one condition that needs a person, in words that hold no values of persons, no keys."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How soon somebody should look; a condition that rises to `CRITICAL` is said again at once."""

    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Alert:
    """A condition that holds now. `key` is the same for as long as it is the same condition.

    `title` is one line; `happened`, `means` and `action` are sentences, the last with the command.
    """

    key: str
    level: Level
    title: str
    happened: str
    means: str
    action: str

    @property
    def message(self) -> str:
        """The whole alert as plain text."""
        return (
            f"{self.level.upper()}: {self.title}\n"
            f"What happened: {self.happened}\n"
            f"What it means: {self.means}\n"
            f"What to do: {self.action}"
        )
