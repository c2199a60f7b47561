"""The short form of every benchmark: that it still runs, finds its rows and meets its targets."""

import pytest
from sqlalchemy import Engine

from . import marts


@pytest.mark.campaign_short
def test_marts_answer_and_publishing_finds_what_changed(engine: Engine) -> None:
    figures = marts.measure(engine, contacts=1_500, observations=15_000)

    assert figures.violations == []
    assert figures.values["publishing 75 changed contacts: new versions"] == 78
