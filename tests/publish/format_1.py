"""A published run as the first release left it, under `runs/date=…/run=…/`: such runs live on for 30 days."""

from __future__ import annotations

import json

from tasks.files.manifest import MANIFEST, Manifest, parse_run_path, sha256_of, to_json
from tasks.platform.bucket import Bucket
from tasks.settings import Settings


def move_to_format_1(settings: Settings, manifest: Manifest) -> Manifest:
    """Move a run's files to their paths of format 1, with a manifest that says so. latest.json is not touched."""
    day, run_id = parse_run_path(manifest.run_path) or ("", "")
    path = f"runs/date={day}/run={run_id}"
    with Bucket(settings) as bucket:
        body = to_json({**json.loads(bucket.download(manifest.path)), "format": 1, "run": path})
        for file in list(bucket.walk(manifest.run_path)):
            below = file.path.removeprefix(f"{manifest.run_path}/")
            bucket.store(f"{path}/{below}", body if below == MANIFEST else bucket.download(file.path))
            bucket.remove([file.path])
    return Manifest(f"{path}/{MANIFEST}", sha256_of(body))
