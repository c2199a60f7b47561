"""Scenes in which an answer is lost, about somebody else, elsewhere, or known already."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ..support.lab import contact, contacts, only
from . import checks, schedules
from .stage import Stage, alone

_PERSONS = 3


def a_lost_reply_is_in_doubt_and_never_asked_for_again(stage: Stage) -> None:
    for provider in ("agntdata", "apollo", "pronto"):
        with stage.lab(alone(provider)) as lab:
            lab.sandbox.faults(
                {"provider": provider, "kind": "charge_then_drop"},
                {"provider": provider, "kind": "lose_webhook", "times": None, "probability": 1},
            )
            lab.night(contacts(range(_PERSONS)))
            for _ in range(2):
                stage.blame(f"{provider}, lost", checks.spending(lab.engine, lab.sandbox))
                stage.blame(f"{provider}, lost", checks.ledger(lab.engine))
                stage.expect(f"{provider}: in doubt", checks.doubts(lab.engine), 1)
                stage.expect(f"{provider}: requests", lab.sent()[provider], 1)
                schedules.advance(lab, "leases")
                stage.drain(lab)
            stage.end(lab)
            lab.plan()
            stage.drain(lab)
            stage.expect(f"{provider}: requests in the end", lab.sent()[provider], 1)


def a_re_read_of_what_another_call_paid_for_costs_nothing(stage: Stage) -> None:
    with stage.lab(alone("prospeo")) as lab:
        lab.night([contact(1, linkedin_url="")])
        lab.load([contact(1, contact_id="other", email="", lance_person_id="")])
        lab.plan()
        lab.sandbox.faults({"provider": "prospeo", "kind": "charge_then_drop"})
        stage.drain(lab)
        schedules.advance(lab, "leases")
        stage.drain(lab)
        stage.expect("requests", lab.sent()["prospeo"], 3)
        stage.expect("spent", lab.account("prospeo")["spent"], lab.charged()["prospeo"])
        stage.end(lab)


def an_answer_about_somebody_else_is_paid_and_never_merged(stage: Stage) -> None:
    for provider in ("prospeo", "agntdata", "apollo"):
        with stage.lab(alone(provider), {"answer.other_person": 1}) as lab:
            lab.night(contacts(range(_PERSONS)))
            stage.expect(
                f"{provider}: values taken from somebody else",
                lab.one(
                    "select count(*) from enrichment.observations "
                    "where rejected_reason is distinct from 'other_person'"
                ),
                0,
            )
            stage.expect(
                f"{provider}: answers about others",
                lab.outcomes(provider).get("other_person", 0),
                lab.sandbox.meter()[provider]["other_persons"],
            )
            stage.expect(
                f"{provider}: spent", lab.account(provider)["spent"], lab.charged()[provider]
            )
            stage.end(lab)


def who_is_asked_for_at_a_provider_is_not_asked_for_there_again(stage: Stage) -> None:
    """A field that comes by later waits for what is in doubt, and is served from what is known."""
    own = only({"work_email": ["agntdata"], "profile": ["prospeo", "agntdata"]})
    for what, share in (("found", 1.0), ("missed", 0.0), ("in doubt", 1.0)):
        with stage.lab(own, {"prospeo.match": 0, "agntdata.record": share}) as lab:
            if what == "in doubt":
                lab.sandbox.faults({"provider": "agntdata", "kind": "charge_then_drop"})
            lab.load(contacts(range(_PERSONS)))
            lab.plan()
            lab.drain(chain=("agntdata", "prospeo", "agntdata"))
            stage.expect(f"requests for what is {what}", lab.sent()["agntdata"], 1)
            stage.blame(what, checks.asked_again(lab.engine))
            stage.end(lab)
            stage.expect(f"requests for what was {what}", lab.sent()["agntdata"], 1)


def a_budget_shrinks_calls_and_never_fails_a_run(stage: Stage) -> None:
    with stage.lab(alone("agntdata", budget={"night_usd": 0.02})) as lab:
        lab.night(contacts(range(_PERSONS + 2)))
        stage.drain(lab)
        stage.expect("charged", lab.charged()["agntdata"], 2_000_000)
        stage.blame("short of budget", checks.ledger(lab.engine))


def the_database_refuses_what_no_code_may_do(stage: Stage) -> None:
    with stage.lab(alone("agntdata")) as lab:
        lab.night(contacts(range(_PERSONS)))
        stage.blame("not refused", checks.not_refused(lab.engine))
        stage.end(lab)


def a_redirect_is_an_answer_and_leads_nowhere(stage: Stage) -> None:
    with (
        _listening(200) as (elsewhere, astray),
        _listening(307, elsewhere) as (here, asked),
        stage.lab(alone("agntdata"), environment={"ENRICH_AGNTDATA_BASE_URL": here}) as lab,
    ):
        lab.load(contacts(range(_PERSONS)))
        lab.plan()
        stage.drain(lab)
        stage.expect("requests elsewhere", len(astray), 0)
        stage.expect("was asked", len(asked) > 0, True)
        stage.blame("redirected", checks.ledger(lab.engine))


@contextmanager
def _listening(status: int, location: str = "") -> Iterator[tuple[str, list[str]]]:
    """A server that answers everything alike; its address and the paths that it was asked for."""
    heard: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            if location:
                self.send_header("Location", location + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
