"""The figures of a benchmark report: throughput, latency, time by component, the roofline, memory and utilisation.

A figure appears if results have points for it, by their labels and values; the names of their parts do not matter.
Results of one kind share a plot.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from localemp.bench.plots import HUES, Axis, Curve, Dot, compact, plot
from localemp.bench.quantities import QUANTITIES
from localemp.bench.result import Kind, Label, Point
from localemp.bench.result_tables import Named, failed_share
from localemp.reporting import svg
from localemp.reporting.charts import Figure
from localemp.reporting.tables import amount

_LINES = ("", " dashed", " dotted")
_PERCENTILES = tuple(tuple(f"{time}_p{part}_ms" for part in (50, 90, 99)) for time in ("ttft", "itl", "tpot", "e2e"))
_TIME_PARTS = ("encoder_s", "comet_s", "prefill_s", "decode_s", "own_s", "engine_s")
_PHASES = {"prefill": "hue1", "decode": "hue2"}
_SAMPLES = 600  # of a series that are drawn; the eye sees no more


@dataclass(frozen=True, slots=True)
class _Sweep:
    """Quantities plotted against a label.

    Attributes:
        key, question: As in `Figure`.
        kinds: The kinds of results that have it.
        label: The label whose number is x.
        axis: The x axis.
        charts: The quantities of each chart; several get different line styles.
        steep: The first quantities of charts whose y axis is logarithmic if large and small values meet.
    """

    key: str
    question: str
    kinds: tuple[Kind, ...]
    label: str
    axis: Axis
    charts: tuple[tuple[str, ...], ...]
    steep: tuple[str, ...] = ()


_THROUGHPUT = (
    "replies_per_s", "reply_tokens_per_s", "prefill_tokens_per_s", "decode_tokens_per_s", "mfu", "mbu",
)  # fmt: skip
_SERVED = (*_PERCENTILES, ("goodput_per_s",), ("requests_per_s",), ("reply_tokens_per_s",))
_WAITING = tuple(asked[0] for asked in _PERCENTILES)
_SWEEPS = (
    _Sweep("batch", "How does throughput grow with the batch?", ("engine", "strategies", "tune"), "concurrency",
           Axis("concurrent dialogues", log=True), tuple((name,) for name in _THROUGHPUT)),
    _Sweep("rate", "What is the latency at higher request rates?", ("serve",), "rate",
           Axis("requests offered, 1/s"), _SERVED, _WAITING),
    _Sweep("concurrency", "What is the latency with more concurrent requests?", ("serve",), "concurrency",
           Axis("concurrent requests", log=True), _SERVED, _WAITING),
    _Sweep("pool", "How fast is the search?", ("retrieval",), "rows",
           Axis("rows of the pool", log=True), (("queries_per_s",),), ("queries_per_s",)),
    _Sweep("beams", "What do beams cost?", ("comet",), "beams", Axis("beams"), (("queries_per_s",),)),
)  # fmt: skip


def figures(results: Sequence[Named]) -> list[Figure]:
    """Return all figures for which the results have points."""
    found = [
        _swept(sweep, kind, [each for each in results if each.result.kind == kind])
        for sweep in _SWEEPS
        for kind in sweep.kinds
    ]
    found += [_stacked(results), _roofline(results), _watched(results)]
    return [figure for figure in found if figure is not None]


# A curve is of one result and one set of the other labels.
_Key = tuple[int, tuple[tuple[str, Label], ...]]


def _swept(sweep: _Sweep, kind: str, results: Sequence[Named]) -> Figure | None:
    """The figure of results of one kind."""
    points, others = _curves(sweep, results), _unplaced(sweep, results)
    drawn = [asked for asked in sweep.charts if _drawable(asked, points, 1 if others else 2)]
    names = _names(list(points), results)
    told = "Medians; a vertical line is the range of the repeats."
    if any(len(asked) > 1 for asked in drawn):
        told += " Latency: p50 solid, p90 dashed, p99 dotted."
    if others:
        told += f" {sweep.label} {', '.join(others)}: in the table only."
    if any(failed_share(point) for curve in points.values() for _, point in curve):
        told += " Grey points: some requests failed, and times cover only those that were answered."
    of = [results[place] for place in dict.fromkeys(place for place, _ in points)]
    legend = tuple((f"swatch {_hue(place)}", name) for place, name in enumerate(names.values()) if name)
    charts = [_chart(sweep, asked, points, names) for asked in drawn]
    return _figure(f"{sweep.key}-{kind}", sweep.question, charts, told, of, legend)


def _curves(sweep: _Sweep, results: Sequence[Named]) -> dict[_Key, list[tuple[float, Point]]]:
    """Points that have the label and one of the figures, by curve and ascending."""
    wanted = {name for asked in sweep.charts for name in asked}
    curves: dict[_Key, list[tuple[float, Point]]] = {}
    for place, each in enumerate(results):
        for point in each.result.points:
            x = point.labels.get(sweep.label)
            if isinstance(x, str) or x is None or x <= 0 or not wanted & point.values.keys():
                continue
            others = tuple((name, value) for name, value in point.labels.items() if name != sweep.label)
            curves.setdefault((place, others), []).append((float(x), point))
    return {key: sorted(points, key=lambda each: each[0]) for key, points in curves.items()}


def _unplaced(sweep: _Sweep, results: Sequence[Named]) -> list[str]:
    """Texts in place of the label's number, such as the infinite rate, which have no place on an axis."""
    values = [point.labels.get(sweep.label) for each in results for point in each.result.points if point.values]
    return list(dict.fromkeys(value for value in values if isinstance(value, str)))


