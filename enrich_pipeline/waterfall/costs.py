"""What a reply cost, divided over the charge lines that it answers."""

from collections.abc import Sequence

from enrich_pipeline.domain.credit import divide
from enrich_pipeline.providers.protocol import MATCHED_NO_DATA, Reply
from enrich_pipeline.store import calls
from enrich_pipeline.waterfall.booking import REREAD
from enrich_pipeline.waterfall.context import Context
from enrich_pipeline.waterfall.findings import Finding


def of_findings(
    ctx: Context,
    stored: calls.StoredCall,
    reply: Reply,
    findings: Sequence[Finding],
    settlement: str,
) -> tuple[list[int], int, str | None]:
    """(cost per finding, cost that no line explains, source), in micro-credits.

    The provider's own figure decides. It is divided over the charged lines by largest remainder on
    the tariff, each at most its hold; the rest is booked on the call. After a free re-read the
    figure says what the repetition cost, so the tariff says what the first request did.
    """
    charged = [f for f in findings if f.is_charged]
    prices = stored.prices
    tariff = [int(prices[f.line.product]) if f.is_charged else 0 for f in findings]
    if not findings:
        # A delivery and a poll report the same charge: without a line that it settles, a figure is
        # a repetition. Only the reply to a request itself may cost something for nobody.
        is_of_request = settlement == "submit" or settlement.startswith(REREAD)
        stray = (reply.cost_micro or 0) if is_of_request else 0
        return [], stray, "reported" if stray else None
    is_reread = settlement.startswith(REREAD)
    if all(f.reported_micro is not None for f in charged) and charged and not is_reread:
        itemized = [f.reported_micro or 0 if f.is_charged else 0 for f in findings]
        if reply.cost_micro is None or sum(itemized) == reply.cost_micro:
            return itemized, 0, "reported"
    if reply.cost_micro is None or is_reread:
        api = ctx.providers[stored.provider]
        total = api.tariff_micro(
            {k: int(v) for k, v in prices.items()}, [f.line.product for f in charged]
        )
        return divide(total, tariff), 0, "tariff"
    costs, rest = [0] * len(findings), reply.cost_micro
    for is_hit in (True, False):
        # What was found explains the bill first; a charged miss only what is left of it.
        part = [
            t if (f.reason != MATCHED_NO_DATA) == is_hit else 0
            for t, f in zip(tariff, findings, strict=True)
        ]
        room = sum(f.line.hold_micro for t, f in zip(part, findings, strict=True) if t)
        for index, share in enumerate(divide(min(rest, room), part)):
            costs[index] += min(share, findings[index].line.hold_micro)
        rest = reply.cost_micro - sum(costs)
    return costs, rest, "reported"
