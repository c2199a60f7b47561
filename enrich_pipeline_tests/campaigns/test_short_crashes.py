"""Short forms of the campaigns in which processes, servers and networks die."""

import pytest

from .short import assert_nothing_broken


@pytest.mark.campaign_short
@pytest.mark.parametrize(
    "name",
    [
        "crash",
        "dbcrash",
        "netfault",
        "race",
        "diskfull",
    ],
)
def test_short_form_finds_nothing_broken(name: str) -> None:
    assert_nothing_broken(name)