def _names(keys: Sequence[_Key], results: Sequence[Named]) -> dict[_Key, str]:
    """The labels that distinguish each curve; dummy weights and early ends are always named."""
    several = len({place for place, _ in keys}) > 1
    values: dict[tuple[int, str], set[Label]] = {}
    for place, labels in keys:
        for name, value in labels:
            values.setdefault((place, name), set()).add(value)
    told = {name for (_, name), different in values.items() if len(different) > 1}
    names = {}
    for place, labels in keys:
        result = results[place]
        said = [result.label] if several or result.label != result.name else []
        said += [f"{name} {value}" for name, value in labels if name in told]
        names[place, labels] = ", ".join(said)
    return names


def _drawable(asked: Sequence[str], points: dict[_Key, list[tuple[float, Point]]], fewest: int) -> bool:
    """Whether some curve has enough points."""
    return any(
        len({x for x, point in curve if name in point.values}) >= fewest for curve in points.values() for name in asked
    )


def _chart(
    sweep: _Sweep, asked: Sequence[str], points: dict[_Key, list[tuple[float, Point]]], names: dict[_Key, str]
) -> Markup:
    curves, about = [], QUANTITIES[asked[0]]
    for place, (key, curve) in enumerate(points.items()):
        for name, line in zip(asked, _LINES, strict=False):
            dots = tuple(_dot(x, point, name, sweep, asked) for x, point in curve if name in point.values)
            if dots:
                told = ", ".join(filter(None, [names[key], QUANTITIES[name].title]))
                curves.append(Curve(told, dots, _hue(place) + line))
    ys = [value for curve in curves for dot in curve.dots for value in (dot.low or 0.0, dot.y)]
    wide = about.name in sweep.steep and 0 < 20 * min(ys) < max(ys)
    title = about.title.removesuffix(" p50")
    return plot(f"{title[0].upper()}{title[1:]}", sweep.axis, Axis(about.unit, log=wide), curves)


def _dot(x: float, point: Point, name: str, sweep: _Sweep, asked: Sequence[str]) -> Dot:
    about, size = QUANTITIES[name], 100 if QUANTITIES[name].unit == "%" else 1
    values = [size * value for value in point.values[name]]
    middle = size * (point.median(name) or 0.0)
    unit = "" if about.unit == "%" else f" {about.unit}"
    told = f"{about.title} {about.shown(middle / size)}{unit} at {compact(x)} {sweep.axis.title}"
    failed = failed_share(point)
    told += f"; {failed}" if failed else ""
    last = name == [each for each in asked if each in point.values][-1]  # one label a load, at its longest waiting
    return Dot(x, middle, told, min(values), max(values), failed if last else "", dim=bool(failed))


def _stacked(results: Sequence[Named]) -> Figure | None:
    charts, of = [], []
    for each in results:
        points = [point for point in each.result.points if any(name in point.values for name in _TIME_PARTS)]
        rows = []
        for point in points:
            parts_of_time = [(name, point.median(name) or 0.0) for name in _TIME_PARTS]
            parts = [
                svg.Segment(
                    seconds, f"swatch {_hue(place)}", f"{point.label}, {QUANTITIES[name].title}: {seconds:.2f} s"
                )
                for place, (name, seconds) in enumerate(parts_of_time)
                if seconds > 0
            ]
            total = amount(sum(seconds for _, seconds in parts_of_time), 1)
            rows.append((svg.Line(", ".join(map(str, point.labels.values())) or point.part, f"{total} s"), parts))
        if any(parts for _, parts in rows):
            charts.append(svg.bars(each.short(), rows))
            of.append(each)
    there = {name for each in of for point in each.result.points for name in point.values}
    legend = tuple(
        (f"swatch {_hue(place)}", QUANTITIES[name].title) for place, name in enumerate(_TIME_PARTS) if name in there
    )
    told = "Medians of the seconds that each component takes, as in the tables."
    return _figure("time", "Where does the time go?", charts, told, of, legend)


