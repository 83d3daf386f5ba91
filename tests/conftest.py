"""Fixtures that several tests share."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command import Localemp
from patience import patience
from repository import REPOSITORY

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# The settings of whoever runs the tests count in none of them.
os.environ["LOCALEMP_CONFIG"] = os.devnull
os.environ.pop("LOCALEMP_MODEL", None)

CHROMIUM = Path("/usr/bin/chromium")
_CHROMIUM = pytest.StashKey["Browser"]()


# Groups that take long begin first, or one process would still be at it when the other has nothing left to do.
FIRST = (
    "real",
    "pages",
    "tests/test_mutants.py",
    "tests/test_regular_expressions.py",
    "tests/test_knowledge_mutants.py",
)


def group_of(nodeid: str) -> str:
    """Return what a test runs together with, in one process: its file's tests, for their fixtures.

    All with real models are one group, so that no two engines run at once; so are all pages, which share a browser.
    """
    file = nodeid.partition("::")[0]
    return "real" if "/real/" in file else "pages" if file.endswith("page.py") else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests of pages, and put the longest groups first."""
    for item in items:
        if "browser" in fixtures_of(item):
            item.add_marker(pytest.mark.browser)

    def place(item: pytest.Item) -> tuple[int, bool]:
        group = group_of(item.nodeid)
        return FIRST.index(group) if group in FIRST else len(FIRST), group == "pages" and "browser" in fixtures_of(item)

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)  # without xdist there is one process
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give whole groups to processes; the groups that xdist's own scheduler takes from marks, pytest 9.2 hides."""
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return GroupScheduling(config, log)


def fixtures_of(item: pytest.Item | None) -> Sequence[str]:
    """Return the names of the fixtures that a test uses, directly or through others."""
    return item.fixturenames if isinstance(item, pytest.Function) else ()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a long text by its parameter, as pytest does with what is no text: names of tests stay short."""
    return argname if isinstance(val, str | bytes) and len(val) > 24 else None


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Any:
    """What a process reports to the first one goes as UTF-8, and hostile texts in logs or failures may be none."""
    return _storable((yield))


def _storable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _storable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_storable, value))
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


@pytest.fixture(params=[0.2, pytest.param(1.0, marks=pytest.mark.slow)], ids=["a fifth", "all"])
def share(request: pytest.FixtureRequest) -> float:
    """The share of its random cases that a test tries: the first fifth in the lane for everybody, else all."""
    return request.param


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, which the project uses in tests but never contains."""
    folder = Path(os.environ.get("LOCALEMP_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "empathetic_dialogues").is_dir():
        pytest.skip(f"no real data: {folder} is not there (set LOCALEMP_TEST_DATA)")
    return folder


@pytest.fixture
def localemp(tmp_path: Path) -> Localemp:
    """The command, run in `tmp_path`; see `command.py`."""
    return Localemp(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def environment_as_before() -> Iterator[None]:
    """What an engine set for its own process is taken back, or every later command would need a process of its own."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: tiny models gain nothing from more, and on a busy machine they wait for one another."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Path:
    """A folder of weights, as far as `localemp serve` looks at it."""
    path = tmp_path / "tiny"
    path.mkdir()
    (path / "config.json").write_text('{"max_position_embeddings": 2048}')
    (path / "chat_template.jinja").write_text("{{ messages[0].content }}")
    (path / "model.safetensors").write_bytes(b"weights")
    return path


_open = contextlib.ExitStack()  # the browser, while tests of pages follow one another


@pytest.fixture
def browser(request: pytest.FixtureRequest) -> "Browser":
    """Headless Chromium, one for all tests that follow one another."""
    if not CHROMIUM.exists():
        pytest.skip(f"pages are tested in {CHROMIUM}: apt-get install chromium")
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="pages are tested by playwright: pip install playwright"
    )
    if request.config.stash.get(_CHROMIUM, None) is None:
        sync_api.expect.set_options(timeout=1000 * patience())
        playwright = _open.enter_context(sync_api.sync_playwright())
        _open.callback(request.config.stash.__delitem__, _CHROMIUM)
        request.config.stash[_CHROMIUM] = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
    return request.config.stash[_CHROMIUM]


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Close the browser before another kind of test: while playwright's loop runs, no async test can."""
    if "browser" not in fixtures_of(nextitem):
        _open.close()


@pytest.fixture
def visit(browser: "Browser") -> Iterator[Callable[..., "Page"]]:
    """Opens the page at a URL; afterwards no page may have failed, broken its own policy or called elsewhere."""
    contexts, faults = [], []

    def visit(url: str, **settings: Any) -> "Page":
        contexts.append(context := browser.new_context(**settings))
        page = context.new_page()
        page.set_default_timeout(1000 * patience())
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if "Security Policy" in said.text else None)
        page.on("request", lambda asked: None if asked.url.startswith((url, "data:")) else faults.append(asked.url))
        page.goto(url)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not faults
