"""The figures as pictures: static SVG, drawn without a network, in the colours of the page.

Colours are variables of the page's style sheet, which is how one drawing serves light and dark.
Floats are for lengths only: every figure that is read stands in a label or a table.
"""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import altair as alt
import vl_convert
from markupsafe import Markup

from enrich_pipeline.reports.morning import notation
from enrich_pipeline.reports.morning.figures import (
    FieldAges,
    FieldCoverage,
    ProviderCost,
    SpendDay,
    Step,
)

_WIDTH = 400
_ROW = 30
_NAMES = 112
"""Room for the names on the left, the same in all charts so that they line up."""
_BAR = 14
_INK, _MUTED, _RULE = "var(--ink)", "var(--muted)", "var(--rule)"
_FOUND, _MISSED, _OPEN, _REUSED = (
    "var(--found)",
    "var(--missed)",
    "var(--open)",
    "var(--reused)",
)
_OUTCOMES = {"reused": _REUSED, "found": _FOUND, "not found": _MISSED, "no answer": _OPEN}
AGES = ("up to 30 days", "31 to 90", "91 to 180", "older", "age unknown", "missing")
_AGE_COLOURS = [f"var(--age-{n})" for n in range(len(AGES))]


def coverage(fields: Sequence[FieldCoverage]) -> Markup:
    """Share of contacts per field: what was there, and what the night added."""
    rows = [
        {
            "field": notation.field(each.field),
            "before": _length(each.before),
            "after": _length(each.before if each.after is None else each.after),
            "label": f"{notation.share(each.before)} → "
            f"{'open' if each.after is None else notation.share(each.after)}",
        }
        for each in fields
    ]
    base = _rows(rows, "field")
    scale = alt.Scale(domain=[0, 1.45])
    frame = base.mark_bar(size=_BAR, fill="none", stroke=_RULE).encode(
        x=alt.X("none:Q", scale=scale, axis=None), x2=alt.datum(1)
    )
    before = base.mark_bar(size=_BAR, color=_REUSED).encode(x=alt.X("before:Q", scale=scale))
    gained = base.mark_bar(size=_BAR, color=_FOUND).encode(
        x=alt.X("before:Q", scale=scale), x2="after:Q"
    )
    label = base.mark_text(align="left", dx=8, color=_INK).encode(x=alt.datum(1), text="label:N")
    told = "; ".join(f"{row['field']} {row['label']}" for row in rows)
    return _svg(frame.transform_calculate(none="0") + before + gained + label, f"Coverage: {told}")


def waterfall(steps: Sequence[Step], longest: int) -> Markup:
    """One field's turns from top to bottom; `longest` is the longest bar of all fields."""
    rows = [
        {
            "turn": f"{number}  {step.provider}",
            "kind": kind,
            "place": place,
            "number": value,
            "whole": step.reused + step.asked,
            "label": f"{notation.count(step.found)} of {notation.count(step.asked)} · "
            f"{notation.usd(step.cost_usd)}",
        }
        for number, step in enumerate(steps, start=1)
        for place, (kind, value) in enumerate(
            zip(
                _OUTCOMES,
                (step.reused, step.found, step.not_found, step.unanswered),
                strict=True,
            )
        )
    ]
    scale = alt.Scale(domain=[0, max(longest, 1) * 1.75])
    base = _rows(rows, "turn")
    bars = base.mark_bar(size=_BAR).encode(
        x=alt.X("number:Q", scale=scale, axis=None, stack="zero"),
        order="place:O",
        color=_colours(_OUTCOMES),
    )
    label = (
        base.transform_filter("datum.place === 0")
        .mark_text(align="left", dx=8, color=_INK)
        .encode(x=alt.X("whole:Q", scale=scale), text="label:N")
    )
    told = "; ".join(
        f"{step.provider} asked {step.asked}, found {step.found}, {notation.usd(step.cost_usd)}"
        for step in steps
    )
    name = notation.field(steps[0].field)
    return _svg(bars + label, f"{name}, providers in order: {told}")


def spend(days: Sequence[SpendDay]) -> Markup:
    """Dollars per UTC day, and the budget of the day where it is near enough to be shown."""
    rows = [
        {
            "day": each.day.isoformat(),
            "kind": kind,
            "place": place,
            "usd": _length(value),
            "cap": _length(each.cap_usd) if caps_fit(days) else None,
        }
        for each in days
        for place, (kind, value) in enumerate((("spent", each.spent_usd), ("open", each.open_usd)))
    ]
    shown = [each.day for each in days][::-7][::-1]
    words = {day.isoformat(): notation.short_day(day) for day in shown}
    axis = alt.Axis(
        values=list(words),
        labelExpr=f"({words})[datum.value]",
        labelAngle=0,
        labelOverlap=False,
        title=None,
        ticks=False,
    )
    base = alt.Chart(alt.InlineData(rows)).properties(width=_WIDTH - 50, height=150)
    x = alt.X("day:O", axis=axis, scale=alt.Scale(paddingInner=0.25))
    bars = base.mark_bar().encode(
        x=x,
        y=alt.Y(
            "usd:Q", axis=alt.Axis(title=None, format="$,.0f", tickCount=4, grid=True, domain=False)
        ),
        order="place:O",
        color=_colours({"spent": _FOUND, "open": _OPEN}),
    )
    caps = base.mark_tick(thickness=2, color=_INK, size=10).encode(x=x, y="cap:Q")
    total = sum((each.spent_usd for each in days), Decimal(0))
    first, last = notation.short_day(days[0].day), notation.short_day(days[-1].day)
    told = f"Spend per day from {first} to {last}, {notation.usd(total)} in all"
    return _svg(bars + caps if caps_fit(days) else bars, told)


