"""Rules of the configuration: what is wrong is named, by its path, before anything is spent."""

from collections.abc import Callable
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from enrich_pipeline import settings
from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.providers import registry
from enrich_pipeline.providers.prospeo import Prospeo
from enrich_pipeline.settings import Settings

PROVIDERS = ("prospeo", "agntdata", "pronto", "lance", "apollo")
KEYS = {f"ENRICH_{name.upper()}_API_KEY": f"key-of-{name}" for name in PROVIDERS}

Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads settings in a folder of its own, with `config` as the user's file."""

    def _load(config: str | None = None, **variables: str) -> Settings:
        if config is not None:
            (tmp_path / "enrich.yaml").write_text(config)
            variables["ENRICH_CONFIG"] = "enrich.yaml"
        return settings.load(variables, tmp_path)

    return _load


def refused(load: Load, config: str | None = None, **variables: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(config, **variables)
    return str(caught.value).splitlines()


def test_defaults_alone_are_a_configuration_that_enables_all_five_in_the_documented_order(
    load: Load, tmp_path: Path
) -> None:
    found = load()
    assert found.enabled == PROVIDERS
    assert found.home == tmp_path / ".enrich"
    assert found.is_embedded
    assert found.webhook_port == 8787
    assert found.warnings == ()
    assert found.policy.waterfall(Field.WORK_EMAIL) == PROVIDERS
    assert found.policy.waterfall(Field.PHONE) == ("prospeo", "lance", "pronto", "apollo")
    assert found.policy.waterfall(Field.PERSONAL_EMAIL) == ("pronto", "agntdata", "apollo")
    assert found.policy.waterfall(Field.PROFILE) == ("prospeo", "agntdata", "apollo")


def test_the_defaults_show_every_option_of_every_provider() -> None:
    shipped = yaml.safe_load(files("enrich_pipeline").joinpath("defaults.yaml").read_bytes())
    assert {name: terms["options"] for name, terms in shipped["providers"].items()} == {
        name: cls.options_model().model_dump(mode="json")
        for name, cls in registry.available().items()
    }


def test_the_users_file_is_laid_over_the_defaults_mappings_merge_lists_replace(load: Load) -> None:
    found = load("""
        fields: {phone: {waterfall: [lance]}}
        budget: {night_usd: 0.01}
        providers: {lance: {concurrency: 9}}
    """)
    assert found.policy.waterfall(Field.PHONE) == ("lance",)
    assert found.policy.fields[Field.PHONE].stale_after_days == 180
    assert found.policy.budget.night_usd == Decimal("0.01")
    assert found.policy.providers["lance"].concurrency == 9
    assert found.policy.providers["lance"].timeout_seconds == 60


def test_dotenv_counts_where_the_environment_is_silent(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "ENRICH_PROSPEO_API_KEY=from-file\nENRICH_LANCE_API_KEY=from-file\n"
    )
    found = settings.load({"ENRICH_LANCE_API_KEY": "from-environment"}, tmp_path)
    assert found.access["prospeo"].api_key == "from-file"
    assert found.access["lance"].api_key == "from-environment"


def test_a_variable_set_to_nothing_counts_as_not_set(load: Load) -> None:
    assert load(ENRICH_DATABASE_URL=" ", ENRICH_CONFIG="").is_embedded


def test_a_database_of_the_users_replaces_the_embedded_one(load: Load) -> None:
    found = load(ENRICH_DATABASE_URL="postgresql://me:secret@db.example.com/crm")
    assert not found.is_embedded
    assert found.database_url.host == "db.example.com"


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ("refresh: {batchs: 3}", "unknown setting refresh.batchs; did you mean refresh.batches?"),
        ("budgets: {}", "unknown setting budgets; did you mean budget?"),
        (
            "fields: {fone: {stale_after_days: 3}}",
            "unknown setting fields.fone; did you mean fields.phone?",
        ),
        (
            "fields: {phone: {acept: []}}",
            "unknown setting fields.phone.acept; did you mean fields.phone.accept?",
        ),
        (
            "providers: {lance: {rate: [{seconds: 1, limits: 2, limit: 2, per: request}]}}",
            "unknown setting providers.lance.rate[0].limits; "
            "did you mean providers.lance.rate[0].limit?",
        ),
        (
            "providers: {prospeo: {options: {allow_company_name: true}}}",
            "unknown setting providers.prospeo.options.allow_company_name; "
            "did you mean providers.prospeo.options.allow_company_name_only?",
        ),
        (
            "providers: {prosepo: {enabled: true}}",
            "unknown provider 'prosepo'; did you mean prospeo? "
            "(installed: prospeo, agntdata, pronto, lance, apollo)",
        ),
    ],
)
def test_an_unknown_setting_is_named_with_its_path_and_the_nearest_known(
    load: Load, config: str, line: str
) -> None:
    assert refused(load, config) == [f"ENRICH_CONFIG=enrich.yaml: {line}"]


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ("refresh: {batches: many}", "refresh.batches"),
        ("refresh: {batches: 0}", "refresh.batches"),
        ("refresh: 4", "refresh"),
        ("budget: {night_usd: -1}", "budget.night_usd"),
        ("budget: {night_usd: 0.0000001}", "budget.night_usd"),
        ("providers: {lance: {on_unavailable: panic}}", "providers.lance.on_unavailable"),
        ("providers: {lance: {tariffs: []}}", "providers.lance.tariffs"),
        ("providers: {lance: {batch_size: 101}}", "providers.lance.batch_size"),
        ("source: {columns: null}", "source.columns"),
    ],
)
def test_a_wrong_value_is_named_by_its_path(load: Load, config: str, path: str) -> None:
    (line,) = refused(load, config)
    assert line.startswith(f"ENRICH_CONFIG=enrich.yaml: {path}: ")


