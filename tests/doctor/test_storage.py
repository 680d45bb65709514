"""Rights on Storage's tables that somebody took away: the right and its SQL are named, to the doctor as to a run."""

from __future__ import annotations

import pytest

from flows.engine.outcome import RunRequest
from flows.engine.pipeline import run_pipeline
from local_stack import Stack
from tasks.errors import AccessError
from tasks.ledger.as_of import AsOf
from tests.doctor.test_doctor import findings
from tests.pipeline.identities import identity_env


@pytest.mark.parametrize(
    ("right", "says"),
    [
        ("select on storage.buckets", "Looking for the bucket"),
        ("insert on storage.objects", "Uploading a probe"),
        ("update on storage.objects", "Replacing the probe"),
    ],
)
def test_a_right_on_storages_tables_that_is_gone_is_found_before_a_run_reads(
    healthy: Stack, right: str, says: str
) -> None:
    """It was found where the first file was stored or, without the right to replace one, after the commit."""
    healthy.query(f"revoke {right} from service_role")
    try:
        found = findings()
        with pytest.raises(AccessError) as refused:
            run_pipeline(RunRequest(as_of=AsOf.parse("now"), dry_run=True))
    finally:
        healthy.query(f"grant {right} to service_role")
    finding = found["bucket" if "buckets" in right else "upload"]
    assert finding.level == "fail"
    assert says in finding.what
    assert "grant all on storage.buckets, storage.objects to service_role" in finding.remedy
    assert refused.value.remedy == finding.remedy
    assert (refused.value.stage, refused.value.written) == ("Check sources", "Nothing: no file and no row.")


@pytest.mark.parametrize(
    ("policy", "table", "check", "says"),
    [
        ("etl sees its bucket", "buckets", "bucket", "If it is there, the role etl does not see it."),
        ("etl keeps the reports", "objects", "upload", "The role etl lacks insert on storage.objects."),
    ],
)
def test_a_policy_of_the_bucket_that_is_gone_is_named_with_its_sql(
    healthy: Stack, monkeypatch: pytest.MonkeyPatch, policy: str, table: str, check: str, says: str
) -> None:
    """It was `make migrate`, which makes no policy again, or a bucket to be made that is there."""
    act_as_a_user(healthy, monkeypatch)
    healthy.query(f'alter policy "{policy}" on storage.{table} to postgres')
    try:
        found = findings()[check]
        for _ in ("lacking", "there"):  # a policy of that name, as docs/keys.md has it
            healthy.query(found.remedy.partition("SQL editor: ")[2].rpartition(";")[0])
        assert findings()[check].level == "ok"
    finally:
        for name in ("sees", "keeps"):
            healthy.query(f'drop policy if exists "etl {name} reports" on storage.{table}')
        healthy.query(f'alter policy "{policy}" on storage.{table} to etl')
    assert (found.level, says in found.remedy) == ("fail", True), found


def test_a_file_that_cannot_be_deleted_is_found(healthy: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage says 200 then, and the doctor that its probe was gone."""
    act_as_a_user(healthy, monkeypatch)
    healthy.query("create policy none on storage.objects as restrictive for delete to etl using (false)")
    try:
        found = findings()["upload"]
    finally:
        healthy.query("drop policy none on storage.objects")
        healthy.empty_bucket("reports")
    assert "cannot be deleted" in found.what
    assert "The role etl lacks delete on storage.objects." in found.remedy
    assert findings()["upload"].level == "ok"


def act_as_a_user(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline's own, with the role etl."""
    for name in ("SUPABASE_SERVICE_KEY", "SUPABASE_DB_URL"):
        monkeypatch.delenv(name)
    for name, value in identity_env(stack, "signed-in user").items():
        monkeypatch.setenv(name, value)
