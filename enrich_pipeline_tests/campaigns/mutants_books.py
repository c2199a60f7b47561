"""Bugs in what is bought, booked and remembered: holds, settlement, budgets, reuse, deliveries."""

from .mutant import Edit, Mutant

_SCHEMA = "store/migrations/versions/0001_operations.sql"

BOOKS = (
    Mutant(
        "live purchases not unique",
        "The database allows two live purchases of one product for one person.",
        (
            Edit(
                _SCHEMA,
                "CREATE UNIQUE INDEX charge_lines_active",
                "CREATE INDEX charge_lines_active",
            ),
        ),
        ("scenes",),
    ),
    Mutant(
        "budget not enforced",
        "The database allows a day's budget to be exceeded.",
        (
            Edit(
                _SCHEMA,
                "    PRIMARY KEY (scope, key, day),\n    CHECK (held + in_doubt + spent <= cap)\n",
                "    PRIMARY KEY (scope, key, day)\n",
            ),
        ),
        ("scenes",),
    ),
    Mutant(
        "budget not asked",
        "A claim holds without looking how much room the day's budget has.",
        (
            Edit(
                "waterfall/claim.py",
                "if need_usd > free_usd or need_micro > free_micro:",
                "if False:",
            ),
        ),
        ("scenes", "race"),
    ),
    Mutant(
        "ledger can be rewritten",
        "Entries of the ledger may be changed and deleted.",
        (Edit(_SCHEMA, "BEFORE UPDATE OR DELETE OR TRUNCATE ON", "BEFORE TRUNCATE ON"),),
        ("scenes",),
    ),
    Mutant(
        "settlement in two transactions",
        "The ledger is committed before the results that it pays for.",
        (
            Edit("waterfall/booking.py", "    ledger.post(\n", "    _post_apart(\n"),
            Edit(
                "waterfall/booking.py",
                "def post_lines(conn",
                "def _post_apart(conn, provider, entries):\n"
                "    with conn.engine.begin() as own:\n"
                "        ledger.post(own, provider, entries)\n\n\n"
                "def post_lines(conn",
            ),
        ),
        ("scenes", "crash"),
    ),
    Mutant(
        "reply marked before it is applied",
        "A stored reply counts as used in a transaction of its own, before it is.",
        (
            Edit(
                "waterfall/send.py",
                "    api = ctx.providers[stored.provider]\n    responses = [\n",
                "    with ctx.engine.begin() as first:\n"
                "        replies.mark_read(first, {(stored.call_id, kept.settlement): ()})\n"
                "    api = ctx.providers[stored.provider]\n    responses = [\n",
            ),
        ),
        ("scenes", "crash"),
    ),
    Mutant(
        "hold too small",
        "Half of what a product can cost is held.",
        (
            Edit(
                "waterfall/reserve.py",
                "amount = max(price, ctx.providers[provider].cap_micro(product) or 0)",
                "amount = price // 2",
            ),
        ),
        ("scenes", "crash"),
    ),
    Mutant(
        "released to another day",
        "A settlement moves the budget of today, not that of the day of the hold.",
        (
            Edit(
                "waterfall/booking.py",
                "spend_date=b.stored.spend_date,",
                "spend_date=reservations.today(conn),",
            ),
            Edit(
                "waterfall/booking.py",
                "from enrich_pipeline.store import answers, calls, ledger\n",
                "from enrich_pipeline.store import answers, calls, ledger, reservations\n",
            ),
        ),
        ("scenes",),
    ),
    Mutant(
        "what is pending is bought again",
        "A product that is held or in doubt does not stop its next purchase.",
        (
            Edit(
                "waterfall/decide.py",
                '    if memory is not None and memory.state in ("held", "in_doubt"):\n'
                '        decision.wait.append((open_field, "asked_already"))\n'
                "    elif memory",
                "    if memory",
            ),
        ),
        ("scenes", "crash"),
    ),
    Mutant(
        "what was found is bought again",
        "An answer inside its reuse window is not remembered.",
        (
            Edit(
                "waterfall/decide.py",
                "return memory.verdict == Verdict.FOUND and",
                "return False and",
            ),
        ),
        ("scenes", "crash"),
    ),
    Mutant(
        "a miss forgotten",
        "Who was not found there is asked for again, with nothing new known.",
        (Edit("waterfall/decide.py", "if memory.verdict in KNOWN_MISSES:", "if False:"),),
        ("scenes", "crash"),
    ),
    Mutant(
        "purchases of a merged person forgotten",
        "What a merged person's calls may still bring is bought for the survivor as well.",
        (
            Edit(
                "store/work.py",
                "                UNION ALL\n"
                "                SELECT person_id, merged_into FROM enrichment.persons\n"
                "                WHERE merged_into = ANY(cast(:ids AS bigint[]))\n",
                "",
            ),
        ),
        ("scenes", "crash"),
    ),
    Mutant(
        "consent not checked when stored",
        "A personal address is kept although consent was withdrawn while it was asked for.",
        (
            Edit(
                "waterfall/findings.py",
                "if may_keep and (consents or v.attribute is not Attribute.PERSONAL_EMAIL)",
                "if v.attribute is not None",
            ),
        ),
        ("scenes",),
    ),
    Mutant(
        "another person merged",
        "An answer about somebody else is taken for an answer.",
        (
            Edit(
                "waterfall/findings.py",
                "other = contradiction(item.person, answer.subject, stored.provider)",
                "other = None",
            ),
        ),
        ("scenes",),
    ),
    Mutant(
        "free re-read booked by tariff",
        "A repetition books the price of what an earlier call had paid for.",
        (
            Edit(
                "waterfall/settle.py",
                "found = findings.paid_now(conn, stored, reply, found)",
                "pass",
            ),
        ),
        ("scenes",),
    ),
    Mutant(
        "poison not bisected",
        "One bad record makes all persons of its call invalid.",
        (
            Edit(
                "waterfall/settle.py",
                "reply.disposition is Disposition.INVALID and len(stored.items) == 1",
                "reply.disposition is Disposition.INVALID",
            ),
        ),
        ("poison",),
    ),
    Mutant(
        "late answer ignored",
        "A delivery after the write-off has no effect: what was paid for is thrown away.",
        (
            Edit(
                "waterfall/collect.py",
                'if x.state.value in ("held", "in_doubt", "written_off")',
                'if x.state.value in ("held", "in_doubt")',
            ),
        ),
        ("webhooks",),
    ),
    Mutant(
        "late answer without a recovery",
        "A delivery after the write-off is posted as if its hold were still there.",
        (
            Edit(
                "domain/posting.py",
                "(EntryType.RECOVER, EntryType.RECOVER_RELEASE)",
                "(EntryType.POST, EntryType.RELEASE)",
            ),
        ),
        ("webhooks",),
    ),
    Mutant(
        "repeated delivery posts twice",
        "A delivery is neither recognized when it comes again nor held against what is settled.",
        (
            Edit(_SCHEMA, "    UNIQUE (provider, token_hash, body_sha256)\n", "    CHECK (true)\n"),
            Edit(
                "store/inbox.py",
                "FROM told AS t WHERE NOT t.is_repeated",
                "FROM told AS t",
            ),
            Edit(
                "waterfall/collect.py",
                'if x.state.value in ("held", "in_doubt", "written_off")',
                "if x.state.value",
            ),
            Edit(
                "waterfall/booking.py",
                "OPEN_LINES = (LineState.HELD,",
                "OPEN_LINES = (LineState.POSTED, LineState.HELD,",
            ),
            Edit(
                "waterfall/booking.py",
                "before=line.state,",
                "before=LineState.HELD if line.state is LineState.POSTED else line.state,",
            ),
        ),
        ("webhooks",),
    ),
)