def test_every_problem_gets_a_line(load: Load) -> None:
    lines = refused(load, "refresh: {batchs: 3, batches: many}\nbudget: {night_usd: x}")
    assert len(lines) == 3


def test_reuse_longer_than_staleness_is_refused(load: Load) -> None:
    (line,) = refused(load, "reuse: {found_days: 91}")
    assert "reuse.found_days (91) is above fields.work_email.stale_after_days (90)" in line


def test_a_waterfall_of_an_unknown_provider_is_refused(load: Load) -> None:
    (line,) = refused(load, "fields: {phone: {waterfall: [lanse]}}")
    assert "fields.phone.waterfall names the unknown provider 'lanse'" in line


def test_a_tariff_prices_every_product_and_no_other(load: Load) -> None:
    lines = refused(
        load,
        """
        providers:
          prospeo:
            tariffs: [{valid_from: 2026-01-01, usd_per_credit: 0.01, prices: {match: 1, mobil: 9}}]
        """,
    )
    where = "ENRICH_CONFIG=enrich.yaml: providers.prospeo.tariffs[0].prices"
    assert lines == [
        f"{where}: no price for the product 'mobile'",
        f"{where}: unknown product 'mobil'; did you mean mobile?",
    ]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("refresh: [", "line 1"),
        ("- refresh", "expected settings by name, got a list"),
        ("budget: {night_usd: 1, night_usd: 2}", "line 1: night_usd is given twice"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(load: Load, content: str, line: str) -> None:
    assert line in refused(load, content)[0]


def test_a_missing_file_is_named(load: Load) -> None:
    (line,) = refused(load, ENRICH_CONFIG="nowhere.yaml")
    assert line == "ENRICH_CONFIG=nowhere.yaml cannot be read: No such file or directory"


def test_an_empty_file_changes_nothing(load: Load) -> None:
    assert load("").policy == load().policy


def test_an_unknown_variable_is_warned_of_with_the_nearest_known(load: Load) -> None:
    assert load(ENRICH_PROSPEO_API_KY="secret-value").warnings == (
        "unknown environment variable ENRICH_PROSPEO_API_KY is ignored; "
        "did you mean ENRICH_PROSPEO_API_KEY?",
    )


@pytest.mark.parametrize(
    "url", ["http://api.prospeo.io", "ftp://127.0.0.1", "https://10.0.0.1", "nonsense"]
)
def test_a_base_url_is_https_or_of_this_machine(load: Load, url: str) -> None:
    (line,) = refused(load, ENRICH_PROSPEO_BASE_URL=url)
    assert line.startswith("ENRICH_PROSPEO_BASE_URL ")
    (line,) = refused(load, f"providers: {{prospeo: {{base_url: '{url}'}}}}")
    assert line.startswith("providers.prospeo.base_url ")


def test_the_environment_decides_over_the_file_where_a_provider_is_reached(load: Load) -> None:
    found = load(
        "providers: {prospeo: {base_url: 'https://file.example.com'}}",
        ENRICH_PROSPEO_BASE_URL="http://127.0.0.1:8799/prospeo/",
    )
    assert found.access["prospeo"].base_url == "http://127.0.0.1:8799/prospeo"


@pytest.mark.parametrize("port", ["0", "65536", "eighty", "-1", "8787.0"])
def test_a_port_that_is_none_is_refused(load: Load, port: str) -> None:
    (line,) = refused(load, ENRICH_WEBHOOK_PORT=port)
    assert line == f"ENRICH_WEBHOOK_PORT: {port!r} is not a port from 1 to 65535"


def test_spending_needs_the_key_of_every_enabled_provider(load: Load) -> None:
    found = load(ENRICH_WEBHOOK_PUBLIC_URL="https://hooks.example.com", **KEYS)
    found.require_spendable()
    without = {name: key for name, key in KEYS.items() if "LANCE" not in name}
    with pytest.raises(ConfigurationError, match=r"^ENRICH_LANCE_API_KEY is not set: provider"):
        load(ENRICH_WEBHOOK_PUBLIC_URL="https://hooks.example.com", **without).require_spendable()
    load(
        "providers: {lance: {enabled: false}}",
        ENRICH_WEBHOOK_PUBLIC_URL="https://hooks.example.com",
        **without,
    ).require_spendable()


def test_spending_by_webhook_needs_a_public_url(load: Load) -> None:
    with pytest.raises(ConfigurationError, match=r"^ENRICH_WEBHOOK_PUBLIC_URL is not set"):
        load(**KEYS).require_spendable()
    disabled = "providers: {pronto: {enabled: false}, apollo: {enabled: false}}"
    load(disabled, **KEYS).require_spendable()


def test_a_key_stays_out_of_representations(load: Load) -> None:
    assert "key-of-prospeo" not in repr(load(**KEYS))


def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(load: Load) -> None:
    (line,) = refused(load, ENRICH_LANCE_API_KEY="se cret\u20ac")
    assert line == "ENRICH_LANCE_API_KEY holds characters that no key has"


class Sixth(Prospeo):
    name = "sixth"


def test_an_installed_provider_that_the_defaults_do_not_know_is_off_until_enabled(
    tmp_path: Path,
) -> None:
    found = settings.load({}, tmp_path, [Sixth])
    assert "sixth" in found.providers
    assert "sixth" not in found.enabled
    (tmp_path / "own.yaml").write_text(
        "providers: {sixth: {enabled: true}}\nfields: {work_email: {waterfall: [sixth]}}"
    )
    found = settings.load({"ENRICH_CONFIG": "own.yaml"}, tmp_path, [Sixth])
    assert found.policy.waterfall(Field.WORK_EMAIL) == ("sixth",)
    with pytest.raises(ConfigurationError, match="ENRICH_SIXTH_API_KEY is not set"):
        found.require_spendable()


# ---- alerts ---------------------------------------------------------------------------------


def test_channels_come_from_the_environment_else_from_the_file_and_are_never_shown(
    load: Load,
) -> None:
    own = "alerts: {urls: ['slack://CANARY/x']}"
    assert load(own).alert_urls == ("slack://CANARY/x",)
    assert load("alerts: {urls: slack://CANARY/x}").alert_urls == ("slack://CANARY/x",)
    found = load(own, ENRICH_ALERT_URLS="json://u:CANARY@h/a,b, mailto://u:CANARY@h")
    assert found.alert_urls == ("json://u:CANARY@h/a,b", "mailto://u:CANARY@h")
    assert "CANARY" not in repr(found) + str(found.policy)


@pytest.mark.parametrize(
    ("own", "environ"),
    [
        ("", {"ENRICH_ALERT_URLS": "hooks.example/CANARY"}),
        ("alerts: {urls: [hooks.example/CANARY]}", {}),
        ("alerts: {urls: hooks.example/CANARY}", {}),
    ],
)
def test_an_address_that_is_none_is_refused_without_being_shown(
    load: Load, own: str, environ: dict[str, str]
) -> None:
    (line,) = refused(load, own, **environ)
    assert "address 1 of 1 is not of the form scheme://..." in line
    assert "CANARY" not in line


@pytest.mark.parametrize(("written", "hour"), [("'06:00'", 6), ("16:00", 16), ("6:00", 6)])
def test_a_deadline_is_a_time_of_day_however_yaml_reads_it(
    load: Load, written: str, hour: int
) -> None:
    deadline = load(f"alerts: {{deadline: {written}}}").policy.alerts.deadline
    assert deadline is not None
    assert (deadline.hour, deadline.minute) == (hour, 0)


def test_a_deadline_that_is_no_time_of_day_is_refused(load: Load) -> None:
    (line,) = refused(load, "alerts: {deadline: 25:00}")
    assert "alerts.deadline: expected a time of day (UTC) such as 06:00" in line


def test_the_executor_is_one_of_four_and_the_first_by_default(load: Load) -> None:
    assert load().policy.refresh.executor == "in_process"
    assert load("refresh: {executor: multiprocess}").policy.refresh.executor == "multiprocess"
    (line,) = refused(load, "refresh: {executor: threads}")
    assert line.startswith("ENRICH_CONFIG=enrich.yaml: refresh.executor: input should be ")
    assert "'in_process', 'multiprocess', 'celery' or 'k8s'" in line


def test_celery_without_a_broker_names_the_variable(load: Load) -> None:
    with pytest.raises(ConfigurationError, match="ENRICH_CELERY_BROKER_URL is not set"):
        load().require_celery_broker()
    found = load(ENRICH_CELERY_BROKER_URL="redis://:secret@host:6379/0")
    assert found.require_celery_broker() == "redis://:secret@host:6379/0"
    assert "secret" not in repr(found)


def test_a_broker_that_is_no_redis_is_refused_without_showing_it(load: Load) -> None:
    (line,) = refused(load, ENRICH_CELERY_BROKER_URL="amqp://me:secret@host")
    assert line.startswith("ENRICH_CELERY_BROKER_URL is not a Redis address")
    assert "secret" not in line
