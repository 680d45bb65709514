"""A published run as the first release left it, under `runs/date=…/run=…/`: such runs live on for 30 days."""

from __future__ import annotations

import json

from tasks.files.layout import MANIFEST, parse_run_path
from tasks.files.manifest import ManifestRef, sha256_of, to_json
from tasks.platform.bucket import Bucket
from tasks.settings import Settings


def move_to_format_1(settings: Settings, manifest: ManifestRef) -> ManifestRef:
    """Move a run's files to their paths of format 1, with a manifest that says so. latest.json is not touched."""
    day, run_id = parse_run_path(manifest.run_path) or ("", "")
    path = f"runs/date={day}/run={run_id}"
    with Bucket(settings) as bucket:
        now = json.loads(bucket.download(manifest.path))
        new = {"format": 1, "run": path, "began": now.pop("started_at"), "mode": None}
        body = to_json({name: value for name, value in {**now, **new}.items() if value is not None})
        for file in list(bucket.walk(manifest.run_path)):
            below = file.path.removeprefix(f"{manifest.run_path}/")
            bucket.store(f"{path}/{below}", body if below == MANIFEST else bucket.download(file.path))
            bucket.remove([file.path])
    return ManifestRef(path=f"{path}/{MANIFEST}", sha256=sha256_of(body))
