"""The charts of a grade as SVG: Vega-Lite does the drawing, this module says what is drawn and checks what comes back."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from grader.report.junit import ILLEGAL
from grader.report.text import clean
from grader.verdict import Chart, ChartKind, Series

WIDTH, HEIGHT = 340, 240  # CSS pixels of the whole picture: it fits a phone of 360 unscaled
ROW_HEIGHT = 22
MAX_SERIES, MAX_POINTS = 12, 200  # charts are aggregates; what is longer is thinned out
MAX_NAME, MAX_SAYS, MAX_LABEL = 60, 1000, 120  # characters of a name and of a text, pixels of an axis label
TIME_LIMIT = 15  # seconds for all drawings; thirty take one
FEW = 10  # drawings that one process does sooner than two
MAX_BYTES = 600_000  # of all drawings of a page; one has about ten thousand
PROGRAM = Path(__file__).with_name("draw.py")
INK = "currentColor"
COLOURS = tuple(f"var(--series-{n})" for n in range(1, 7))  # the stylesheet of the report has them for light and dark
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
REFERENCE_DASH = [3, 3]
DAY = re.compile(r"\d{4}-\d\d-\d\d")
DRAWING = frozenset({"svg", "g", "path", "line", "rect", "text", "circle"})
DROPPED = frozenset({"class", "role", "pointer-events", "stroke-miterlimit", "aria-hidden", "version"})
DECIMALS = re.compile(r"\d+\.\d{3,}")
NUMBERS = {"type": "quantitative", "scale": {"zero": False}}
TIMES = {"type": "temporal", "scale": {"type": "utc"}}
TIME_FORMATS = ((730, "%Y"), (60, "%b %Y"), (2, "%-d %b"), (0, "%H:%M"))  # for spans of more than so many days
TEXTS = {"type": "nominal", "sort": None}
CONFIG: dict[str, Any] = {
    "aria": False,
    "background": None,
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK, "titleColor": INK, "domainColor": INK, "tickColor": INK, "gridColor": INK,
        "domainOpacity": 0.6, "tickOpacity": 0.6, "gridOpacity": 0.15,
        "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": MAX_LABEL,
        "labelOverlap": "greedy", "labelSeparation": 6, "tickCount": 5, "titleLimit": WIDTH - 100,
    },
    "legend": {
        "orient": "bottom", "direction": "vertical", "offset": 8, "title": None, "labelColor": INK, "labelFontSize": 12,
        "labelLimit": WIDTH - 100, "symbolStrokeWidth": 2, "symbolSize": 160, "symbolOpacity": 1,
    },
}  # fmt: skip

Rows = list[dict[str, float | str]]


class CannotDraw(ValueError):
    """The chart holds nothing that could be drawn."""


def drawings(charts: Sequence[Chart]) -> list[str]:
    """Each chart as an `<svg>` element for an HTML page, or an empty text where `chart.says` has to do.

    Colours are `--series-1` to `--series-6` and `currentColor` of the page. The drawing is done in other processes; what
    is not drawn there in time, or after a crash, stays undrawn, and so does what makes the page too large.
    """
    specs = {n: spec for n, chart in enumerate(charts) if (spec := _specification(chart))}
    parts = [list(specs)] if len(specs) <= FEW else [list(specs)[::2], list(specs)[1::2]]
    with ThreadPoolExecutor(len(parts)) as pool:
        drawn = list(pool.map(lambda part: _draw([specs[n] for n in part]), parts))
    by_number = {n: svg for part, done in zip(parts, drawn, strict=True) for n, svg in zip(part, done, strict=False)}
    left, found = MAX_BYTES, []
    for n, chart in enumerate(charts):
        svg = _checked(by_number.get(n) or "", chart)
        found.append(svg if len(svg) <= left else "")
        left -= len(found[-1])
    return found


def _draw(specs: Sequence[str]) -> list[str | None]:
    if not specs:
        return []
    argv = [sys.executable, "-I", str(PROGRAM)]
    try:
        done = subprocess.run(argv, input="\n".join(specs).encode(), capture_output=True, timeout=TIME_LIMIT).stdout
    except subprocess.TimeoutExpired as late:
        done = late.stdout or b""
    except OSError:
        return []
    return [json.loads(line) for line in done.splitlines(keepends=True) if line.endswith(b"\n")]


def _specification(chart: Chart) -> str:
    try:
        return json.dumps(_spec(_tidy(chart)), allow_nan=False)
    except CannotDraw:
        return ""


def _tidy(chart: Chart) -> Chart:
    """The chart with texts that fit, distinct names, numbers that are finite, and no more of them than can be seen."""
    named = [_tidy_series(one, n) for n, one in enumerate(chart.series[:MAX_SERIES])]
    series = tuple(one for one in named if one.x)
    reference = _tidy_series(chart.reference, -1) if chart.reference else None
    if not series:
        raise CannotDraw("no series has a point that can be drawn")
    taken: set[str] = set()
    series = tuple(replace(one, name=_distinct(one.name, taken)) for one in series)
    if reference:
        reference = replace(reference, name=_distinct(reference.name, taken)) if reference.x else None
    marked = [_tidy_series(one, n) for n, one in enumerate(chart.marks[: len(SHAPES)])]
    marks = tuple(replace(one, name=_distinct(one.name, taken)) for one in marked if one.x)
    return replace(
        chart,
        title=_short(chart.title),
        x=_short(chart.x),
        y=_short(chart.y),
        series=series,
        reference=reference,
        marks=marks,
    )


def _tidy_series(one: Series, number: int) -> Series:
    points = [(x, y) for x, y in zip(one.x, one.y, strict=True) if _drawable(x) and _drawable(y)]
    points = points[:: max(1, math.ceil(len(points) / MAX_POINTS))]
    x, y = zip(*points, strict=True) if points else ((), ())
    name = _short(one.name) or ("reference" if number < 0 else f"series {number + 1}")
    return Series(name, tuple(map(_tidy_value, x)), tuple(map(_tidy_value, y)))


def _drawable(value: float | str) -> bool:
    return isinstance(value, str) or math.isfinite(value)


def _tidy_value(value: float | str) -> float | str:
    return _short(value) if isinstance(value, str) else float(value)


def _short(text: str) -> str:
    return _legal(text, MAX_NAME)


def _legal(text: str, most: int) -> str:
    """The text without what XML, and so the engine, does not take, on one line and not longer than that."""
    text = ILLEGAL.sub("", clean(text[: 4 * most]))
    return text if len(text) <= most else text[: most - 3] + "..."


def _distinct(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "'"
    taken.add(name)
    return name


def _spec(chart: Chart) -> dict[str, Any]:
    if chart.kind is ChartKind.TABLE:
        raise CannotDraw("a table is written, not drawn")
    if chart.kind is ChartKind.SPANS:
        return _spans(chart)
    if chart.kind is ChartKind.BARS:
        return _bars(chart)
    return _lines(chart)


def _lines(chart: Chart) -> dict[str, Any]:
    """Lines, thin and with marks where single points matter; the reference is dashed and in ink."""
    points = chart.kind is ChartKind.POINTS
    every = (*chart.series, *([chart.reference] if chart.reference else []), *chart.marks)
    x, y = _axis([v for one in every for v in one.x]), _axis([v for one in every for v in one.y])
    legend = {"symbolType": "stroke"}
    dash = {"field": "s", "type": "nominal", "scale": _scale(chart, DASHES, REFERENCE_DASH), "legend": legend}
    layers = []
    if chart.reference:
        line = {"type": "line", "strokeWidth": 1.5}
        layers.append(_layer(_rows([chart.reference], x, y), line, {"strokeDash": dash}))
    line = {"type": "line", "strokeWidth": 1 if points else 2.5}
    layers.append(_layer(_rows(chart.series, x, y), line, {"strokeDash": dash}))
    if points or any(len(one.x) == 1 for one in chart.series):
        shape = {"field": "s", "type": "nominal", "scale": _scale(replace(chart, reference=None), SHAPES, None)}
        point = {"type": "point", "filled": True, "size": 50, "opacity": 1}
        layers.append(_layer(_rows(chart.series, x, y), point, {"shape": {**shape, "legend": None}}))
    if chart.marks:
        shapes = {"domain": [one.name for one in chart.marks], "range": list(SHAPES[: len(chart.marks)])}
        shape = {
            "field": "s",
            "type": "nominal",
            "scale": shapes,
            "legend": {"symbolType": None, "symbolFillColor": INK},
        }
        point = {"type": "point", "filled": True, "size": 70, "opacity": 1}
        layers.append(_layer(_rows(chart.marks, x, y), point, {"shape": shape, "color": {"value": INK}}))
    encoding = {
        "x": {"field": "x", **x.channel, "title": chart.x or None},
        "y": {"field": "y", **y.channel, "title": chart.y or None},
        "order": {"field": "n"},
        "color": _colour(chart, legend),
    }
    return _page(layers, encoding, HEIGHT - 60)


def _bars(chart: Chart) -> dict[str, Any]:
    """Bars side by side in each group; texts as groups lie down, so that they can be read; the reference is a stroke."""
    every = (*chart.series, *([chart.reference] if chart.reference else []))
    groups = list(dict.fromkeys(v for one in every for v in one.x))
    lying = any(isinstance(v, str) and len(v) > 4 for v in groups)
    x, y = Axis(TEXTS), _axis([v for one in every for v in one.y])
    value = {"field": "y", **y.channel, "scale": {"zero": True}, "title": chart.y or None}
    group = {"field": "x", **TEXTS, "title": chart.x or None, "axis": {"labelAngle": 0, "grid": False}}
    along, across, offset = ("y", "x", "yOffset") if lying else ("x", "y", "xOffset")
    names = [one.name for one in chart.series]
    beside = {offset: {"field": "s", "sort": names}} if len(names) > 1 else {}
    layers = [_layer(_rows(chart.series, x, y), {"type": "bar"}, beside)]
    if chart.reference:
        layers.append(_layer(_rows([chart.reference], x, y), {"type": "tick", "thickness": 3, "opacity": 1}))
    height = max(60, len(groups) * (8 + 14 * len(names))) if lying else HEIGHT - 60
    encoding = {along: group, across: value, "color": _colour(chart, {"symbolType": "square"})}
    return _page(layers, encoding, height)


def _spans(chart: Chart) -> dict[str, Any]:
    """One row a series, from each x to the end of its y; the reference is a row in ink."""
    every = (*chart.series, *([chart.reference] if chart.reference else []))
    axis = _axis([v for one in every for v in (*one.x, *one.y)])
    if axis.texts:
        raise CannotDraw("a span needs two numbers, days or times")
    rows: Rows = [
        {"s": one.name, "x": axis.place(x), "y": axis.place(y, end=True)}
        for one in every
        for x, y in zip(one.x, one.y, strict=True)
    ]
    names = [one.name for one in every]
    row = {"field": "s", **TEXTS, "scale": {"domain": names}, "title": chart.y or None, "axis": {"grid": False}}
    encoding = {
        "x": {"field": "x", **axis.channel, "title": chart.x or None},
        "x2": {"field": "y"},
        "y": row,
        "color": _colour(chart, None),
    }
    return _page([_layer(rows, {"type": "bar", "height": 14})], encoding, ROW_HEIGHT * len(every))


def _page(layers: list[dict[str, Any]], encoding: dict[str, Any], height: int) -> dict[str, Any]:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": WIDTH,
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": 4,
        "config": CONFIG,
        "encoding": encoding,
        "layer": layers,
    }


def _layer(rows: Rows, mark: dict[str, Any], encoding: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"data": {"values": rows}, "mark": mark, "encoding": encoding or {}}


@dataclass(frozen=True)
class Axis:
    """How the values of one axis are placed: as numbers, as days and times, or as texts in the order given."""

    channel: dict[str, Any]

    @property
    def texts(self) -> bool:
        return self.channel is TEXTS

    def place(self, value: float | str, end: bool = False) -> float | str:
        if self.texts:
            return value if isinstance(value, str) else f"{value:g}"
        return _milliseconds(value, end) if isinstance(value, str) else value


def _axis(values: Sequence[float | str]) -> Axis:
    if not any(isinstance(v, str) for v in values):
        return Axis(NUMBERS)
    try:
        times = [_milliseconds(str(value), False) for value in values]
    except ValueError:
        return Axis(TEXTS)
    days = (max(times) - min(times)) / 86_400_000
    format = next((form for least, form in TIME_FORMATS if days > least), "%-d %b %Y")
    return Axis({**TIMES, "axis": {"format": format}})


def _milliseconds(text: str, end: bool) -> float:
    """Milliseconds since 1970 of a day or time, in UTC where it names no zone; the end of a day is the next midnight."""
    at = datetime.fromisoformat(text)
    if end and DAY.fullmatch(text):
        at += timedelta(days=1)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000


def _rows(series: Sequence[Series], x: Axis, y: Axis) -> Rows:
    return [
        {"s": one.name, "x": x.place(at), "y": y.place(value), "n": n}
        for one in series
        for n, (at, value) in enumerate(zip(one.x, one.y, strict=True))
    ]


def _scale(chart: Chart, values: Sequence[Any], reference: Any) -> dict[str, Any]:
    """One value a series in turn, and a value of its own for the reference."""
    names = [one.name for one in chart.series]
    drawn = [values[n % len(values)] for n in range(len(names))]
    if chart.reference:
        names, drawn = [*names, chart.reference.name], [*drawn, reference]
    return {"domain": names, "range": drawn}


def _colour(chart: Chart, legend: dict[str, Any] | None) -> dict[str, Any]:
    return {"field": "s", "type": "nominal", "scale": _scale(chart, COLOURS, INK), "legend": legend}


def _checked(drawn: str, chart: Chart) -> str:
    """The drawing as one image with its text, or nothing where it holds more than shapes and texts."""
    try:
        root = ET.fromstring(drawn)
    except ET.ParseError:
        return ""
    for element in root.iter():
        element.tag = str(element.tag).rpartition("}")[2]
        kept = {name: _round(value) for name, value in element.attrib.items() if name not in DROPPED}
        if element.tag not in DRAWING or not all(_harmless(name, value) for name, value in kept.items()):
            return ""
        element.attrib.clear()
        element.attrib.update(kept)
    for parent in list(root.iter()):
        for child in [child for child in parent if child.get("display") == "none"]:
            parent.remove(child)
    root.attrib.update({"role": "img", "aria-label": _legal(f"{chart.title}: {chart.says}", MAX_SAYS)})
    return ET.tostring(root, encoding="unicode")


def _harmless(name: str, value: str) -> bool:
    """Whether an attribute only says how a shape looks: no style, no link, no handler, no address, no escape."""
    return name not in ("style", "href", "id") and not name.startswith("on") and not re.search(r"[:;\\]|url\(", value)


def _round(value: str) -> str:
    return DECIMALS.sub(lambda number: f"{float(number[0]):.2f}", value)
