"""The provider side of the model campaign: what comes later, by webhook or for who asks."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from enrich_pipeline.providers.protocol import HttpRequest, HttpResponse

from ..sandbox import people
from .model_exchanges import Exchanges
from .model_said import (
    MICRO,
    PRICES,
    Delivery,
    Fate,
    Job,
    Place,
    Said,
    Word,
    address,
    human,
    name_of,
    phone_of,
    subject_of,
    word_of,
)


class Providers(Exchanges):
    """All five, with the work that they took on."""

    def work(self, job: Job, fates: Sequence[Fate]) -> None:
        """The provider does what it took on; webhooks set out."""
        done = job.open_keys
        for key in done:
            fate = fates[human(key) % len(fates)]
            if job.provider == "lance":
                fate = self._finish_record(job, key, fate)
            elif job.provider == "apollo":
                fate = "found" if fate in ("found", "weak", "stranger") else "miss"
            job.results[key] = fate
            if job.provider != "lance" and fate not in ("miss", "failed"):
                price = PRICES[job.provider][job.product] * MICRO
                self._charge(job.provider, job.call_id, price)
        if job.provider == "pronto" and job.token:
            for key in done:
                body, said = self._contact(job, key)
                self._send_out(job, body, said)
        elif job.provider == "apollo" and job.token:
            self._send_out(job, *self._payload(job))

    def _finish_record(self, job: Job, key: str, fate: Fate) -> Fate:
        record = self._records[human(key), job.product]
        if record.fate is None:
            record.fate = fate
            if fate not in ("miss", "failed"):
                price = PRICES["lance"][job.product] * MICRO
                self._charge("lance", record.call_id, price)
        return record.fate

    def _send_out(self, job: Job, body: Mapping[str, Any], said: Said) -> None:
        assert job.token is not None
        content = json.dumps(body).encode()
        self.outbox.append(Delivery(job.call_id, job.provider, job.token, content, said))

    def _contact(self, job: Job, key: str) -> tuple[dict[str, Any], Said]:
        fate, number = job.results[key], human(key)
        name = name_of(key, fate)
        body: dict[str, Any] = {
            "enrichment_id": f"job{job.call_id}",
            "custom": {"ref": f"{key}.{job.call_id}"},
            "status": "failed" if fate == "failed" else "finished",
            **name,
        }
        field_of = {"email": "work_email"}.get(job.product, job.product)
        if fate == "failed":
            word = Word("failed")
        elif fate == "miss":
            word = Word("not_found")
            body[job.product] = None
        else:
            usable = fate != "empty"
            raw = {"email": address(key, fate), "phone": phone_of(number)}.get(
                job.product, f"own{number}@copperfox-home.com"
            )
            body[job.product] = raw if usable else "locked ****"
            weak_word = "catch-all" if job.product != "phone" else "valid"
            body[f"{job.product}_status"] = weak_word if fate == "weak" else "valid"
            is_good = fate != "weak" or job.product == "phone"
            word = word_of(fate, {field_of: is_good} if usable else {}, None)
        is_final = len(job.keys) == 1
        return body, Said("answered", {(key, job.product): word}, is_final=is_final)

    def _payload(self, job: Job) -> tuple[dict[str, Any], Said]:
        """All mobiles of one of Apollo's calls in one delivery."""
        listed = []
        words: dict[Place, Word] = {}
        cost = 0
        for key in job.keys:
            match = self._fates["apollo", human(key), "match"]
            subject = subject_of("apollo", key, match)
            person: dict[str, Any] = {"id": subject, "phone_numbers": []}
            if job.results[key] == "found":
                number = {"sanitized_number": phone_of(human(key)), "type_cd": "mobile"}
                person["phone_numbers"] = [{**number, "status_cd": "valid_number"}]
                words[key, "mobile"] = Word("found", {"phone": True}, True, subject=subject)
                cost += PRICES["apollo"]["mobile"] * MICRO
            else:
                words[key, "mobile"] = Word("not_found", subject=subject)
            listed.append(person)
        body = {
            "status": "success",
            "total_requested_enrichments": len(job.keys),
            "credits_consumed": cost // MICRO,
            "people": listed,
        }
        return body, Said("answered", words, is_final=True, cost=cost)

    # ---- polls --------------------------------------------------------------------------------

    def poll(self, call_id: int, provider: str, request: HttpRequest) -> HttpResponse:
        """One free request about one call."""
        job = self.jobs[call_id]
        if provider == "lance":
            return _json(self._lance_poll(job, request))
        if job.open_keys:
            if provider == "pronto":
                return _json({"enrichment_id": f"job{call_id}", "status": "pending"})
            return _json({"webhook_status": "in_progress"})
        if provider == "pronto":
            return _json(self._contact(job, job.keys[0])[0])
        return _json({"webhook_status": "success", "webhook_result": self._payload(job)[0]})

    def _lance_poll(self, job: Job, request: HttpRequest) -> dict[str, Any]:
        if request.method == "POST":
            return {"enrichments": [self._row(job.call_id, key, job.product) for key in job.keys]}
        key = next(k for k in job.keys if request.path.endswith(people.lance(human(k))))
        record = self._records[human(key), job.product]
        assert record.fate is not None
        entity: dict[str, Any] = {"id": people.lance(human(key)), **_lance_name(key, record.fate)}
        masked = record.fate == "empty"
        if job.product == "emails":
            status = "unverified" if record.fate == "weak" else "verified"
            email = "locked ****" if masked else address(key, record.fate)
            return entity | {"emails": [{"email": email, "status": status}]}
        return entity | {"phones": [{"number": "+49 ****" if masked else phone_of(human(key))}]}

    def polled(self, call_id: int) -> Said:
        """What a poll of this call says now, if it is answered."""
        job = self.jobs.get(call_id)
        if job is None:
            return Said("not_ready")
        if job.provider == "lance":
            return self._lance_said(job)
        if job.open_keys:
            return Said("not_ready")
        if job.provider == "pronto":
            return self._contact(job, job.keys[0])[1]
        return self._payload(job)[1]

    def _lance_said(self, job: Job) -> Said:
        words: dict[Place, Word] = {}
        field_of = {"emails": "work_email", "phones": "phone"}[job.product]
        for key in job.keys:
            record = self._records[human(key), job.product]
            is_older = record.call_id != job.call_id
            if record.fate is None:
                continue
            if record.fate in ("miss", "failed"):
                verdict = "failed" if record.fate == "failed" else "not_found"
                words[key, job.product] = Word(verdict, is_late=is_older)
                continue
            good = record.fate != "weak" or job.product == "phones"
            values = {} if record.fate == "empty" else {field_of: good}
            words[key, job.product] = word_of(record.fate, values, None, is_late=is_older)
        kind = "answered" if words else "not_ready"
        return Said(kind, words, is_final=len(words) == len(job.keys))

    def is_done_with(self, call_id: int) -> bool:
        """Whether nothing of this call can cost anything any more."""
        job = self.jobs.get(call_id)
        return job is None or not job.open_keys


def _lance_name(key: str, fate: Fate) -> dict[str, str]:
    name = name_of(key, fate)
    return {"firstName": name["first_name"], "lastName": name["last_name"]}


def _json(body: Mapping[str, Any]) -> HttpResponse:
    return HttpResponse(200, {}, json.dumps(body).encode())
