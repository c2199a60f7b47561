"""Runs the conformance suite on every provider that this package has, and on a sixth."""

from collections.abc import Callable

import pytest

from enrich_pipeline.providers.registry import available
from enrich_pipeline_tests.conformance.cases import CASES
from enrich_pipeline_tests.conformance.sixth_provider import Hexagon
from enrich_pipeline_tests.conformance.suite import CHECKS, Case


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.cls.name)
def test_conformance(case: Case, check: Callable[[Case], None]) -> None:
    check(case)


def test_every_installed_provider_is_under_test() -> None:
    assert set(available((Hexagon,))) == {case.cls.name for case in CASES}
