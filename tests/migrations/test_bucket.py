"""A bucket `reports` that was there before ours: public, or with the product's files in it, it stops `make migrate`."""

from __future__ import annotations

import pytest

from deploy.migrations import migrate
from local_stack.postgres import query
from tasks.errors import WriteError

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
