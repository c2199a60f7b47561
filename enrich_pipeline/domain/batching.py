"""Cutting persons into calls: full ones first, never below a provider's minimum."""


def call_sizes(records: int, minimum: int, maximum: int, *, single: bool) -> tuple[int, ...]:
    """The fewest calls for `records`: all full but the last ones.

    A rest below `minimum` is filled up from the call before it (101 by 2 to 100 is 99 + 2). Fewer
    records than `minimum` altogether go one by one where a `single` endpoint exists, else not.
    """
    if records <= 0:
        return ()
    if records < minimum:
        return (1,) * records if single else ()
    full, rest = divmod(records, maximum)
    if rest == 0:
        return (maximum,) * full
    if rest >= minimum:
        return (maximum,) * full + (rest,)
    return (maximum,) * (full - 1) + (maximum + rest - minimum, minimum)
