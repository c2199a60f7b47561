"""Labs and logins for those who try to get in, or to get data out."""

from collections.abc import Callable, Iterator
from itertools import count

import pytest
from sqlalchemy import URL, Engine, text

from ..support.lab import Bench

Login = Callable[[str], URL]
_numbers = count(1)


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Bench(tmp_path_factory.mktemp("security")) as bench:
        yield bench


@pytest.fixture
def login(database: URL, engine: Engine) -> Iterator[Login]:
    """`login("enrich_receiver")`: the database's address for a new login that is in that role."""
    names: list[str] = []

    def login(role: str) -> URL:
        name = f"test_login_{next(_numbers)}"
        with engine.begin() as conn:
            conn.execute(text(f"create role {name} login in role {role}"))
        names.append(name)
        return database.set(username=name)

    yield login
    with engine.begin() as conn:
        for name in names:
            conn.execute(text(f"drop owned by {name} cascade"))
            conn.execute(text(f"drop role {name}"))
