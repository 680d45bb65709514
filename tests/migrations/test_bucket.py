"""A bucket `reports` that was there before ours: public, or with the product's files in it, it stops `make migrate`."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.migrations import migrate, rollback
from deploy.migrations.verify import STORAGE_POLICIES
from local_stack.postgres import query
from scripts.migrations import main
from tasks.errors import ConfigurationError, WriteError

ROOT = Path(__file__).parents[2]

# As much of hosted Storage's schema as the migrations look at.
STORAGE = """
create schema storage;
create table storage.buckets (id text primary key, name text, public boolean default false);
create table storage.objects (id uuid default gen_random_uuid(), bucket_id text, name text);
alter table storage.objects enable row level security;
"""
MIGRATION = "20261125004001_bucket"


def test_a_public_bucket_is_refused_and_then_accepted(project: str) -> None:
    query(project, f"{STORAGE} insert into storage.buckets values ('reports', 'reports', true)")
    with pytest.raises(WriteError, match="The bucket `reports` is public") as caught:
        migrate(project)
    assert MIGRATION in str(caught.value)
    query(project, "update storage.buckets set public = false")
    assert MIGRATION in migrate(project)


def test_a_bucket_of_the_products_is_refused_by_a_file_of_it(project: str) -> None:
    ours = ["runs/2026-01-31/x/manifest.json", "latest.json", "exports/.emptyFolderPlaceholder", "uploads/a.csv"]
    files = ", ".join(f"('reports', '{name}')" for name in [*ours, "invoices/2025.pdf"])
    query(project, f"{STORAGE} insert into storage.buckets values ('reports', 'reports', false)")
    query(project, f"insert into storage.objects (bucket_id, name) values {files}")
    with pytest.raises(WriteError, match=r"not the pipeline's, like `invoices/2025\.pdf`"):
        migrate(project)
    query(project, "update storage.objects set bucket_id = 'invoices' where name like 'invoices/%'")
    assert MIGRATION in migrate(project)


def test_a_bucket_that_the_migrations_made_is_ours(project: str) -> None:
    query(project, STORAGE)
    migrate(project)
    assert query(project, "select id, public from storage.buckets") == "reports|f"


def test_what_somebody_took_away_in_storage_is_made_again(project: str) -> None:
    """The doctor sends people to `make migrate`, which did not do it where all files are applied."""
    query(project, STORAGE)
    migrate(project)
    query(project, "delete from storage.buckets; revoke insert, update on storage.objects from etl")
    said: list[str] = []
    assert migrate(project, say=said.append) == []
    assert said == [
        "made the bucket reports again, which somebody had deleted",
        "gave back 2 rights in Storage that etl had lost",
    ]
    assert query(project, "select id, public from storage.buckets") == "reports|f"
    assert migrate(project, say=said.append) == []
    assert len(said) == 2


def test_a_rollback_says_what_it_leaves(project: str) -> None:
    query(project, STORAGE)
    migrate(project)
    said: list[str] = []
    rollback(project, say=said.append)
    assert said == ["The bucket reports and its files stay: empty and delete it in the dashboard, under Storage."]
    assert query(project, "select id from storage.buckets") == "reports"


def test_the_policy_on_the_buckets_that_somebody_dropped_is_named_with_its_block(project: str) -> None:
    """To the role etl the bucket is not there then, and the run sends people to `make migrate`: nothing to apply."""
    query(project, f"{STORAGE} alter table storage.buckets enable row level security")
    migrate(project)
    query(project, 'drop policy "etl sees its bucket" on storage.buckets')
    with pytest.raises(ConfigurationError, match='no policy "etl sees its bucket" on') as lacking:
        migrate(project)
    (path,) = re.findall(r"run of (\S+\.sql) only the block that makes it", str(lacking.value))
    blocks = re.findall(r"^do \$\$.*?^\$\$;", (ROOT / path).read_text(), re.DOTALL | re.MULTILINE)
    query(project, next(block for block in blocks if 'create policy "etl sees its bucket"' in block))
    assert migrate(project) == []


def test_a_role_that_may_not_do_it_in_storage_says_who_does(project: str, platform: str) -> None:
    query(project, f"grant select on storage.buckets to postgres; alter table storage.buckets owner to {platform}")
    query(project, f"set role {platform}; grant select on storage.buckets to postgres")
    with pytest.raises(ConfigurationError, match="there is no bucket reports: create it in the dashboard") as caught:
        migrate(project)
    assert "lacks rights on Storage's tables: grant " in str(caught.value)
    assert "without them runs need SUPABASE_SERVICE_KEY" in str(caught.value)
    query(project, f"grant {platform} to postgres with inherit true")


@pytest.fixture
def platform(project: str) -> Iterator[str]:
    """A role that owns Storage's tables, as on a project whose `postgres` may make no policies on them."""
    if query(project, "select current_setting('server_version_num')::int < 160000") == "t":
        pytest.skip("before PostgreSQL 16 the owner may become each role that it makes, and has its rights")
    role = f"platform_{secrets.token_hex(4)}"
    query(project, f"create role {role}; grant {role} to postgres with inherit false, set true; {STORAGE}")
    query(project, f"grant usage, create on schema storage to {role}; alter table storage.objects owner to {role}")
    yield role
    query(project, f"set role {role}; drop table storage.objects; reset role; drop owned by {role}; drop role {role}")


FUNCTIONS = "select md5(string_agg(prosrc, '' order by oid)) from pg_proc where pronamespace = 'public'::regnamespace"


def test_policies_that_this_role_may_not_make_are_named_with_their_blocks(
    project: str, platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text(f"SUPABASE_DB_URL={project}\n")
    assert main([]) == 1
    said = capsys.readouterr().err
    for name, table in STORAGE_POLICIES.items():
        assert f'there is no policy "{name}" on {table}: run of supabase/migrations/' in said
    query(project, f"grant {platform} to postgres with inherit true")
    before = query(project, FUNCTIONS)
    for name, path in re.findall(r'policy "(.+)" on .+: run of (\S+\.sql) only the block that makes it', said):
        blocks = re.findall(r"^do \$\$.*?^\$\$;", (ROOT / path).read_text(), re.DOTALL | re.MULTILINE)
        query(project, next(block for block in blocks if f'create policy "{name}"' in block))
    assert query(project, FUNCTIONS) == before, "none of them is put back to what it was"
    assert main([]) == 0
    assert "nothing to apply" in capsys.readouterr().out
