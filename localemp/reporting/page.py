"""The page of a report: one self-contained file that works from disk and without a network."""

from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from localemp import web
from localemp.reporting.case_study import as_script
from localemp.reporting.report import Report
from localemp.reporting.tables import spans

PAGE = Path(__file__).with_name("page")
SHARED = Path(web.__file__).with_name("page")


def render(report: Report, title: str | None = None) -> str:
    """Render the report as HTML.

    Its content security policy allows no loading and no script except the page's own, which is named by its hash:
    markup inside a reply would be harmless even if it were not escaped.
    """
    style = inlined(SHARED / "base.css", PAGE / "style.css")
    script = inlined(SHARED / "elements.js", PAGE / "app.js")
    made, same = report.made()
    cases = report.case_study()
    runs = sum(system.manifest is not None for system in report.systems)
    return (
        environment(PAGE)
        .get_template("report.html.jinja")
        .render(
            title=title or f"Report on {len(report.systems)} {'run' if len(report.systems) == 1 else 'runs'}",
            report=report,
            made=made,
            same=same,
            runs=runs,
            cases=cases,
            cases_json=as_script(cases),
            style=style,
            script=script,
            policy=policy(style, script),
            created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            version=version("localemp"),
        )
    )


def inlined(*files: Path) -> Markup:
    """Return the text of style sheets or scripts, one after the other, for a page that needs no other file."""
    return Markup("\n").join(Markup(path.read_text("utf-8")) for path in files)


def environment(*folders: Path) -> Environment:
    """Return the template environment: everything is escaped, and a missing value is an error."""
    made = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["with_code"] = _with_code
    return made


def policy(style: str, script: str = "") -> str:
    """Return a content security policy that allows the page's own style and script, and nothing else."""
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )


def _with_code(text: str) -> Markup:
    tags = [Markup("{}"), Markup("<code>{}</code>")]
    return Markup("").join(tags[index % 2].format(part) for index, part in enumerate(spans(text)))


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
