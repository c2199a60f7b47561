"""Bugs in what comes before, with and around a request: intent, locks, leases, doubt, consent."""

from .mutant import Edit, Mutant

SENDING = (
    Mutant(
        "intent not committed",
        "The call is armed in a transaction that is rolled back: it is sent without a trace.",
        (
            Edit(
                "waterfall/send.py",
                '            refused = "lease_over"\n        reached("arming")\n',
                '            refused = "lease_over"\n        reached("arming")\n'
                "        conn.rollback()\n",
            ),
        ),
        ("scenes", "crash"),
    ),
    Mutant(
        "commits not awaited",
        "synchronous_commit is off: a server that dies forgets what it had confirmed.",
        (Edit("store/connection.py", "synchronous_commit=on", "synchronous_commit=off"),),
        ("scenes", "dbcrash"),
    ),
    Mutant(
        "lost reply is a failure",
        "A timeout or a broken connection gives the hold back, and the call is made anew.",
        (
            Edit(
                "waterfall/send.py",
                'outcome.in_doubt += doubt(conn, ctx, stored, "lost", code)',
                'release(conn, stored, "lost", code)',
            ),
        ),
        ("scenes", "crash", "netfault"),
    ),
    Mutant(
        "lost reply retried by the client",
        "The HTTP client repeats a request whose reply was lost.",
        (
            Edit(
                "providers/http.py",
                "        except Exception as error:  # noqa: BLE001 - an unknown failure is",
                "        except Exception as error:\n"
                '            if prepared.extensions.setdefault("tries", 1) < 3:\n'
                '                prepared.extensions["tries"] += 1\n'
                "                return self._exchange(line, prepared)\n"
                "            #",
            ),
        ),
        ("scenes", "crash", "netfault"),
    ),
    Mutant(
        "sent again while in doubt",
        "Every provider's calls in doubt are repeated, whatever its policy.",
        (Edit("waterfall/sweep.py", "if not api.in_doubt.allows_repetition or", "if"),),
        ("scenes", "crash"),
    ),
    Mutant(
        "redirects followed",
        "A provider's reply may send the request, and its key, to another address.",
        (
            Edit(
                "providers/http.py",
                "response = line.transport.handle_request(prepared)",
                "client = httpx.Client(transport=line.transport, follow_redirects=True)\n"
                "            response = client.send(prepared, stream=True)",
            ),
        ),
        ("scenes",),
    ),
    Mutant(
        "reply read before it is kept",
        "The reply is parsed first and stored after: who dies in between loses it.",
        (
            Edit(
                "waterfall/send.py",
                '    store(ctx, claimed.call_id, "submit", [response])\n    reached("stored")\n',
                "    with ctx.engine.connect() as conn:\n"
                "        stored = calls.load(conn, claimed.call_id, lock=False)\n"
                "    ctx.providers[claimed.provider].read(ctx.wire_call(stored), response)\n"
                '    reached("stored")\n'
                '    store(ctx, claimed.call_id, "submit", [response])\n',
            ),
        ),
        ("scenes",),
    ),
    Mutant(
        "armed whatever became of it",
        "Arming does not ask whether the call is still reserved and its lease not over.",
        (
            Edit(
                "store/calls.py",
                "WHERE c.call_id = :call_id AND c.state = 'reserved'\n"
                "                  AND c.lease_until > clock_timestamp() AND",
                "WHERE c.call_id = :call_id AND",
            ),
        ),
        ("scenes", "crash"),
    ),
    Mutant(
        "deadline not checked after sleep",
        "A process that slept past its deadline sends all the same.",
        (
            Edit(
                "waterfall/send.py",
                "        if left <= 0:\n            # The process slept: by now others",
                "        if False:\n            # The process slept: by now others",
            ),
            Edit(
                "waterfall/send.py",
                "body=claimed.body, deadline_seconds=left,",
                "body=claimed.body, deadline_seconds=deadline,",
            ),
        ),
        ("scenes",),
    ),
    Mutant(
        "consent checked only when claimed",
        "Arming does not look whether somebody withdrew or was suppressed meanwhile.",
        (
            Edit(
                "store/calls.py",
                "AND c.lease_until > clock_timestamp() AND c.erased_at IS NULL\n"
                "                  AND NOT {_IS_WITHDRAWN}\n",
                "AND c.lease_until > clock_timestamp() AND c.erased_at IS NULL\n",
            ),
        ),
        ("scenes",),
    ),
    Mutant(
        "pause ignored by who has claimed",
        "A call that was reserved before operators paused sending is sent.",
        (Edit("waterfall/send.py", "elif not switch.may_send(conn):", "elif False:"),),
        ("scenes",),
    ),
    Mutant(
        "leases by the process's clock",
        "Whether a lease is over is judged by the clock of whoever asks.",
        (
            Edit(
                "store/calls.py",
                "WHERE state = :state AND clock_timestamp() >= CASE :clock",
                "WHERE state = :state AND :now >= CASE :clock",
            ),
            Edit(
                "store/calls.py",
                '{"state": state, "clock": clock,',
                '{"now": datetime.now().astimezone(), "state": state, "clock": clock,',
            ),
        ),
        ("scenes",),
    ),
    Mutant(
        "sweep releases what was sent",
        "A call whose process died while sending counts as never sent.",
        (
            Edit(
                "waterfall/sweep.py",
                'doubt(conn, ctx, stored, "sweep", "process_gone")',
                'release(conn, stored, "sweep", "process_gone")',
            ),
        ),
        ("scenes", "crash"),
    ),
    Mutant(
        "persons locked in no order",
        "Settlements lock their persons one by one, in the order of their call.",
        (
            Edit(
                "store/work.py",
                "    rows = conn.execute(\n"
                '        text(_LOCK_PERSONS if wait else f"{_LOCK_PERSONS} SKIP LOCKED"),\n'
                '        {"ids": sorted(set(person_ids))},\n'
                "    )\n",
                "    rows = [\n"
                "        row\n"
                "        for person in dict.fromkeys(person_ids)\n"
                "        for row in conn.execute(\n"
                '            text(_LOCK_PERSONS if wait else f"{_LOCK_PERSONS} SKIP LOCKED"),\n'
                '            {"ids": [person]},\n'
                "        )\n"
                "    ]\n",
            ),
        ),
        ("scenes", "race"),
    ),
    Mutant(
        "budgets locked before accounts",
        "A claim takes the ledger's locks in another order than a settlement.",
        (
            Edit(
                "store/ledger.py",
                "    _lock_accounts(conn, provider)\n    conn.execute(\n",
                "    conn.execute(\n",
            ),
        ),
        ("scenes", "race"),
    ),
    Mutant(
        "claims without locks",
        "Two claims may read the same open field before either of them takes it.",
        (
            Edit(
                "store/work.py",
                'text(_LOCK_PERSONS if wait else f"{_LOCK_PERSONS} SKIP LOCKED")',
                'text(_LOCK_PERSONS if wait else _LOCK_PERSONS.partition("FOR NO")[0])',
            ),
            Edit(
                "store/work.py",
                "ORDER BY e.rank, e.person_id, e.enrichment_id FOR NO KEY UPDATE OF e",
                "ORDER BY e.rank, e.person_id, e.enrichment_id",
            ),
        ),
        ("scenes", "race"),
    ),
)
