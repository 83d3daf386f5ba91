"""The page of `localemp bench report`: plots and tables in one file that needs no network and no script."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from localemp.bench.charts import figures
from localemp.bench.result_tables import Named, tables_of
from localemp.reporting.page import PAGE, SHARED, environment, inlined, policy

_OWN = Path(__file__).with_name("page")


def render(results: Sequence[Named], title: str | None = None) -> str:
    """Render results as HTML: plots of all of them first, then a section for each with its tables and origin."""
    style = inlined(SHARED / "base.css", PAGE / "style.css", _OWN / "plots.css")
    counted = "1 benchmark" if len(results) == 1 else f"{len(results)} benchmarks"
    return (
        environment(_OWN, PAGE)
        .get_template("bench.html.jinja")
        .render(
            title=title or f"Report on {counted}",
            sections=[(each, tables_of(each, f"result-{number}")) for number, each in enumerate(results, 1)],
            figures=figures(results),
            style=style,
            policy=policy(style),
            created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            version=version("localemp"),
        )
    )
