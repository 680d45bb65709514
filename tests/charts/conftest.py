"""Charts are drawn in our style."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tasks.charts.style import drawing


@pytest.fixture(autouse=True)
def _style() -> Iterator[None]:
    with drawing():
        yield
