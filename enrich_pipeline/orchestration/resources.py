"""What ops are given: the options of a run, and the pipeline behind it.

Settings are read when a run starts, never when the code is loaded: Dagster's processes load this
package without keys and without a database.
"""

import logging
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime

import dagster as dg
from pydantic import Field, PrivateAttr
from sqlalchemy import Engine

from enrich_pipeline import settings as configuration
from enrich_pipeline.domain.enrichment import Field as BoughtField
from enrich_pipeline.domain.errors import ConfigurationError, EnrichError
from enrich_pipeline.domain.policy import Policy
from enrich_pipeline.orchestration import liveness
from enrich_pipeline.settings import Settings
from enrich_pipeline.store import ready
from enrich_pipeline.waterfall import planning
from enrich_pipeline.waterfall.context import Partition
from enrich_pipeline.waterfall.engine import Waterfall
from enrich_pipeline.waterfall.planning import NightPrice, NightSummary

_log = logging.getLogger(__name__)
_MEND = "Mend what the message names."
_REPORT = (
    "See whether PostgreSQL is up and has room, and what else changed; the message says where it "
    "happened, and no more, since it may hold values of persons."
)
_AGAIN = (
    "Then re-execute this run, or `enrich refresh` its date: what was bought is kept, what is open "
    "is continued, nothing is bought twice."
)
_SPARE_CONNECTIONS = 3
"""Besides one for each sender: two hold locks for as long as the run lives."""


class RefreshOptions(dg.ConfigurableResource):
    """Options of one run, set at launch; empty lists mean all."""

    limit: int | None = Field(
        default=None,
        description=(
            "At most this many contacts, for the first run of a date: its plan, and with it this "
            "limit, is that of all its runs, scheduled ones too. A run whose limit is below that "
            "of the plan fails before anything is sent. Null: refresh.contacts_per_night."
        ),
    )
    dry_run: bool = Field(
        default=False,
        description=(
            "Say how many persons, calls and credits it would take, without a single call; see "
            "the run's log, or the observation of stale_contacts."
        ),
    )
    only_providers: list[str] = Field(
        default=[],
        description=(
            "Ask these providers only, e.g. [prospeo, lance]; persons wait where another is next. "
            "Empty: all."
        ),
    )
    only_fields: list[str] = Field(
        default=[],
        description=(
            f"Buy these fields only; known are {', '.join(BoughtField)}. The plan is of all: what "
            "it has of the others waits for a later run. Empty: all."
        ),
    )

    def check(self, policy: Policy) -> None:
        """Raise ConfigurationError for a value that makes no sense."""
        if self.limit is not None and self.limit < 0:
            raise ConfigurationError(f"refresh_options: limit must be 0 or more, not {self.limit}")
        for what, names, known in (
            ("provider", self.only_providers, list(policy.providers)),
            ("field", self.only_fields, [str(field) for field in policy.fields]),
        ):
            for name in names:
                if name not in known:
                    raise ConfigurationError(
                        f"refresh_options: unknown {what} {name!r}; known are {', '.join(known)}"
                    )

    def wants(self, field: BoughtField) -> bool:
        return not self.only_fields or field in self.only_fields

    @property
    def fields(self) -> tuple[BoughtField, ...]:
        return tuple(field for field in BoughtField if self.wants(field))

    def narrowed(self, policy: Policy) -> Policy:
        """The policy under which only the chosen fields are opened.

        What is open of another, for which nobody asks, would hold up those that it might bring.
        """
        fields = {
            field: terms if self.wants(field) else terms.model_copy(update={"waterfall": ()})
            for field, terms in policy.fields.items()
        }
        return policy.model_copy(update={"fields": fields})


