"""No secret, and nothing that identifies a person, in anything that runs leave behind: also in those that fail.

Looked through: Prefect's database (parameters, logs, artifacts, states), its log files and results, every file in the
bucket, the ledger. Signed links are the one exception: at most seven days.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.platform.bucket import Bucket
from tasks.settings import Settings
from tests.browser.conftest import Product

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.xdist_group("browser"), pytest.mark.timeout(600)]

# A trigger that a user's own table might have: its words quote the row.
TALKATIVE = """
create function public.refuse_loudly() returns trigger language plpgsql as
$$ begin raise exception 'the mail % of % is not welcome', new.email, new.name; end $$;
create trigger refuse_loudly before insert or update on public.clean_users
for each row execute function public.refuse_loudly();
update public.users set bio = coalesce(bio, '') || ' changed', updated_at = now()"""
NAMES = """
select * from (select trim(name) from public.users order by id limit 150) names
union select * from (select trim(title) from public.posts order by id limit 150) titles"""
SILENT_AGAIN = "drop trigger refuse_loudly on public.clean_users; drop function public.refuse_loudly()"


@pytest.fixture(scope="module")
def failed(product: Product) -> dict[str, Any]:
    """A nightly after the scheduled one that fails while it writes, because the database refuses rows and says why."""
    product.finished("nightly", seconds=300)
    product.stack.query(TALKATIVE)
    try:
        ended = product.ended(product.start("nightly", as_of="now", transport="postgres")["id"])
    finally:
        product.stack.query(SILENT_AGAIN)
    time.sleep(3)  # its last lines of log are on their way
    return ended


def test_a_failed_run_says_what_happened_and_what_to_do(product: Product, failed: dict[str, Any]) -> None:
    assert failed["state_type"] == "FAILED"
    page = product.artifacts(failed)["failure"]["data"]
    for part in ("What happened.", "What was written.", "What to do next."):
        assert part in page


def test_no_secret_is_left(product: Product, failed: dict[str, Any]) -> None:
    env = product.stack.env()
    password = env["SUPABASE_DB_URL"].split(":")[2].split("@")[0]
    secrets = {env["SUPABASE_SERVICE_KEY"], env["SUPABASE_DB_URL"], password, product.stack.jwt_secret}
    found = [str(place) for place, body in left_behind(product) for secret in secrets if secret.encode() in body]
    assert found == []


def test_nobody_is_left_who_could_be_named(product: Product, failed: dict[str, Any]) -> None:
    rows = "select email from public.users where email like '%@%'"
    people = {line.strip().lower().encode() for line in product.stack.query(rows).splitlines()}
    names = {name.encode() for name in product.stack.query(NAMES).splitlines() if len(name) > 8}
    assert len(people) > 100
    assert len(names) > 100
    for place, body in left_behind(product):
        lower = body.lower()
        assert [person for person in people if person in lower] == [], place
        assert [name for name in names if name in body] == [], place


def left_behind(product: Product) -> Iterator[tuple[object, bytes]]:
    """Everything that is kept, as text: paths and their bytes."""
    for file in sorted(product.prefect.home.rglob("*")):
        if file.is_file() and file.suffix != ".png":
            yield file, file.read_bytes()
    yield "etl_runs", product.stack.query("select row_to_json(r) from public.etl_runs r").encode()
    env = product.stack.env()
    with Bucket(Settings(supabase_url=product.stack.url, supabase_service_key=env["SUPABASE_SERVICE_KEY"])) as bucket:
        for stored in [*bucket.walk("runs"), *bucket.walk("exports")]:
            yield stored.path, _as_text(bucket.download(stored.path))


def _as_text(body: bytes) -> bytes:
    """A Parquet file is compressed: its texts and its metadata; any other file as it is."""
    if body[:4] != b"PAR1":
        return body
    table = pq.read_table(pa.BufferReader(body))
    texts = [column for column in table.columns if pa.types.is_string(column.type)]
    return "\n".join([str(table.schema), *(str(v) for column in texts for v in column.unique().to_pylist())]).encode()
