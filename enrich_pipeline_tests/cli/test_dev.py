"""`enrich dev --sandbox` never lets a run reach a real provider."""

from pathlib import Path

import pytest

from enrich_pipeline import settings
from enrich_pipeline.cli.dev import _sandbox_port
from enrich_pipeline.domain.errors import ConfigurationError


def test_sandbox_refuses_an_env_file_that_names_a_real_provider(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ENRICH_PROSPEO_BASE_URL='https://api.prospeo.io'\n")
    with pytest.raises(ConfigurationError, match="ENRICH_PROSPEO_BASE_URL"):
        _sandbox_port(settings.load({}, tmp_path), tmp_path)


def test_sandbox_listens_where_the_env_file_says_that_it_is(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ENRICH_LANCE_BASE_URL='http://127.0.0.1:34783/lance'\n")
    assert _sandbox_port(settings.load({}, tmp_path), tmp_path) == 34783
