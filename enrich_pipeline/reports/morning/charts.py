"""The figures as pictures: static SVG, drawn without a network, in the colours of the page.

Each is a Vega-Lite specification, written as such: a package that writes them for us is slower to
import and to write those of one page than they are to draw.
Colours are variables of the page's style sheet, which is how one drawing serves light and dark.
Floats are for lengths only: every figure that is read stands in a label or a table.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

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

Spec = dict[str, Any]
"""A Vega-Lite specification, or a part of one."""

_VERSION = "6.4"
"""Of Vega-Lite."""
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
_PLACE = {"field": "place", "type": "ordinal"}
_CONFIG = {
    "aria": False,
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "padding": {"left": 0, "right": 4, "top": 2, "bottom": 2},
    "view": {"stroke": None},
    "axis": {
        "labelFontSize": 13,
        "labelColor": _MUTED,
        "gridColor": _RULE,
        "domainColor": _RULE,
        "tickColor": _RULE,
    },
    "text": {"fontSize": 13},
}


def coverage(fields: Sequence[FieldCoverage]) -> Markup:
    """Share of contacts per field: what was there, and what the night added."""
    rows = [
        {
            "field": notation.field(each.field),
            "before": _float(each.before),
            "after": _float(each.before if each.after is None else each.after),
            "label": f"{notation.share(each.before)} → "
            f"{'open' if each.after is None else notation.share(each.after)}",
        }
        for each in fields
    ]
    scale = {"domain": [0, 1.45]}
    nothing, everybody = (
        {"datum": share, "type": "quantitative", "axis": None} for share in (0, 1)
    )
    before = _length("before", scale)
    layers = [
        _bar({"x": nothing, "x2": {"datum": 1}}, fill="none", stroke=_RULE),
        _bar({"x": before}, color=_REUSED),
        _bar({"x": before, "x2": {"field": "after"}}, color=_FOUND),
        _label(everybody),
    ]
    told = "; ".join(f"{row['field']} {row['label']}" for row in rows)
    return _svg(_under_each_other(rows, "field", layers), f"Coverage: {told}")


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
    scale = {"domain": [0, max(longest, 1) * 1.75]}
    bars = _bar(
        {
            "x": _length("number", scale) | {"stack": "zero"},
            "order": _PLACE,
            "color": _colours(_OUTCOMES),
        }
    )
    label = _label(_length("whole", scale)) | {"transform": [{"filter": "datum.place === 0"}]}
    told = "; ".join(
        f"{step.provider} asked {step.asked}, found {step.found}, {notation.usd(step.cost_usd)}"
        for step in steps
    )
    name = notation.field(steps[0].field)
    picture = _under_each_other(rows, "turn", [bars, label])
    return _svg(picture, f"{name}, providers in order: {told}")


def spend(days: Sequence[SpendDay]) -> Markup:
    """Dollars per UTC day, and the budget of the day where it is near enough to be shown."""
    rows = [
        {
            "day": each.day.isoformat(),
            "kind": kind,
            "place": place,
            "usd": _float(value),
            "cap": _float(each.cap_usd) if caps_fit(days) else None,
        }
        for each in days
        for place, (kind, value) in enumerate((("spent", each.spent_usd), ("open", each.open_usd)))
    ]
    shown = [each.day for each in days][::-7][::-1]
    words = {day.isoformat(): notation.short_day(day) for day in shown}
    x = {
        "field": "day",
        "type": "ordinal",
        "scale": {"paddingInner": 0.25},
        "axis": {
            "values": list(words),
            "labelExpr": f"({words})[datum.value]",
            "labelAngle": 0,
            "labelOverlap": False,
            "title": None,
            "ticks": False,
        },
    }
    dollars = {"title": None, "format": "$,.0f", "tickCount": 4, "grid": True, "domain": False}
    bars = {
        "mark": "bar",
        "encoding": {
            "x": x,
            "y": {"field": "usd", "type": "quantitative", "axis": dollars},
            "order": _PLACE,
            "color": _colours({"spent": _FOUND, "open": _OPEN}),
        },
    }
    caps = {
        "mark": {"type": "tick", "thickness": 2, "color": _INK, "size": 10},
        "encoding": {"x": x, "y": {"field": "cap", "type": "quantitative"}},
    }
    picture = {
        "data": {"values": rows},
        "width": _WIDTH - 50,
        "height": 150,
        "layer": [bars, caps] if caps_fit(days) else [bars],
    }
    total = sum((each.spent_usd for each in days), Decimal(0))
    first, last = notation.short_day(days[0].day), notation.short_day(days[-1].day)
    return _svg(picture, f"Spend per day from {first} to {last}, {notation.usd(total)} in all")


def caps_fit(days: Sequence[SpendDay]) -> bool:
    """Whether budgets can stand in the picture without making the spend invisible."""
    caps = [each.cap_usd for each in days if each.cap_usd is not None]
    highest = max((each.spent_usd + each.open_usd for each in days), default=Decimal(0))
    return bool(caps) and max(caps) <= 5 * highest


def cost(providers: Sequence[ProviderCost]) -> Markup:
    """Dollars for each verified value, cheapest first."""
    costs = [_float(each.window_usd_per_verified) for each in providers]
    rows: list[Spec] = [
        {
            "provider": each.provider,
            "usd": usd,
            "label_at": usd or 0.0,
            "label": f"{notation.usd_each(each.window_usd_per_verified)} · "
            f"{notation.counted(each.window_verified, 'value')}"
            if each.window_verified
            else f"none verified, {notation.usd(each.window_spend_usd)} spent",
        }
        for each, usd in zip(providers, costs, strict=True)
    ]
    highest = max((usd or 0.0 for usd in costs), default=0.0)
    scale = {"domain": [0, (highest or 1.0) * 2]}
    layers = [_bar({"x": _length("usd", scale)}, color=_FOUND), _label(_length("label_at", scale))]
    told = "; ".join(f"{row['provider']} {row['label']}" for row in rows)
    picture = _under_each_other(rows, "provider", layers)
    return _svg(picture, f"Cost of each verified value: {told}")


def ages(fields: Sequence[FieldAges]) -> Markup:
    """The contacts of each field by the age of its value."""
    rows = [
        {"field": notation.field(each.field), "age": age, "place": place, "number": number}
        for each in fields
        for place, (age, number) in enumerate(
            zip(AGES, (*each.ages, each.undated, each.missing), strict=True)
        )
    ]
    bars = _bar(
        {
            "x": _length("number") | {"stack": "normalize"},
            "order": _PLACE,
            "color": _colours(dict(zip(AGES, _AGE_COLOURS, strict=True)), "age"),
        },
        stroke=_RULE,
        strokeWidth=0.5,
    )
    told = "; ".join(
        f"{notation.field(each.field)} {each.ages[0]} up to 30 days, {each.missing} missing"
        for each in fields
    )
    return _svg(_under_each_other(rows, "field", [bars]), f"Age of the values: {told}")


def _under_each_other(rows: Sequence[Spec], by: str, layers: Sequence[Spec]) -> Spec:
    """Horizontal bars, one under the other in the order of the rows."""
    names = list(dict.fromkeys(row[by] for row in rows))
    axis = {
        "title": None,
        "domain": False,
        "ticks": False,
        "labelAlign": "left",
        "labelPadding": _NAMES,
        "labelLimit": _NAMES,
    }
    return {
        "data": {"values": rows},
        "width": _WIDTH - _NAMES,
        "height": _ROW * len(names),
        "encoding": {"y": {"field": by, "type": "nominal", "sort": names, "axis": axis}},
        "layer": layers,
    }


def _bar(encoding: Spec, **look: Any) -> Spec:
    return {"mark": {"type": "bar", "size": _BAR, **look}, "encoding": encoding}


def _label(x: Spec) -> Spec:
    """What is read beside a bar, from its right end on."""
    mark = {"type": "text", "align": "left", "dx": 8, "color": _INK}
    return {"mark": mark, "encoding": {"x": x, "text": {"field": "label", "type": "nominal"}}}


def _length(field: str, scale: Spec | None = None) -> Spec:
    """A field of the rows as a length, without an axis: the figure stands beside it."""
    return {"field": field, "type": "quantitative", "axis": None, "scale": scale or {}}


def _colours(colours: Mapping[str, str], by: str = "kind") -> Spec:
    scale = {"domain": list(colours), "range": list(colours.values())}
    return {"field": by, "type": "nominal", "scale": scale, "legend": None}


def _float(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def _svg(picture: Spec, told: str) -> Markup:
    """Draw; `told` is what is read aloud instead of the picture."""
    drawn = vl_convert.vegalite_to_svg({**picture, "config": _CONFIG}, vl_version=_VERSION)
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawn)[0]
    body = drawn[drawn.index(">") + 1 :]
    opening = Markup('<svg role="img" aria-label="{}" viewBox="0 0 {} {}">')
    # The library escapes the names that it draws.
    return opening.format(told, width, height) + Markup(body)  # noqa: S704
