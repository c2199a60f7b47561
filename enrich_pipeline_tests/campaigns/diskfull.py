"""The database's disk is full: first the volume of its data, then that of its log of changes.

Both are file systems of limited size, filled up by a file of ours while worker processes drain. A
full data volume refuses single statements; a full log volume takes the whole server down, and it
does not come up again before there is room. Meanwhile nothing may be sent whose intent could not be
written. Then there is room, and everything must add up, each reply that was kept used.
"""

import os
import random
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import psycopg
import sqlalchemy
from sqlalchemy import text

from enrich_pipeline.store import embedded

from ..support.lab import Lab
from . import checks, schedules, workers
from .figures import CannotRun, Figures, Scale, Ticker
from .ground import Ground

_PER_WORLD = 10
_DATA_BYTES, _LOG_BYTES = 512 * 1024**2, 160 * 1024**2
_CREW = 2
Volume = Literal["data", "log"]


def run(scale: Scale, seed: int) -> Figures:
    """60 rounds in the full form, every second one of each kind."""
    figures = Figures()
    total = scale.of(short=2, full=60)
    per_world = min(_PER_WORLD, total)
    ticker = Ticker(figures, total, "rounds")
    with SmallGround(per_world * schedules.PERSONS) as ground:
        for number in range(-(-total // per_world)):
            with schedules.world(ground, number, per_world) as world:
                for batch in range(min(per_world, total - number * per_world)):
                    done = number * per_world + batch
                    name = f"{seed}/{done}"
                    volume: Volume = "log" if done % 2 else "data"
                    found = Round(ground, world, batch, name, volume, figures).play()
                    figures.blame(f"round {name} ({volume} volume full)", found)
                    ticker.tick(done + 1)
                figures.add("calls", sum(world.lab.sent().values()))
    return figures


class SmallGround(Ground):
    """A server whose data, and whose log of changes, lie on volumes that can be filled up."""

    def __enter__(self) -> "SmallGround":
        self._mounted: list[Path] = []
        self.data, self.log = self.home / "db", self.home / "log"
        try:
            self._mount(self.data, _DATA_BYTES)
            self._mount(self.log, _LOG_BYTES)
            super().__enter__()
            # Else the log fills its volume by itself, and there is no room to be given back.
            self._administer(
                f"alter system set max_wal_size = '{_LOG_BYTES // 1024**2 // 2}MB'",
                "alter system set min_wal_size = '32MB'",
            )
            embedded.stop(self.data)
            changes = self.data / "pg" / "pg_wal"
            moved = self.log / "pg_wal"
            shutil.copytree(changes, moved)
            owner = changes.stat()
            for path in (moved, *moved.rglob("*")):
                os.chown(path, owner.st_uid, owner.st_gid)
            moved.chmod(0o700)
            shutil.rmtree(changes)
            changes.symlink_to(moved)
            embedded.start(self.data)
        except BaseException:
            self._unmount()
            raise
        return self

    def __exit__(self, *details: object) -> None:
        self.free()
        self.bench.__exit__()
        embedded.stop(self.data)
        self._unmount()

    def fill(self, volume: Volume) -> None:
        """Takes all room that is left on a volume; for good measure also what a server frees."""
        with (self._folder(volume) / "ballast").open("ab", buffering=0) as ballast:
            size = 1024**2
            while size >= 512:
                try:
                    ballast.write(bytes(size))
                except OSError:
                    size //= 2

    def free(self) -> None:
        for volume in (self.data, self.log):
            (volume / "ballast").unlink(missing_ok=True)

    def spoil(self) -> None:
        """Other work on the server, until it fails: changes that have to be logged."""
        with suppress(sqlalchemy.exc.DBAPIError):
            engine = sqlalchemy.create_engine(self.server, isolation_level="AUTOCOMMIT")
            with engine.connect() as conn:
                conn.execute(text("create unlogged table if not exists noise (body text)"))
                for _ in range(400):
                    conn.execute(text("select pg_switch_wal()"))
                    conn.execute(
                        text("select pg_logical_emit_message(false, 'noise', repeat('x', 1000000))")
                    )

    def is_up(self) -> bool:
        try:
            address = self.server.set(drivername="postgresql")
            psycopg.connect(address.render_as_string(hide_password=False)).close()
        except psycopg.OperationalError:
            return False
        return True

    def _folder(self, volume: Volume) -> Path:
        return self.data if volume == "data" else self.log

    def _mount(self, folder: Path, size: int) -> None:
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(folder)],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise CannotRun(f"file systems of limited size need root: {done.stderr.strip()}")
        self._mounted.append(folder)

    def _unmount(self) -> None:
        for folder in self._mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)
        shutil.rmtree(self.home, ignore_errors=True)


