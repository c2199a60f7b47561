"""`enrich reconcile` without a provider's key names the variable and compares the others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..support.lab import Lab, contact
from .conftest import Enrich

Compare = Callable[[], tuple[int, dict[str, dict[str, Any]]]]


@pytest.fixture
def compare(enrich: Enrich, lab: Lab, with_database: dict[str, str], folder: Path) -> Compare:
    """Compares under the lab's settings but for one key: exit code and rows by provider."""
    (folder / "own.yaml").write_bytes((lab.folder / "own.yaml").read_bytes())
    environ = {**lab.environment, **with_database, "ENRICH_PROSPEO_API_KEY": ""}

    def compare() -> tuple[int, dict[str, dict[str, Any]]]:
        done = enrich("reconcile", "--json", **environ)
        return done.returncode, {row["provider"]: row for row in json.loads(done.stdout)}

    return compare


def test_a_provider_without_a_key_of_whom_nothing_was_bought_is_no_difference(
    compare: Compare,
) -> None:
    code, rows = compare()
    assert code == 0
    assert list(rows) == ["prospeo", "agntdata", "pronto", "lance", "apollo"]
    assert rows["prospeo"]["is_explained"]
    assert rows["prospeo"]["explanation"] == (
        "ENRICH_PROSPEO_API_KEY is not set; nothing was bought yet"
    )


def test_a_provider_without_a_key_of_whom_something_was_bought_is_unexplained(
    compare: Compare, lab: Lab, enrich: Enrich
) -> None:
    lab.night([contact(0)])
    code, rows = compare()
    assert code == 1
    unread = rows.pop("prospeo")
    assert unread["explanation"] == "ENRICH_PROSPEO_API_KEY is not set"
    assert unread["posted_micro"] == lab.account("prospeo")["spent"] > 0
    assert (unread["charged_micro"], unread["difference_micro"]) == (None, None)
    assert not unread["is_explained"]
    assert all(row["is_explained"] for row in rows.values())


def test_the_table_names_the_variable(enrich: Enrich, with_database: dict[str, str]) -> None:
    done = enrich("reconcile", **with_database)
    assert done.returncode == 0, done.stderr
    for provider in ("PROSPEO", "AGNTDATA", "PRONTO", "LANCE", "APOLLO"):
        assert f"ENRICH_{provider}_API_KEY" in done.stdout