def _roofline(results: Sequence[Named]) -> Figure | None:
    charts, of = [], []
    for each in results:
        roof = [_roof(each, name) for name in ("copy_gb_per_s", "matrix_tflops")]
        phases = {
            point.labels.get("phase")
            for point in each.result.points
            if {"flops_per_byte", "tflops"} <= point.values.keys()
        }
        if not all(roof) or not phases & _PHASES.keys():
            continue
        curves = [_phase(each, phase, hue) for phase, hue in _PHASES.items() if phase in phases]
        charts.append(_roofed(each, roof[0], roof[1], curves))
        of.append(each)
    legend = [(f"swatch {hue}", phase) for phase, hue in _PHASES.items()]
    told = (
        "The slope is the copy bandwidth measured on this device, the level its matrix rate: the median, with the "
        "lowest and the highest repeat dotted. A point below the slope is limited by memory, one below the level by "
        "arithmetic; the distance is lost performance. Numbers at points are concurrent dialogues."
    )
    return _figure(
        "roofline",
        "How close is it to the roofline?",
        charts,
        told,
        of,
        (*legend, ("swatch roof", "measured peak of this device")),
    )


def _phase(each: Named, phase: str, hue: str) -> Curve:
    dots = []
    for point in each.result.points:
        x, y = point.median("flops_per_byte"), point.median("tflops")
        if x and y and point.labels.get("phase") == phase:
            concurrency = str(point.labels.get("concurrency", ""))
            values = point.values["tflops"]
            told = f"{point.label}: {compact(y)} TFLOP/s at {compact(x)} FLOP/byte"
            dots.append(Dot(x, y, told, min(values), max(values), concurrency))
    dots.sort(key=lambda dot: dot.x)
    return Curve(phase, tuple(dots), hue)


def _roofed(each: Named, bandwidths: Sequence[float], rates: Sequence[float], curves: Sequence[Curve]) -> Markup:
    xs = [dot.x for curve in curves for dot in curve.dots]
    xs += [rate * 1e3 / bandwidth for bandwidth, rate in zip(bandwidths, rates, strict=True)]
    lines = []
    for bandwidth, rate, style in zip(bandwidths, rates, ("roof", "roof dotted", "roof dotted"), strict=True):
        told = f"{compact(bandwidth)} GB/s, {compact(rate)} TFLOP/s"
        ridge = rate * 1e3 / bandwidth
        roof = tuple(Dot(x, min(rate, x * bandwidth / 1e3), told) for x in (min(xs) / 2, ridge, max(xs) * 2))
        lines.append(Curve(f"measured: {told}", roof, style, marks=False))
    lines = [*dict.fromkeys(lines), *curves]
    return plot(each.short(), Axis("arithmetic intensity, FLOP/byte", log=True), Axis("TFLOP/s", log=True), lines)


def _roof(each: Named, name: str) -> tuple[float, ...]:
    """Median, lowest and highest measured peak of the device; empty if it was not measured."""
    for point in each.result.points:
        if values := point.values.get(name):
            return point.median(name) or 0.0, min(values), max(values)
    return ()


def _watched(results: Sequence[Named]) -> Figure | None:
    charts, of = [], []
    for each in results:
        for series in each.result.series:
            every = max(1, len(series.values) // _SAMPLES)
            pairs = list(zip(series.seconds, series.values, strict=False))[::every]
            if len(pairs) > 1:
                curve = Curve(series.title, tuple(Dot(x, y) for x, y in pairs), "hue1", marks=False)
                charts.append(plot(each.short(), Axis("seconds"), Axis(f"{series.title}, {series.unit}"), [curve]))
                of.append(each)
    told = "Sampled while the benchmark ran."
    return _figure("series", "How were memory and processor used meanwhile?", charts, told, of)


def _figure(
    key: str, question: str, charts: Sequence[Markup], told: str, of: Sequence[Named],
    legend: tuple[tuple[str, str], ...] = (),
) -> Figure | None:  # fmt: skip
    """A figure with the origin of its results."""
    if not charts:
        return None
    made = {each.name: each for each in of}.values()
    items = Markup("").join(
        Markup("<dt>{}<br><code>{}</code></dt><dd>{}</dd>").format(each.label, each.result.command, each.made)
        for each in made
    )
    details = Markup('<details><summary>How it was made</summary><dl class="made">{}</dl></details>').format(items)
    warning = "; ".join(f"{each.name}: {each.result.warning}" for each in made if each.result.warning)
    return Figure(key, question, tuple(charts), escape(told) + details, legend, warning=warning)


def _hue(place: int) -> str:
    return f"hue{place % HUES + 1}"
