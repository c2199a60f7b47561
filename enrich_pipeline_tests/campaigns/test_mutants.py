"""Mutants do not rot: what they change is in the source, and some campaign is to notice it."""

import pytest

from .__main__ import CAMPAIGNS
from .mutant import Mutant, misfits
from .mutants import MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_what_a_mutant_changes_is_in_the_source_exactly_once(mutant: Mutant) -> None:
    assert misfits(mutant) == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_a_mutant_differs_and_names_campaigns_that_exist(mutant: Mutant) -> None:
    assert all(edit.old != edit.new for edit in mutant.edits)
    assert mutant.noticed_by
    assert set(mutant.noticed_by) <= set(CAMPAIGNS) - {"mutants"}


def test_mutants_have_names_of_their_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 15
