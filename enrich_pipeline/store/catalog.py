"""How tables describe themselves: the columns, types and comments of the database's catalog."""

from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    kind: str
    comment: str
    is_nullable: bool


def columns(connection: Connection, table: str) -> list[Column]:
    """The columns of `schema.table` in order."""
    rows = connection.execute(
        text("""
            select
                attname as name,
                format_type(atttypid, atttypmod) as kind,
                coalesce(col_description(attrelid, attnum), '') as comment,
                not attnotnull as is_nullable
            from pg_attribute
            where attrelid = cast(:table as regclass) and attnum > 0 and not attisdropped
            order by attnum
        """),
        {"table": table},
    )
    return [Column(**row) for row in rows.mappings()]
