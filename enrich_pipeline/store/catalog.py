"""How tables describe themselves: the columns, types and comments of the database's catalog."""

from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    kind: str
    comment: str
    is_nullable: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view of a schema; of a view the catalog knows neither key nor what is never null.

    `key` are the columns of the primary key.
    """

    name: str
    comment: str
    is_view: bool
    key: tuple[str, ...]
    columns: tuple[Column, ...]


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


def tables(connection: Connection, schema: str) -> list[Table]:
    """The tables and views of a schema by name."""
    rows = connection.execute(
        text("""
            select
                c.relname as name,
                coalesce(obj_description(c.oid, 'pg_class'), '') as comment,
                c.relkind in ('v', 'm') as is_view,
                array(
                    select a.attname from pg_index as i
                    cross join unnest(i.indkey) with ordinality as k (attnum, place)
                    join pg_attribute as a on a.attrelid = c.oid and a.attnum = k.attnum
                    where i.indrelid = c.oid and i.indisprimary
                    order by k.place
                ) as key
            from pg_class as c
            where c.relnamespace = cast(:schema as regnamespace)
              and c.relkind in ('r', 'p', 'v', 'm')
            order by c.relname
        """),
        {"schema": schema},
    ).all()
    return [
        Table(
            name=row.name,
            comment=row.comment,
            is_view=row.is_view,
            key=tuple(row.key),
            columns=tuple(columns(connection, f"{schema}.{row.name}")),
        )
        for row in rows
    ]


def functions(connection: Connection, schema: str) -> dict[str, str]:
    """By call, the comments of the functions of a schema that give rows of one of its tables."""
    rows = connection.execute(
        text("""
            select
                p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' as call,
                coalesce(obj_description(p.oid, 'pg_proc'), '') as comment
            from pg_proc as p
            join pg_class as c on c.reltype = p.prorettype and c.relnamespace = p.pronamespace
            where p.pronamespace = cast(:schema as regnamespace)
            order by call
        """),
        {"schema": schema},
    )
    return {call: comment for call, comment in rows}


def comment(connection: Connection, schema: str) -> str:
    """What a schema says about itself."""
    query = text(
        "select coalesce(obj_description(cast(:schema as regnamespace), 'pg_namespace'), '')"
    )
    said: str = connection.execute(query, {"schema": schema}).scalar_one()
    return said


def masks(connection: Connection) -> dict[str, str]:
    """By column of `analytics` that can hold text, which mask `bi_masked` sees it through."""
    rows = connection.execute(text("select column_name, mask from enrichment.masks()"))
    return {name: mask for name, mask in rows}
