"""Where tests of experiments work."""

import pytest
from small_plans import LocalEngine

from localemp.engines.registry import ENGINES, register_engine


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of its own to work in, with a cache of its own, no keys, and an engine that runs here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCALEMP_CACHE", str(tmp_path / "cache"))
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    before = dict(ENGINES)
    register_engine("local", LocalEngine)
    LocalEngine.events.clear()
    yield tmp_path
    ENGINES.clear()
    ENGINES.update(before)
