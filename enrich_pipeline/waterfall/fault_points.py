"""Names for the moments between two steps of the spend protocol, at which a process may die.

The campaigns of the test suite set a hook that kills or stops the process at one of them. Without
a hook, which is always so in production, reaching one is a single comparison. Nothing else is here.
"""

from collections.abc import Callable
from typing import Literal

Label = Literal[
    "opening",
    "opened",
    "claiming",
    "claimed",
    "arming",
    "armed",
    "answered",
    "stored",
    "settling",
    "settled",
    "unsent",
    "lost",
    "polled",
    "poll_stored",
    "poll_settling",
    "delivery_settling",
    "delivery_settled",
    "sweeping",
    "swept",
    "deadline_passing",
    "writing_off",
    "armed_again",
    "answered_again",
]
"""Words in -ing lie inside a transaction, before its commit; the others outside of any."""

_hook: Callable[[Label], None] | None = None


def reached(label: Label) -> None:
    """Says that the process has come this far."""
    if _hook is not None:
        _hook(label)


def set_hook(hook: Callable[[Label], None] | None) -> None:
    """Sets what happens at every label of this process; for campaigns only."""
    global _hook
    _hook = hook