class Round:
    def __init__(
        self,
        ground: SmallGround,
        world: schedules.World,
        batch: int,
        name: str,
        volume: Volume,
        figures: Figures,
    ) -> None:
        self._ground, self._world, self._lab = ground, world, world.lab
        self._batch, self._name, self._volume = batch, name, volume
        self._figures = figures
        self._rng = random.Random(name)
        self._crashes = 0

    def play(self) -> list[str]:
        lab, figures = self._lab, self._figures
        schedules.calm(lab)
        doubts, lost = checks.doubts(lab.engine), _undelivered(lab)
        self._before = _requests(lab)
        lab.sandbox.latency(self._rng.choice((0, 200, 200, 600)))
        violations: list[str] = []
        crew = self._set_to_work("first")
        self._await_calls(crew)
        self._ground.fill(self._volume)
        if self._volume == "log":
            self._ground.spoil()
        else:
            self._ground.fill("data")
        violations += self._while_full(crew)
        self._ground.free()
        for worker in crew:
            worker.kill()
        embedded.start(self._ground.data)
        lab.engine.dispose()
        figures.add("rounds")
        self._recover(violations)
        violations += self._unintended()
        violations += schedules.at_rest(self._world, self._batch)
        fresh = checks.doubts(lab.engine) - doubts
        allowed = self._crashes * schedules.IN_FLIGHT + _undelivered(lab) - lost
        figures.add("calls in doubt", fresh)
        if fresh > allowed:
            violations.append(f"{fresh} calls in doubt, at most {allowed} were to be expected")
        return violations

    def _set_to_work(self, which: str) -> list[workers.Worker]:
        crew = [workers.Worker(self._lab) for _ in range(_CREW)]
        for place, worker in enumerate(crew):
            run_id = f"{self._name}-{which}-{place}"
            worker.give(workers.Job(run_id, self._world.days[:1], self._batch))
        return crew

    def _await_calls(self, crew: Sequence[workers.Worker]) -> None:
        """Until a few calls have left, or a while is over: the disk fills up in the middle."""
        wanted = self._rng.randrange(0, 6)
        until = time.monotonic() + 4
        while workers.busy(crew) and time.monotonic() < until:
            if sum((_requests(self._lab)[p] - n for p, n in self._before.items()), 0) >= wanted:
                return
            time.sleep(0.02)

    def _while_full(self, crew: Sequence[workers.Worker]) -> list[str]:
        """The workers fail, or hold on to replies that they cannot keep; some of them are killed.

        Whatever they do: once the last intent was written, nothing more arrives anywhere.
        """
        figures, rng = self._figures, self._rng
        until = time.monotonic() + rng.uniform(1.0, 3.0)
        while workers.busy(crew) and time.monotonic() < until:
            time.sleep(0.05)
        found = []
        holding = workers.busy(crew)
        for worker in crew:
            if worker.error:
                figures.add("drains that failed")
        figures.add("workers that held on", len(holding))
        if self._volume == "log":
            is_down = not self._ground.is_up()
            figures.add("servers down", int(is_down))
            if not is_down:
                found.append("the log volume is full and the server still up")
        before = _requests(self._lab)
        time.sleep(0.5)
        if self._volume == "log" and _requests(self._lab) != before:
            found.append("requests were sent while the server was down")
        if self._volume == "data":
            # Those who come while it is full can write no intent, and send nothing.
            late = self._set_to_work("late")
            until = time.monotonic() + 3
            while workers.busy(late) and time.monotonic() < until:
                time.sleep(0.05)
            figures.add("late drains that failed", sum(worker.error is not None for worker in late))
            for worker in late:
                self._crashes += worker.busy
                worker.kill()
        if rng.random() < 0.5:
            for worker in holding:
                self._crashes += 1
                worker.kill()
                figures.add("killed while holding on")
            return found
        self._ground.free()
        embedded.start(self._ground.data)
        until = time.monotonic() + 20
        while workers.busy(crew) and time.monotonic() < until:
            time.sleep(0.05)
        for worker in holding:
            figures.add("held on until there was room", int(not worker.busy))
            self._crashes += worker.busy
        return found

    def _recover(self, violations: list[str]) -> None:
        self._lab.sandbox.latency(0)
        try:
            days = self._world.days[:1]
            schedules.come_to_rest(self._lab, self._batch, days, patient=True)
        except Exception as error:  # noqa: BLE001 - a recovery that fails is what is looked for
            violations.append(f"recovery: {type(error).__name__}: {error}"[:300])

    def _unintended(self) -> list[str]:
        """Requests at the providers beyond the sends that the database knows of."""
        known = dict(
            self._lab.sql("select provider, sum(sends)::int from enrichment.calls group by 1")
        )
        return [
            f"{provider} got {arrived} requests of {known.get(provider, 0)} that were intended"
            for provider, arrived in _requests(self._lab).items()
            if arrived > known.get(provider, 0)
        ]


def _requests(lab: Lab) -> dict[str, int]:
    """Requests that may cost something, per provider, as the sandbox counts them."""
    return lab.sent()


def _undelivered(lab: Lab) -> int:
    """Deliveries that the receiver could not keep and their sender gave up."""
    return int(lab.sandbox.webhooks()["failed"])