class Pipeline(dg.ConfigurableResource):
    """Settings, database and engine of one run; its lock says that the run lives.

    Everything is opened before the first op, so that a run without its lock is soon known for dead.
    What fails then is tried again and told inside the op, where a failure is one line of ours.
    """

    _settings: Settings | None = PrivateAttr(default=None)
    _engine: Engine | None = PrivateAttr(default=None)
    _waterfall: Waterfall | None = PrivateAttr(default=None)
    _liveness: liveness.Liveness | None = PrivateAttr(default=None)
    _is_marked: bool = PrivateAttr(default=False)
    _instance: dg.DagsterInstance | None = PrivateAttr(default=None)
    _run_id: str = PrivateAttr(default="")
    _planned: dict[date, NightSummary] = PrivateAttr(default_factory=dict)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        self._run_id = context.run.run_id if context.run is not None else ""
        self._instance = context.instance
        with suppress(Exception):
            _ = self.engine

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        if self._waterfall is not None:
            self._waterfall.close()
        if self._liveness is not None:
            self._liveness.close()
        if self._engine is not None:
            self._engine.dispose()

    @property
    def settings(self) -> Settings:
        """Raises ConfigurationError where the environment is not right."""
        if self._settings is None:
            self._settings = configuration.load()
        return self._settings

    @property
    def engine(self) -> Engine:
        """The database of a run that holds its lock and is marked as one that does.

        Every step that failed is made good at the next use: without its mark a run would be closed
        by its age, and without its lock at once.

        Raises ConfigurationError where the database does not answer or is not migrated.
        """
        if self._engine is None:
            self._engine = ready.open_engine(
                self.settings.database_url,
                self.settings.is_embedded,
                pool_size=_SPARE_CONNECTIONS + _most_senders(self.settings),
            )
        if self._liveness is None:
            self._liveness = liveness.Liveness(self._engine, self._run_id)
        if not self._is_marked:
            if self._instance is not None:
                self._instance.add_run_tags(self._run_id, {liveness.MARK: "1"})
            self._is_marked = True
        return self._engine

    def plan(self, options: RefreshOptions, day: date) -> NightSummary:
        """Make sure, once a run, that the night has its plan; gives its figures."""
        if day not in self._planned:
            options.check(self.settings.policy)
            planned = planning.plan_night(
                self.engine,
                self.settings.policy,
                self.settings.providers,
                day,
                options.limit,
                now(),
            )
            if told := planning.compare_limit(day, planned.contacts_cap, options.limit):
                _log.warning("%s", told)
            self._planned[day] = planned
        return self._planned[day]

    def price(self, options: RefreshOptions, day: date, batch: int) -> NightPrice:
        """What the open fields of a partition would cost; nothing is kept or sent."""
        options.check(self.settings.policy)
        return planning.price_night(
            self.engine,
            self.settings.policy,
            self.settings.providers,
            day,
            options.limit,
            now(),
            [batch],
            options.fields,
        )

    def waterfall(self, options: RefreshOptions) -> Waterfall:
        """The engine of this run, made for the options it was launched with.

        Raises ConfigurationError when something is missing that paid calls need.
        """
        engine = self.engine
        if self._liveness is not None:
            self._liveness.renew()
        if self._waterfall is None:
            self.settings.require_spendable()
            settings = self.settings
            self._waterfall = Waterfall(
                engine,
                options.narrowed(settings.policy),
                settings.providers,
                settings.access,
                settings.webhook_public_url,
                self._run_id,
                fields=options.fields,
            ).__enter__()
            # Another worker of Celery may have died with this step.
            self._waterfall.resume()
        return self._waterfall


def _most_senders(settings: Settings) -> int:
    return max((terms.concurrency for terms in settings.policy.providers.values()), default=1)


def partition(day_and_batch: tuple[date, int]) -> Partition:
    day, batch = day_and_batch
    return Partition(day, batch)


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """Let no value of a person out with an exception: Dagster keeps messages for ever.

    Our own errors hold codes and ids; of all others only the class and the place are told.
    """
    try:
        yield
    except EnrichError as error:
        raise dg.Failure(f"{what}: {error}", metadata=_to_do(_MEND), allow_retries=False) from None
    except (dg.Failure, dg.DagsterError):
        raise
    except Exception as error:  # noqa: BLE001  (told by class, see above)
        place = _place(traceback.extract_tb(error.__traceback__))
        _log.error("%s: %s at %s", what, type(error).__name__, place)
        raise dg.Failure(
            f"{what}: unexpected {type(error).__name__} at {place}",
            metadata=_to_do(_REPORT),
            allow_retries=False,
        ) from None


def _to_do(what: str) -> dict[str, str]:
    return {"what to do": f"{what} {_AGAIN}"}


def _place(frames: Sequence[traceback.FrameSummary]) -> str:
    """The deepest frame inside this package."""
    own = [frame for frame in frames if "enrich_pipeline" in frame.filename] or list(frames)
    frame = own[-1]
    return f"{frame.filename.rpartition('enrich_pipeline/')[2]}:{frame.lineno}"


def now() -> datetime:
    return datetime.now(UTC)
