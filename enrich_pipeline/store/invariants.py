"""What must hold at every moment, as SQL: zero rows, or something is wrong with the money.

Each query returns (detail) rows of ids and amounts, never values of persons.
"""

from sqlalchemy import Connection, text

INVARIANTS: dict[str, str] = {
    "an account's balance is the sum of its entries": """
        SELECT format('account %s: balance %s, entries %s', a.account_id, a.balance, x.total)
        FROM enrichment.accounts AS a
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(CASE WHEN e.debit_account = a.account_id THEN e.amount_micro
                                     ELSE -e.amount_micro END), 0) AS total
            FROM enrichment.ledger_entries AS e
            WHERE a.account_id IN (e.debit_account, e.credit_account)) AS x
        WHERE x.total <> a.balance
    """,
    "a provider's balances sum to zero": """
        SELECT format('%s: %s', provider, sum(balance)) FROM enrichment.accounts
        GROUP BY provider HAVING sum(balance) <> 0
    """,
    "a call's hold is posted, released, doubted or still held": """
        SELECT format('call %s', c.call_id)
        FROM enrichment.calls AS c
        LEFT JOIN LATERAL (
            SELECT sum(amount_micro) FILTER (WHERE entry_type = 'hold') AS hold,
                   sum(amount_micro) FILTER (WHERE entry_type IN ('post', 'release')) AS done,
                   sum(amount_micro) FILTER (WHERE entry_type = 'doubt') AS doubt,
                   sum(amount_micro) FILTER (WHERE entry_type IN
                       ('doubt_post', 'doubt_release', 'write_off')) AS undoubted,
                   sum(amount_micro) FILTER (WHERE entry_type = 'write_off') AS lost,
                   sum(amount_micro) FILTER (WHERE entry_type IN
                       ('recover', 'recover_release')) AS recovered
            FROM enrichment.ledger_entries AS e WHERE e.call_id = c.call_id) AS e ON true
        LEFT JOIN LATERAL (
            SELECT sum(hold_micro) AS hold,
                   sum(hold_micro) FILTER (WHERE state = 'held') AS held,
                   sum(hold_micro) FILTER (WHERE state = 'in_doubt') AS in_doubt,
                   sum(hold_micro) FILTER (WHERE state = 'written_off') AS lost
            FROM enrichment.charge_lines AS l WHERE l.call_id = c.call_id) AS l ON true
        WHERE coalesce(e.hold, 0) <> c.hold_micro OR coalesce(l.hold, 0) <> c.hold_micro
           OR coalesce(e.hold, 0) - coalesce(e.done, 0) - coalesce(e.doubt, 0)
              <> coalesce(l.held, 0)
           OR coalesce(e.doubt, 0) - coalesce(e.undoubted, 0) <> coalesce(l.in_doubt, 0)
           OR coalesce(e.lost, 0) - coalesce(e.recovered, 0) <> coalesce(l.lost, 0)
    """,
    "held and in doubt are what the lines say": """
        SELECT format('%s %s: account %s, lines %s', a.provider, a.kind, a.balance,
                      coalesce(l.total, 0))
        FROM enrichment.accounts AS a
        LEFT JOIN (
            SELECT provider, state, sum(hold_micro) AS total FROM enrichment.charge_lines
            WHERE state IN ('held', 'in_doubt', 'written_off') GROUP BY provider, state
        ) AS l ON l.provider = a.provider AND l.state = a.kind
        WHERE a.kind IN ('held', 'in_doubt', 'written_off') AND a.balance <> coalesce(l.total, 0)
    """,
    "a day's budget holds what the calls of that day hold": """
        WITH live AS (
            SELECT c.spend_date, c.provider, l.state, sum(l.hold_micro) AS micro,
                   sum(l.hold_usd_micro) AS usd_micro
            FROM enrichment.charge_lines AS l JOIN enrichment.calls AS c USING (call_id)
            WHERE l.state IN ('held', 'in_doubt') GROUP BY c.spend_date, c.provider, l.state
        )
        SELECT format('%s %s %s: held %s, in doubt %s; lines %s, %s', b.scope, b.key, b.day,
                      b.held, b.in_doubt, x.held, x.in_doubt)
        FROM enrichment.budgets AS b
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(amount) FILTER (WHERE state = 'held'), 0) AS held,
                   coalesce(sum(amount) FILTER (WHERE state = 'in_doubt'), 0) AS in_doubt
            FROM (
                SELECT state, CASE b.scope WHEN 'night' THEN usd_micro ELSE micro END AS amount
                FROM live
                WHERE spend_date = b.day AND (b.scope = 'night' OR provider = b.key)) AS mine) AS x
        WHERE (b.held, b.in_doubt) <> (x.held, x.in_doubt)
    """,
    "a closed call has no open line": """
        SELECT format('call %s', c.call_id) FROM enrichment.calls AS c
        JOIN enrichment.charge_lines AS l USING (call_id)
        WHERE c.state IN ('settled', 'released', 'written_off') AND l.state IN ('held', 'in_doubt')
    """,
    "an attempt without an answer belongs to an open line": """
        SELECT format('attempt %s', a.attempt_id) FROM enrichment.attempts AS a
        JOIN enrichment.charge_lines AS l USING (line_id)
        WHERE a.outcome IN ('pending', 'in_doubt') AND l.state NOT IN ('held', 'in_doubt')
    """,
    "a paid answer left a result": """
        SELECT format('line %s', l.line_id) FROM enrichment.charge_lines AS l
        WHERE l.verdict = 'found' AND l.state = 'posted'
          AND NOT EXISTS (SELECT 1 FROM enrichment.observations AS o WHERE o.line_id = l.line_id)
          AND l.reason IS DISTINCT FROM 'values_discarded'
    """,
    "spent is what the lines and the unassigned costs say": """
        SELECT format('%s: spent %s, lines %s', a.provider, a.balance, coalesce(l.total, 0))
        FROM enrichment.accounts AS a
        LEFT JOIN (
            SELECT provider, sum(cost_micro) AS total FROM enrichment.charge_lines GROUP BY provider
        ) AS l USING (provider)
        WHERE a.kind = 'spent' AND a.balance < coalesce(l.total, 0)
    """,
    "an attempt's cost is its line's": """
        SELECT format('line %s', l.line_id)
        FROM enrichment.charge_lines AS l
        JOIN (SELECT line_id, sum(cost_micro) AS total, count(*) FROM enrichment.attempts
              WHERE line_id IS NOT NULL AND outcome <> 'reused'
              GROUP BY line_id) AS a USING (line_id)
        WHERE a.total <> l.cost_micro
    """,
    "what is planned is of a night and a person that exist": """
        SELECT DISTINCT format('%s, person %s', r.partition_date, r.person_id)
        FROM enrichment.plan_rows AS r
        LEFT JOIN enrichment.plan_nights AS n USING (partition_date)
        LEFT JOIN enrichment.persons AS p USING (person_id)
        WHERE n.partition_date IS NULL OR p.person_id IS NULL
    """,
}

