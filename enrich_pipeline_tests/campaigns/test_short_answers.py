"""Short forms of the campaigns about what comes back, and about the campaigns themselves."""

import pytest

from .short import assert_nothing_broken


@pytest.mark.campaign_short
@pytest.mark.parametrize(
    "name",
    [
        "poison",
        "fuzz",
        "webhooks",
        "mutants",
    ],
)
def test_short_form_finds_nothing_broken(name: str) -> None:
    assert_nothing_broken(name)
