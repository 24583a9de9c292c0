"""What the tests of the domains share: data beside the checkout, where it is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# The first call of a kernel compiles it, which no deadline should count; and the same examples run every time.
settings.register_profile("domains", deadline=None, derandomize=True)
settings.load_profile("domains")

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data():
    """`shared_data("intents/banking77/train.csv")`: the path, or the test is skipped with the reason."""

    def find(relative: str) -> Path:
        path = SHARED / relative
        if not path.is_file():
            pytest.skip(f"needs the shared data file {relative}, which is not here")
        return path

    return find
