"""Between a client and a real server, answers fail: the read is complete and equal, or ends in one clear error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from local_stack import Stack
from tasks.errors import PipelineError, ServiceUnavailable
from tests.source.fault_proxy import ANSWERS, FAULTS, fault_proxy
from tests.source.kit import posts_at, read, settings_for, source_table

ROWS = 6_000


@pytest.fixture(scope="module")
def whole(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, pa.Table]]:
    folder = tmp_path_factory.mktemp("whole")
    with source_table(stack, rows=ROWS) as name:
        yield name, read(settings_for(stack, "rest", folder), posts_at(name), folder)[0]


@pytest.mark.parametrize("fault", FAULTS)
def test_one_kind_of_fault_costs_nothing_but_time(
    stack: Stack, whole: tuple[str, pa.Table], fault: str, tmp_path: Path
) -> None:
    name, expected = whole
    with fault_proxy(stack.url, [fault], 0.2, seed=4) as proxy:
        settings = settings_for(stack, "rest", tmp_path, supabase_url=proxy.url, read_timeout=0.5, page_rows=300)
        rows, _ = read(settings, posts_at(name), tmp_path)
    assert proxy.counts[fault] > 0
    assert rows.equals(expected)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_one_request_in_three_may_fail_in_any_way(
    stack: Stack, whole: tuple[str, pa.Table], seed: int, tmp_path: Path
) -> None:
    name, expected = whole
    with fault_proxy(stack.url, FAULTS, 1 / 3, seed=seed) as proxy:
        settings = settings_for(stack, "rest", tmp_path, supabase_url=proxy.url, read_timeout=0.5, page_rows=500)
        rows, _ = read(settings, posts_at(name), tmp_path)
    assert proxy.counts.total() > proxy.counts["passed"] > 0
    assert rows.equals(expected)


@pytest.mark.parametrize("fault", [*ANSWERS, "truncated", "reset"])
def test_a_server_that_never_answers_well_ends_in_one_clear_error(
    stack: Stack, whole: tuple[str, pa.Table], fault: str, tmp_path: Path
) -> None:
    name, _ = whole
    with fault_proxy(stack.url, [fault], 1.0) as proxy:
        settings = settings_for(stack, "rest", tmp_path, supabase_url=proxy.url, retries=2, read_timeout=0.5)
        with pytest.raises(ServiceUnavailable) as caught:
            read(settings, posts_at(name), tmp_path)
    assert name in str(caught.value)
    assert "Tried 3 times" in str(caught.value)


def test_no_server_at_all_ends_in_one_clear_error(stack: Stack, tmp_path: Path) -> None:
    settings = settings_for(stack, "rest", tmp_path, supabase_url="http://127.0.0.1:9", retries=1)
    with pytest.raises(PipelineError, match=r"127\.0\.0\.1:9 failed \(ConnectError\)\. Tried 2 times"):
        read(settings, posts_at("posts"), tmp_path)
