"""Where tests of experiments work."""

import pytest
from small_plans import LocalEngine
from wordnet_here import small_files, write_files

from localemp.engines.registry import ENGINES, register_engine


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of its own to work in, with a cache and a small WordNet of its own, no keys, and an engine here."""
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path / "cache" / "nltk" / "corpora" / "wordnet", small_files())
    monkeypatch.setenv("NLTK_DATA", str(tmp_path / "cache" / "nltk"))
    monkeypatch.setenv("LOCALEMP_CACHE", str(tmp_path / "cache"))
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    before = dict(ENGINES)
    register_engine("local", LocalEngine)
    LocalEngine.events.clear()
    yield tmp_path
    ENGINES.clear()
    ENGINES.update(before)
