"""Networks that delay, drip, cut and reset, to the providers and to the database, both ways.

The workers reach both through proxies of this campaign; whoever checks does not.
"""

import functools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL

from ..support.sandbox import PROVIDERS
from . import lanes, schedules, workers
from .crash import Schedule
from .figures import Figures, Scale
from .ground import Ground
from .lanes import PEOPLE, Lane, Team
from .proxy import FAIR, Proxy, Weather

_FULL = 300


def run(scale: Scale, seed: int) -> Figures:
    """300 schedules in the full form, numbered from the seed on."""
    figures = Figures()
    struck: set[str] = set()
    total = scale.of(short=3, full=_FULL)

    @contextmanager
    def lane() -> Iterator[Lane]:
        with Ground(PEOPLE) as ground, _proxies(ground, seed) as (internet, cable):
            yield Lane(
                ground,
                lambda team, number: _Storm((internet, cable), team, number, figures, struck),
                functools.partial(_Remote, internet, cable),
            )
            for name, proxy in (("providers", internet), ("database", cable)):
                for kind, times in sorted(proxy.struck.items()):
                    figures.add(f"{name}: {kind}", times)

    lanes.play("netfault", range(seed, seed + total), _FULL, figures, lane)
    return figures


@contextmanager
def _proxies(ground: Ground, seed: int) -> Iterator[tuple[Proxy, Proxy]]:
    sandbox = ground.bench.sandbox(schedules.SHARES, schedules.SANDBOX)
    query = ground.server.query
    socket = Path(str(query["host"])) / f".s.PGSQL.{query['port']}"
    with (
        Proxy(("127.0.0.1", sandbox.port), seed) as internet,
        Proxy(socket, seed + 1) as cable,
    ):
        yield internet, cable


class _Remote(Team):
    """Workers to whom everything is far away."""

    def __init__(self, internet: Proxy, cable: Proxy, world: schedules.World) -> None:
        super().__init__(world)
        self._internet, self._cable = internet, cable

    def hire(self) -> workers.Worker:
        addresses = {
            f"ENRICH_{p.upper()}_BASE_URL": f"http://127.0.0.1:{self._internet.port}/{p}"
            for p in PROVIDERS
        }
        database = URL.create(
            "postgresql+psycopg",
            username=self.world.lab.database.username,
            host="127.0.0.1",
            port=self._cable.port,
            database=self.world.lab.database.database,
            query={"sslmode": "disable", "gssencmode": "disable"},
        )
        return workers.Worker(self.world.lab, addresses, database)


class _Storm(Schedule):
    forgiven = ("OperationalError", "InterfaceError")

    def __init__(
        self,
        proxies: tuple[Proxy, Proxy],
        team: Team,
        number: int,
        figures: Figures,
        struck: set[str],
    ) -> None:
        super().__init__(team, number, figures, struck)
        self._proxies = proxies
        self._lost = 0
        self._before = (0, 0)

    def _set_to_work(self, labels: tuple[str, ...]) -> list[workers.Worker]:
        internet, cable = self._proxies
        self._before = (internet.struck["broken"], cable.struck["broken"])
        crew = super()._set_to_work(labels)
        internet.weather = draw(self._rng, rough=0.12)
        # A statement is several chunks, and a drain is hundreds of statements.
        cable.weather = draw(self._rng, rough=0.002)
        return crew

    def _strike(self, labels: tuple[str, ...], place: int) -> workers.Strike | None:
        return None

    def _at_random(self, worker: workers.Worker) -> None:
        """Processes live; what they reach does not."""

    def _disturb(self, crew: list[workers.Worker]) -> None:
        super()._disturb(crew)
        internet, cable = self._proxies
        internet.weather = cable.weather = FAIR
        lost, cut = internet.struck["broken"], cable.struck["broken"]
        self._lost += lost - self._before[0]
        # A process that lost its database may leave all its calls behind, or be taken for dead.
        self._crashes += cut - self._before[1]

    def _broken(self) -> int:
        return self._lost


def draw(rng: random.Random, *, rough: float) -> Weather:
    """One kind of bad weather, or a mixture; `rough` is the chance that a connection breaks."""
    only = rng.choice((("up",), ("down",), ("up", "down")))
    kind = rng.choice(("reset", "cut", "both", "slow"))
    return Weather(
        reset=rough if kind in ("reset", "both") else 0.0,
        cut=rough if kind in ("cut", "both") else 0.0,
        delay=rough if kind == "both" else rough * 2 if kind == "slow" else 0.0,
        drip=rough if kind in ("both", "slow") else 0.0,
        only=frozenset(only),
    )