PAID_TWICE = """
    SELECT format('person %s, %s %s: lines %s and %s', b.person_id, b.provider, b.product,
                  a.line_id, b.line_id)
    FROM enrichment.charge_lines AS a
    JOIN enrichment.charge_lines AS b
      ON (b.person_id, b.provider, b.product, b.options)
       = (a.person_id, a.provider, a.product, a.options) AND b.line_id > a.line_id
    JOIN enrichment.calls AS c ON c.call_id = b.call_id
    JOIN enrichment.persons AS p ON p.person_id = b.person_id
    WHERE a.cost_micro > 0 AND b.cost_micro > 0
      AND a.verdict = 'found' AND b.answered_at < a.answered_at + make_interval(days => :days)
      -- Bought while they were two persons, it was bought once for each. A key names its person.
      -- When they became one is not known any more of whoever was erased.
      AND (a.item_key = b.item_key OR p.erased_at IS NULL AND c.claimed_at > coalesce(
          (SELECT max(moved.valid_to) FROM enrichment.contact_persons AS moved
           WHERE format('p%s', moved.person_id) IN (a.item_key, b.item_key)
             AND moved.person_id <> b.person_id), '-infinity'))
"""

BUDGETS = """
    SELECT format('%s %s %s: over by %s', scope, key, day,
                  held + in_doubt + spent + overage - cap)
    FROM enrichment.budgets WHERE held + in_doubt + spent + overage > cap
"""


def violations(conn: Connection) -> list[tuple[str, str]]:
    """(rule, detail) for everything in the ledger that does not hold; empty when all is well."""
    return [
        (rule, str(detail))
        for rule, query in INVARIANTS.items()
        for (detail,) in conn.execute(text(query)).all()
    ]


def paid_twice(conn: Connection, found_days: int) -> list[str]:
    """(person, provider, product, options) charged twice inside the reuse window."""
    return [str(d) for (d,) in conn.execute(text(PAID_TWICE), {"days": found_days}).all()]


def budgets_exceeded(conn: Connection) -> list[str]:
    """Budgets that were exceeded: only a cost beyond its hold can do that."""
    return [str(d) for (d,) in conn.execute(text(BUDGETS)).all()]