def caps_fit(days: Sequence[SpendDay]) -> bool:
    """Whether budgets can stand in the picture without making the spend invisible."""
    caps = [each.cap_usd for each in days if each.cap_usd is not None]
    highest = max((each.spent_usd + each.open_usd for each in days), default=Decimal(0))
    return bool(caps) and max(caps) <= 5 * highest


def cost(providers: Sequence[ProviderCost]) -> Markup:
    """Dollars for each verified value, cheapest first."""
    rows = [
        {
            "provider": each.provider,
            "usd": _length(each.window_usd_per_verified),
            "label": f"{notation.usd_each(each.window_usd_per_verified)} · "
            f"{notation.counted(each.window_verified, 'value')}"
            if each.window_verified
            else f"none verified, {notation.usd(each.window_spend_usd)} spent",
        }
        for each in providers
    ]
    highest = max((row["usd"] or 0.0 for row in rows), default=0.0)
    scale = alt.Scale(domain=[0, (highest or 1.0) * 2])
    base = _rows(rows, "provider")
    bars = base.mark_bar(size=_BAR, color=_FOUND).encode(x=alt.X("usd:Q", scale=scale, axis=None))
    label = base.mark_text(align="left", dx=8, color=_INK).encode(
        x=alt.X("at:Q", scale=scale), text="label:N"
    )
    told = "; ".join(f"{row['provider']} {row['label']}" for row in rows)
    return _svg(
        bars + label.transform_calculate(at="datum.usd === null ? 0 : datum.usd"),
        f"Cost of each verified value: {told}",
    )


def ages(fields: Sequence[FieldAges]) -> Markup:
    """The contacts of each field by the age of its value."""
    rows = [
        {"field": notation.field(each.field), "age": age, "place": place, "number": number}
        for each in fields
        for place, (age, number) in enumerate(
            zip(AGES, (*each.ages, each.undated, each.missing), strict=True)
        )
    ]
    bars = (
        _rows(rows, "field")
        .mark_bar(size=_BAR, stroke=_RULE, strokeWidth=0.5)
        .encode(
            x=alt.X("number:Q", axis=None, stack="normalize"),
            order="place:O",
            color=_colours(dict(zip(AGES, _AGE_COLOURS, strict=True)), "age"),
        )
    )
    told = "; ".join(
        f"{notation.field(each.field)} {each.ages[0]} up to 30 days, {each.missing} missing"
        for each in fields
    )
    return _svg(bars, f"Age of the values: {told}")


def _rows(rows: Sequence[dict[str, Any]], by: str) -> alt.Chart:
    """Horizontal bars, one under the other in the order of the rows."""
    names = list(dict.fromkeys(row[by] for row in rows))
    axis = alt.Axis(
        title=None,
        domain=False,
        ticks=False,
        labelAlign="left",
        labelPadding=_NAMES,
        labelLimit=_NAMES,
    )
    return (
        alt.Chart(alt.InlineData(rows))
        .encode(y=alt.Y(f"{by}:N", sort=names, axis=axis))
        .properties(width=_WIDTH - _NAMES, height=_ROW * len(names))
    )


def _colours(colours: dict[str, str], by: str = "kind") -> alt.Color:
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color(f"{by}:N", scale=scale, legend=None)


def _length(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def _svg(chart: alt.LayerChart | alt.Chart, told: str) -> Markup:
    """Draw; `told` is what is read aloud instead of the picture."""
    styled = chart.configure(
        aria=False,
        background="transparent",
        font="system-ui, sans-serif",
        padding={"left": 0, "right": 4, "top": 2, "bottom": 2},
        view=alt.ViewConfig(stroke=None),
        axis=alt.AxisConfig(
            labelFontSize=13, labelColor=_MUTED, gridColor=_RULE, domainColor=_RULE, tickColor=_RULE
        ),
        text=alt.MarkConfig(fontSize=13),
    )
    drawn = vl_convert.vegalite_to_svg(styled.to_dict(), vl_version="6.4")
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawn)[0]
    body = drawn[drawn.index(">") + 1 :]
    opening = Markup('<svg role="img" aria-label="{}" viewBox="0 0 {} {}">')
    # The library escapes the names that it draws.
    return opening.format(told, width, height) + Markup(body)  # noqa: S704
