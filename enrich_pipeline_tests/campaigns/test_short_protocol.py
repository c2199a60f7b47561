"""Short forms of the campaigns that put the protocol to the proof step by step."""

import pytest

from .short import assert_nothing_broken


@pytest.mark.campaign_short
@pytest.mark.parametrize(
    "name",
    [
        "scenes",
        "model",
    ],
)
def test_short_form_finds_nothing_broken(name: str) -> None:
    assert_nothing_broken(name)
