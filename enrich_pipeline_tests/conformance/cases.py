"""The providers under test with bodies of their APIs, as their references show them.

No rule lives here; the rules are in `suite.py`.
"""

from enrich_pipeline.providers.agntdata import Agntdata
from enrich_pipeline.providers.apollo import Apollo
from enrich_pipeline.providers.lance import Lance
from enrich_pipeline.providers.pronto import Pronto
from enrich_pipeline.providers.prospeo import Prospeo
from enrich_pipeline.providers.protocol import Call, Datapoint, Disposition, HttpRequest
from enrich_pipeline_tests.conformance.sixth_provider import Hexagon
from enrich_pipeline_tests.conformance.suite import JOB, Case, Play


def agntdata_reply(call: Call) -> object:
    results = [
        {
            "identifier": item.key,
            "matched": True,
            "cost_cents": 1,
            "person": {
                "email": item.person.get(Datapoint.EMAIL),
                "personal_email": "canary@mail-example.com",
                "phone": "+33612345678",
                "job_title": "Engineer",
                "company_name": "Canary Works",
                "company_domain": "canary-example.com",
                "linkedin_url": item.person.linkedin_url,
                "location": "Lyon, France",
            },
        }
        for item in call.items
    ]
    meta = {"costCents": len(results), "purchasedBalanceCents": 949, "cached": False}
    return {"success": True, "data": {"results": results}, "meta": meta}


def agntdata_error(code: str) -> object:
    return {"success": False, "error": {"code": code, "message": "no"}}


def prospeo_reply(call: Call) -> object:
    matched = [
        {
            "identifier": item.key,
            "person": {
                "person_id": item.person.get(Datapoint.PROSPEO_ID),
                "first_name": item.person.get(Datapoint.FIRST_NAME),
                "linkedin_url": item.person.linkedin_url,
                "current_job_title": "Engineer",
                "location": {"country": "France", "city": "Lyon"},
                "email": {
                    "status": "VERIFIED",
                    "revealed": True,
                    "email": item.person.get(Datapoint.EMAIL),
                },
                "mobile": {"status": "VERIFIED", "revealed": True, "mobile": "+33612345678"},
            },
            "company": {"name": "Canary Works", "domain": "canary-example.com"},
        }
        for item in call.items
    ]
    return {
        "error": False,
        "total_cost": len(matched),
        "matched": matched,
        "not_matched": [],
        "invalid_datapoints": [],
    }


def prospeo_error(code: str) -> object:
    return {"error": True, "error_code": code}


def pronto_result(call: Call) -> dict[str, object]:
    item = call.items[0]
    return {
        "enrichment_id": JOB,
        "first_name": item.person.get(Datapoint.FIRST_NAME),
        "last_name": item.person.get(Datapoint.LAST_NAME),
        "status": "finished",
        "email": item.person.get(Datapoint.EMAIL),
        "email_status": "deliverable",
        "personal_email": "canary@mail-example.com",
        "personal_email_status": "valid",
        "phone": ["+33612345678"],
        "custom": {"ref": item.key},
    }


def pronto_poll(call: Call) -> Play:
    return lambda _: pronto_result(call)


def lance_rows(call: Call, status: str) -> list[dict[str, object]]:
    return [
        {
            "id": JOB,
            "createdAt": "2026-09-01T10:00:00.000Z",
            "updatedAt": "2026-09-01T10:05:00.000Z",
            "entityId": item.person.get(Datapoint.LANCE_ID),
            "entityType": "person",
            "field": call.group,
            "status": status,
            "error": None,
            "dataFound": True if status == "finished" else None,
        }
        for item in call.items
    ]


def lance_poll(call: Call) -> Play:
    def play(request: HttpRequest) -> object:
        if request.method == "POST":
            return lance_rows(call, "finished")
        return {
            "id": request.path.rpartition("/")[2],
            "firstName": "Canary",
            "emails": [{"email": "canary@canary-example.com", "status": "verified"}],
            "phones": [{"number": "+33612345678", "type": "mobile"}],
        }

    return play


def apollo_reply(call: Call) -> object:
    matches = [
        {
            "id": item.person.get(Datapoint.APOLLO_ID),
            "first_name": item.person.get(Datapoint.FIRST_NAME),
            "last_name": item.person.get(Datapoint.LAST_NAME),
            "linkedin_url": item.person.linkedin_url,
            "title": "Engineer",
            "email": item.person.get(Datapoint.EMAIL),
            "email_status": "verified",
            "personal_emails": ["canary@mail-example.com"],
            "organization": {"name": "Canary Works", "primary_domain": "canary-example.com"},
        }
        for item in call.items
    ]
    return {
        "request_id": -1039995589705121900,
        "status": "success",
        "error_code": None,
        "total_requested_enrichments": len(matches),
        "unique_enriched_records": len(matches),
        "missing_records": 0,
        "credits_consumed": len(matches),
        "phone_enrichment": {"request_id": "77", "status": "pending"},
        "matches": matches,
    }


