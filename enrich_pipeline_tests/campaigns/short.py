"""The short form of a campaign: what the suite can afford of it.

Not `celery` and `deploy`, which need packages beyond those of the suite.
"""

from importlib import import_module

import pytest

from .figures import SHORT, CannotRun, Figures

SEED = 1


def assert_nothing_broken(name: str) -> None:
    """Plays the campaign's short form; skips where this machine cannot."""
    campaign = import_module(f"{__package__}.{name}")
    try:
        figures: Figures = campaign.run(SHORT, SEED)
    except CannotRun as reason:
        pytest.skip(str(reason))
    assert figures.violations == []
