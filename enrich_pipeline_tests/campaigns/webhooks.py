"""Campaign `webhooks`: deliveries early, late, repeated, out of order, forged, broken, oversized.

The simulated providers deliver to a post office, which keeps what they say: these are the distinct
valid deliveries. What reaches the receiver, when and how often, is this campaign's doing. The
receiver is a process of its own, started as a user would; sweeps go on while deliveries come in.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

import httpx
from sqlalchemy import URL

from enrich_pipeline.store.inbox import MAX_STRANGERS
from enrich_pipeline.webhooks.app import MAX_BODY_BYTES

from ..support.lab import Lab, contacts, only
from ..support.sandbox import free_port
from . import checks
from .courier import Parcel, Receipt, post_all
from .figures import Figures, Scale
from .ground import Ground

PER_SECOND = 500
SLOWEST_ACKNOWLEDGEMENT = 0.1
"""Seconds; the 99th percentile."""
SLOWEST_BESIDE_OTHER_TESTS = 1.0
"""The same in the short form, which shares the machine with the rest of the suite."""
EARLY_SHARE = 0.2
LATE_SHARE = 0.2
OWN = {
    **only({"work_email": ["pronto"], "phone": ["apollo"]}),
    "refresh": {"batches": 1, "contacts_per_night": 100_000},
    "budget": {"night_usd": 10_000_000, "person_usd": 1_000},
    "providers": {
        name: {"await_seconds": 0.05, "poll_seconds": 86_400} for name in ("pronto", "apollo")
    },
}
_BROKEN = (b"", b"{", b"null", b"[]", b"<html></html>", b"\x00", b"\x1f\x8b\x08", b"[" * 60_000)


def run(scale: Scale, seed: int) -> Figures:
    figures = Figures()
    random = Random(seed)
    persons = scale.of(short=80, full=12_000)
    port = free_port()
    with (
        Ground(people=persons) as ground,
        PostOffice(port, random) as office,
        ground.lab(OWN, {}, {"ENRICH_WEBHOOK_PUBLIC_URL": office.url}) as lab,
        receiver(lab.database, port),
    ):
        lab.sandbox.faults(
            {"provider": "*", "kind": "slow", "seconds": 0.4, "probability": 0.4, "times": None}
        )
        lab.load(contacts(range(persons)))
        lab.plan()
        lab.drain()
        lab.sandbox.wait_for_deliveries(600)
        valid = office.close()
        figures.add("distinct valid deliveries", len(valid))
        _write_off_some(lab)
        in_all = scale.of(short=900, full=100_000)
        parcels = _parcels(random, valid, in_all - len(valid) - office.forwarded)
        receipts = _post_while_sweeping(lab, port, parcels)
        _settle_down(lab)
        _expect_all_settled(lab, len(valid), figures)
        before = _books(lab)
        receipts += _replay_a_day_later(lab, port, valid)
        if _books(lab) != before:
            figures.blame("replay", ["a delivery of yesterday had an effect"])
        figures.add("deliveries", len(receipts) + office.forwarded)
        _judge_answers(
            receipts,
            SLOWEST_BESIDE_OTHER_TESTS if scale.share is None else SLOWEST_ACKNOWLEDGEMENT,
            figures,
        )
        figures.blame("books", checks.all_of(lab.engine, lab.sandbox))
        figures.blame("receiver and settlements", checks.deadlocks(lab.engine))
    return figures


class PostOffice:
    """Where the simulated providers deliver: keeps everything, passes some of it on at once.

    Probes are passed on always: they prove that the receiver is reached.
    """

    def __init__(self, receiver_port: int, random: Random) -> None:
        self._kept: dict[tuple[str, bytes], None] = {}
        self.forwarded = 0
        office = self
        onward = httpx.Client(
            base_url=f"http://127.0.0.1:{receiver_port}", timeout=30, trust_env=False
        )
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(onward.get(self.path).status_code)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with lock:
                    office._kept[(self.path, body)] = None
                    is_early = random.random() < EARLY_SHARE
                    office.forwarded += is_early
                self._answer(onward.post(self.path, content=body).status_code if is_early else 200)

            def _answer(self, status: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 512
            daemon_threads = True

        self._onward = onward
        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "PostOffice":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._onward.close()

    def close(self) -> list[tuple[str, bytes]]:
        """(path, body) of everything that the providers said, each once, in order of arrival."""
        return list(self._kept)


@contextlib.contextmanager
def receiver(database: URL, port: int) -> Iterator[None]:
    """`enrich webhooks` in a process of its own."""
    environment = {
        **os.environ,
        "ENRICH_DATABASE_URL": database.render_as_string(hide_password=False),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "enrich_pipeline.cli", "webhooks", "--port", str(port)],
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).is_success:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the receiver did not start")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _write_off_some(lab: Lab) -> None:
    """Deadline and horizon of some calls pass before their deliveries come."""
    lab.sweep()
    for clock in ("deadline_at", "write_off_at"):
        lab.sql(
            f"update enrichment.calls set {clock} = clock_timestamp() "  # noqa: S608
            "where closed_at is null and call_id % 100 < :share",
            share=round(LATE_SHARE * 100),
        )
        lab.sweep()


def _parcels(random: Random, valid: Sequence[tuple[str, bytes]], more: int) -> list[Parcel]:
    """Every valid delivery at least once, and `more` of every other kind, in random order."""
    parcels = [Parcel("valid", path, body) for path, body in valid]
    makers = (
        (0.45, _repeated),
        (0.15, _of_a_stranger),
        (0.10, _for_another_provider),
        (0.10, _for_another_call),
        (0.15, _malformed),
        (0.05, _oversized),
    )
    for share, make in makers:
        parcels += [make(random, valid) for _ in range(round(max(more, 0) * share))]
    random.shuffle(parcels)
    return parcels


def _repeated(random: Random, valid: Sequence[tuple[str, bytes]]) -> Parcel:
    return Parcel("repeated", *random.choice(valid))


def _of_a_stranger(random: Random, valid: Sequence[tuple[str, bytes]]) -> Parcel:
    """A token that is nearly right, or wholly made up."""
    path, body = random.choice(valid)
    stem, token = path.rsplit("/", 1)
    at = random.randrange(len(token))
    flipped = token[:at] + ("0" if token[at] != "0" else "1") + token[at + 1 :]
    guessed = flipped if random.random() < 0.5 else f"{random.getrandbits(256):064x}"
    return Parcel("unknown token", f"{stem}/{guessed}", body)


def _for_another_provider(random: Random, valid: Sequence[tuple[str, bytes]]) -> Parcel:
    """A right token, at the address of the wrong provider."""
    path, body = random.choice(valid)
    right, wrong = ("pronto", "apollo") if "/pronto/" in path else ("apollo", "pronto")
    return Parcel("forged provider", path.replace(f"/{right}/", f"/{wrong}/"), body)


def _for_another_call(random: Random, valid: Sequence[tuple[str, bytes]]) -> Parcel:
    """A right token, with what was said about the persons of another call."""
    path, body = random.choice(valid)
    provider = path.split("/")[2]
    for _ in range(20):
        other, said = random.choice(valid)
        if other != path and other.split("/")[2] == provider:
            return Parcel("forged item", path, said)
    return _of_a_stranger(random, valid)


def _malformed(random: Random, valid: Sequence[tuple[str, bytes]]) -> Parcel:
    path, body = random.choice(valid)
    broken = random.choice((*_BROKEN, body[: random.randrange(1, len(body) - 1)]))
    return Parcel("malformed", path, broken)


def _oversized(random: Random, valid: Sequence[tuple[str, bytes]]) -> Parcel:
    path, body = random.choice(valid)
    size = MAX_BODY_BYTES + random.choice((1, 2, 1_000, 100_000, 1_000_000))
    return Parcel("oversized", path, body + b" " * (size - len(body)))


def _post_while_sweeping(lab: Lab, port: int, parcels: Sequence[Parcel]) -> list[Receipt]:
    receipts: list[Receipt] = []
    posting = threading.Thread(
        target=lambda: receipts.extend(post_all(port, parcels, PER_SECOND)), name="posting"
    )
    posting.start()
    while posting.is_alive():
        lab.sweep()
        posting.join(1.0)
    return receipts


def _settle_down(lab: Lab) -> None:
    lab.sweep()
    lab.drain()
    lab.sweep()


def _books(lab: Lab) -> list[tuple[object, ...]]:
    """Everything that a delivery could change."""
    return [
        *lab.sql("select count(*), sum(amount_micro) from enrichment.ledger_entries"),
        *lab.sql("select count(*), max(observation_id) from enrichment.observations"),
        *lab.sql("select outcome, count(*) from enrichment.attempts group by 1 order by 1"),
        *lab.sql("select state, count(*) from enrichment.charge_lines group by 1 order by 1"),
    ]


def _expect_all_settled(lab: Lab, valid: int, figures: Figures) -> None:
    """Results = postings = distinct valid deliveries, early and written-off ones included."""
    applied = lab.one("select count(*) from enrichment.inbox where state = 'applied'")
    polled = lab.one(
        "select count(distinct call_id) from enrichment.replies "
        "where settlement like 'poll:%' and applied_at is not null"
    )
    lines = dict(
        lab.sql(
            "select provider || ':' || state, count(*) from enrichment.charge_lines "
            "where product <> 'match' group by 1"
        )
    )
    results = lab.one(
        "select count(distinct line_id) from enrichment.observations "
        "join enrichment.charge_lines using (line_id) where product <> 'match'"
    )
    early = lab.one(
        "select count(*) from enrichment.inbox as i join enrichment.calls as c "
        "using (provider, token_hash) where i.received_at < c.responded_at"
    )
    recovered = lab.one(
        "select count(*) from enrichment.ledger_entries where entry_type = 'recover'"
    )
    strangers = lab.one("select count(*) from enrichment.inbox where reason = 'unknown_token'")
    figures.add("applied", applied)
    figures.add("calls of which a poll was faster", polled)
    figures.add("lines that they answer", sum(lines.values()))
    figures.add("results", results)
    figures.add("came before the reply to the request", early)
    figures.add("recoveries after a write-off", recovered)
    figures.add("strangers kept", strangers)
    broken = {name: n for name, n in lines.items() if not name.endswith(":posted")}
    # At its deadline a call that can be polled is, once: its delivery then says what is known.
    if applied + polled != valid:
        figures.blame("settlement", [f"{applied} applied, {polled} polled of {valid} valid ones"])
    if broken or results != sum(lines.values()):
        figures.blame("settlement", [f"{results} results, lines not posted: {broken}"])
    if not early or not recovered:
        figures.blame("settlement", ["no delivery was early, or none was late"])
    if strangers > MAX_STRANGERS:
        figures.blame("strangers", [f"{strangers} deliveries of strangers are kept"])
    charged = {name: row["charged_micro"] for name, row in lab.sandbox.meter().items()}
    spent = dict(lab.sql("select provider, balance from enrichment.accounts where kind = 'spent'"))
    if any(charged[name] != spent.get(name, 0) for name in ("pronto", "apollo")):
        figures.blame("settlement", [f"charged {charged}, spent {spent}"])


def _replay_a_day_later(lab: Lab, port: int, valid: Sequence[tuple[str, bytes]]) -> list[Receipt]:
    lab.sql("update enrichment.inbox set received_at = received_at - interval '1 day'")
    lab.sql(
        "update enrichment.calls set armed_at = armed_at - interval '1 day', "
        "closed_at = closed_at - interval '1 day'"
    )
    replayed = [Parcel("replayed", path, body) for path, body in valid]
    receipts = post_all(port, replayed, PER_SECOND)
    lab.sweep()
    return receipts


def _judge_answers(receipts: Sequence[Receipt], slowest: float, figures: Figures) -> None:
    answers = Counter((receipt.kind, receipt.status) for receipt in receipts)
    for (kind, status), n in sorted(answers.items()):
        figures.add(f"{kind}: {status or 'broken off'}", n)
        # A sender that is cut off while it still sends may not hear why.
        allowed = {413, 0} if kind == "oversized" else {200}
        if status not in allowed:
            figures.blame("answers", [f"{n} of {kind} answered {status}"])
    taken = sorted(r.seconds for r in receipts if r.status == 200)
    for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)):
        value = taken[min(len(taken) - 1, int(len(taken) * share))]
        figures.note(f"acknowledgement {name}, ms", round(value * 1000, 1))
    if taken[int(len(taken) * 0.99)] > slowest:
        figures.blame("acknowledgement", [f"the 99th percentile is above {slowest} s"])
