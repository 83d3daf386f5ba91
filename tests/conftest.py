"""Fixtures that several tests share."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, which the project uses in tests but never contains."""
    folder = Path(os.environ.get("LOCALEMP_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "empathetic_dialogues").is_dir():
        pytest.skip(f"no real data: {folder} is not there (set LOCALEMP_TEST_DATA)")
    return folder
