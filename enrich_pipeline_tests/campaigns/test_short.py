"""The short form of every campaign: what the suite can afford of it.

Not `dagster`: real daemons look for work every 30 seconds, so that its short form takes a minute.
"""

from importlib import import_module

import pytest

from .figures import SHORT, CannotRun, Figures

SEEDS = {
    "scenes": 1,
    "crash": 1,
    "race": 1,
    "dbcrash": 1,
    "netfault": 1,
    "poison": 1,
    "fuzz": 1,
    "webhooks": 1,
    "diskfull": 1,
    "model": 1,
    "mutants": 1,
}


@pytest.mark.campaign_short
@pytest.mark.parametrize("name", SEEDS)
def test_short_form_finds_nothing_broken(name: str) -> None:
    campaign = import_module(f"{__package__}.{name}")
    try:
        figures: Figures = campaign.run(SHORT, SEEDS[name])
    except CannotRun as reason:
        pytest.skip(str(reason))
    assert figures.violations == []
