"""Fixtures that several tests share."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command import Localemp
from patience import patience

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = Path("/usr/bin/chromium")
REPOSITORY = Path(__file__).parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file stays in one process, for its fixtures; so do all engines, which begin first: they take longest."""
    items.sort(key=lambda item: item.get_closest_marker("engine") is None)
    for item in items:
        group = "engine" if item.get_closest_marker("engine") else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


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


# The browser closes with its module: while playwright's loop runs, no async test can.
@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Headless Chromium."""
    if not CHROMIUM.exists():
        pytest.skip(f"pages are tested in {CHROMIUM}: apt-get install chromium")
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="pages are tested by playwright: pip install playwright"
    )
    sync_api.expect.set_options(timeout=1000 * patience())
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


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
