"""The short form of the campaign that plays real runs; in a file of its own, as it mostly waits."""

import pytest

from .short import assert_nothing_broken


@pytest.mark.campaign_short
def test_short_form_finds_nothing_broken() -> None:
    assert_nothing_broken("dagster")