def apollo_delivery(call: Call) -> object:
    return {
        "status": "success",
        "total_requested_enrichments": len(call.items),
        "credits_consumed": 8 * len(call.items),
        "people": [
            {
                "id": item.person.get(Datapoint.APOLLO_ID),
                "status": "success",
                "phone_numbers": [
                    {
                        "raw_number": "+33 6 12 34 56 78",
                        "sanitized_number": "+33612345678",
                        "type_cd": "mobile",
                        "status_cd": "valid_number",
                        "confidence_cd": "high",
                    }
                ],
            }
            for item in call.items
        ],
    }


def apollo_poll(call: Call) -> Play:
    return lambda _: {
        "request_id": call.job_id,
        "webhook_status": "success",
        "request_type": "phone",
        "webhook_result": apollo_delivery(call),
    }


def hexagon_reply(call: Call) -> object:
    return {
        "cost": "2",
        "results": [
            {"id": item.key, "outcome": "found", "phone": "+33612345678", "status": "confirmed"}
            for item in call.items
        ],
    }


CASES = (
    Case(
        Prospeo,
        prospeo_reply,
        errors=(
            (400, prospeo_error("INSUFFICIENT_CREDITS"), Disposition.NO_CREDITS),
            (400, prospeo_error("INTERNAL_ERROR"), Disposition.IN_DOUBT),
            (400, prospeo_error("INVALID_REQUEST"), Disposition.INVALID),
            (401, prospeo_error("INVALID_API_KEY"), Disposition.UNAUTHORIZED),
            (429, prospeo_error("RATE_LIMITED"), Disposition.THROTTLED),
            (429, {"message": "slow down"}, Disposition.THROTTLED),
            (400, prospeo_error("SOMETHING_NEW"), Disposition.IN_DOUBT),
        ),
    ),
    Case(
        Agntdata,
        agntdata_reply,
        errors=(
            (400, agntdata_error("VALIDATION_ERROR"), Disposition.INVALID),
            (401, agntdata_error("UNAUTHORIZED"), Disposition.UNAUTHORIZED),
            (402, agntdata_error("INSUFFICIENT_CREDITS"), Disposition.NO_CREDITS),
            (429, agntdata_error("RATE_LIMITED"), Disposition.THROTTLED),
            (500, agntdata_error("INTERNAL_ERROR"), Disposition.TRANSIENT),
            (418, agntdata_error("SOMETHING_NEW"), Disposition.REFUSED),
            (500, agntdata_error("SOMETHING_NEW"), Disposition.TRANSIENT),
            (409, agntdata_error("CONFLICT"), Disposition.IN_DOUBT),
        ),
    ),
    Case(
        Pronto,
        lambda _: {"enrichment_id": JOB},
        errors=(
            (401, {"error": "Unauthorized"}, Disposition.UNAUTHORIZED),
            (422, {"error": "Insufficient credits"}, Disposition.NO_CREDITS),
            (422, {"error": "not without consenting with our terms"}, Disposition.REFUSED),
            (422, {"message": "Plan limit reached"}, Disposition.REFUSED),
            (422, {"errors": ["lastname is required"]}, Disposition.INVALID),
            (422, {"errors": ["something new"]}, Disposition.REFUSED),
            (429, {"error": "Too many requests"}, Disposition.THROTTLED),
            (500, {"error": "Internal server error"}, Disposition.IN_DOUBT),
        ),
        settings={"account_consents_to_personal_email": True, "phone_country_codes": ["FR"]},
        delivery=pronto_result,
        play=pronto_poll,
    ),
    Case(
        Lance,
        lambda call: lance_rows(call, "pending"),
        errors=(
            (400, {"code": "VALIDATION_ERROR"}, Disposition.INVALID),
            (401, {"code": "VALIDATION_ERROR"}, Disposition.UNAUTHORIZED),
            (402, {"code": "INSUFFICIENT_CREDITS"}, Disposition.NO_CREDITS),
            (500, {"code": "INTERNAL_ERROR"}, Disposition.IN_DOUBT),
            (500, {"code": "SOMETHING_NEW"}, Disposition.IN_DOUBT),
        ),
        play=lance_poll,
    ),
    Case(
        Apollo,
        apollo_reply,
        errors=(
            (400, {"status": "failed", "error_code": "INVALID_REQUEST"}, Disposition.INVALID),
            (403, {"error_code": "API_INACCESSIBLE", "error": "no"}, Disposition.REFUSED),
            (422, {"error_message": "Insufficient credits"}, Disposition.NO_CREDITS),
            (429, {"message": "slow down"}, Disposition.THROTTLED),
            (500, {"error_code": "SOMETHING_NEW"}, Disposition.IN_DOUBT),
        ),
        delivery=apollo_delivery,
        play=apollo_poll,
    ),
    Case(
        Hexagon,
        hexagon_reply,
        errors=(
            (401, {"error": "bad_key"}, Disposition.UNAUTHORIZED),
            (402, {"error": "no_credits"}, Disposition.NO_CREDITS),
            (400, {"error": "bad_record"}, Disposition.INVALID),
            (400, {"error": "something_new"}, Disposition.IN_DOUBT),
        ),
    ),
)
