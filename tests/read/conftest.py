"""Two published runs, the later one the latest, and settings that read them."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from local_stack import Stack
from tasks.files.manifest import ManifestRef
from tasks.files.run_files import write_files
from tasks.publish.pointer import repair_pointer
from tasks.publish.upload import publish
from tasks.reports.figures import RunCounts
from tasks.settings import Settings
from tests.publish.builders import AS_OF, SNAPSHOT_AT, FakeRun, make_workspace, settings_of

EARLIER = FakeRun(run_id="earlier", as_of=AS_OF - timedelta(days=1), snapshot_at=SNAPSHOT_AT - timedelta(days=1))
LATER = FakeRun(run_id="later")


@dataclass(frozen=True)
class Bucketful:
    """Settings of the service, and the manifests of the runs `earlier` and `later`."""

    settings: Settings
    earlier: ManifestRef
    later: ManifestRef


SignIn = Callable[[dict[str, str]], str]


def publish_two(stack: Stack, folder: Path, *, months: str = "2") -> Bucketful:
    """Fill the empty bucket of a stack; of the posts only the months that begin so."""
    settings = settings_of(stack, folder, part_rows=1_000, row_group_rows=500, cache_dir=folder / "cache")
    manifests = []
    for seed, run in enumerate((EARLIER, LATER)):
        workspace = make_workspace(folder, run.run_id, users=40, posts=400, seed=seed)
        files = [
            entry
            for entry in write_files(workspace, as_of=run.as_of, settings=settings)
            if "month=" not in entry.path or f"month={months}" in entry.path
        ]
        manifests.append(publish(settings, workspace, run, files, RunCounts()))
        repair_pointer(settings, manifests[-1])
    return Bucketful(settings, *manifests)


_HELD = "select count(*), max(updated_at), max(created_at) from storage.objects where bucket_id = 'reports'"


@pytest.fixture(scope="session")
def kept() -> dict[str, Bucketful]:
    """What `filled` left in the bucket: the two runs, by what the database said of the bucket's files then."""
    return {}


@pytest.fixture
def filled(kept: dict[str, Bucketful], stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Bucketful:
    """The two runs, for tests that only read: published again where a test before this one changed the bucket."""
    if (held := stack.query(_HELD)) not in kept:
        kept.clear()
        stack.empty_bucket("reports")
        made = publish_two(stack, tmp_path_factory.mktemp("filled"))
        kept[held := stack.query(_HELD)] = made
    return kept[held]


@pytest.fixture
def published(filled: Bucketful, tmp_path: Path) -> Bucketful:
    """The two runs, and a cache that holds nothing yet. Nothing in the bucket may be changed."""
    fresh = filled.settings.model_copy(update={"cache_dir": tmp_path / "cache"})
    return dataclasses.replace(filled, settings=fresh)


@pytest.fixture
def changeable(clean_stack: Stack, tmp_path: Path) -> Bucketful:
    """The two runs in a bucket of the test's own."""
    return publish_two(clean_stack, tmp_path, months="2025-07")


@pytest.fixture
def public(published: Bucketful) -> Settings:
    """Settings of a person without the service key."""
    return published.settings.model_copy(update={"supabase_service_key": type(published.settings.supabase_key)("")})


@pytest.fixture(scope="session")
def sign_in(stack: Stack) -> SignIn:
    """Makes the access token of a signed-in user, as Auth gives it (tests/stack/test_auth.py really signs in)."""

    def mint(app_metadata: dict[str, str]) -> str:
        claims = {
            "iss": f"{stack.url}/auth/v1", "aud": "authenticated", "role": "authenticated", "sub": str(uuid.uuid4()),
            "exp": int(time.time()) + 600, "app_metadata": {"provider": "email", **app_metadata}, "user_metadata": {},
        }  # fmt: skip
        head, body = (_encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
        signature = hmac.new(stack.jwt_secret.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
        return f"{head}.{body}.{_encoded(signature)}"

    return mint


def _encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def later_of(**changes: object) -> FakeRun:
    return dataclasses.replace(LATER, **changes)  # type: ignore[arg-type]
