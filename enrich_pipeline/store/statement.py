"""Statements that are sent again and again: each is taken apart once, not whenever it is sent."""

from functools import cache

import sqlalchemy
from sqlalchemy import TextClause


@cache
def text(statement: str) -> TextClause:
    """Return the statement; only for text that is written in the code, of which there is little."""
    return sqlalchemy.text(statement)
