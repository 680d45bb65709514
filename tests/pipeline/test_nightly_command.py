"""`python -m flows.nightly` as cron starts it: no server, exit codes, and one JSON object on one line."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data.demo import DemoCounts
from flows import nightly
from tests.pipeline.conftest import Runner
from tests.pipeline.kit import AS_OF, Project

ROOT = Path(__file__).parents[2]
NAMES = ["run_id", "status", "mode", "as_of", "transport", "tables", "manifest", "seconds", "bytes"]
UNIT = (ROOT / "deploy" / "systemd" / "supabase-nightly.service").read_text()
BLOCK = re.findall(r"```sh\n(python -m flows\.nightly .*)\n```", (ROOT / "docs" / "operating.md").read_text())
HOW = ["base_run", "full_because", "not_read", "drifted"]  # of the mode, after what every run has
COUNTS = ["read", "kept", "rejected", "after_as_of", "inserted", "updated", "unchanged", "deleted", "refused"]


def command(project: Project, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command in the environment of the systemd unit, with this project's address and keys."""
    full = {"PATH": os.environ["PATH"], **of_unit(project.folder / "data"), **project.access, **env}
    line = [sys.executable, "-m", "flows.nightly", *arguments]
    return subprocess.run(line, cwd=ROOT, env=full, capture_output=True, text=True, timeout=300, check=False)


def of_unit(state: Path) -> dict[str, str]:
    """The environment that the unit gives, with its state folder elsewhere. It has no other home."""
    state.mkdir(mode=0o700, exist_ok=True)
    pairs = [pair for line in re.findall(r"^Environment=(.*)$", UNIT, re.MULTILINE) for pair in shlex.split(line)]
    return dict(pair.replace("/var/lib/supabase-nightly", str(state)).split("=", 1) for pair in pairs)


def last_line(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["postgres", "rest"])
def test_a_night_from_cron(transport: str, project: Project, demo: DemoCounts) -> None:
    done = command(project, "--as-of", AS_OF, "--transport", transport, "--json", "--full-refresh")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    said = last_line(done)
    assert list(said) == [*NAMES, *HOW]
    assert (said["status"], said["mode"], said["as_of"], said["transport"]) == ("committed", "full", AS_OF, transport)
    for name in ("users", "posts"):
        assert list(said["tables"][name]) == COUNTS
        assert said["tables"][name]["inserted"] == said["tables"][name]["kept"] == demo[name].kept
    assert project.file(said["manifest"])
    latest = project.latest()
    assert latest is not None
    assert latest["manifest"] == said["manifest"]
    assert set(said["seconds"]) == set(said["bytes"]) >= {"Read posts", "Publish", "Load and commit"}
    assert all(set(of) == {"sent", "received"} for of in said["bytes"].values())
    assert said["bytes"]["Read posts"]["received"] > 1_000
    assert said["bytes"]["Publish"]["sent"] > sum(file["bytes"] for file in project.manifest()["files"])
    assert said["bytes"]["Load and commit"]["sent"] > 50_000, "the rows, over either transport"
    assert not list((project.folder / "data").glob("local/stack")), "nothing local is started"
    assert project.stack.service_key not in done.stdout + done.stderr
    assert "arning" not in done.stderr, "every folder that a library wants can be written"


@pytest.mark.slow
def test_a_dry_run_writes_nothing_and_is_sound(project: Project, demo: DemoCounts) -> None:
    (block,) = BLOCK
    done = command(project, *shlex.split(block)[3:])
    assert done.returncode == 0, done.stderr
    said = last_line(done)
    assert (said["status"], said["manifest"]) == ("dry_run", None)
    assert said["tables"]["users"]["inserted"] == demo.users.kept
    assert project.latest() is None


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--as-of", "yesterday"), "yesterday"),
        (("--as-of", "2199-01-01"), "lies in the future"),
        (("--as-of", "2199-01-01"), "the reports cover whole days up to and including 31 December"),
        (("--transport", "carrier-pigeon"), "carrier-pigeon"),
        (("--acept", "posts_drop"), "acept"),
        (("--js",), "js"),  # it was taken, and a summary printed
        (("--accept", "posts_dorp"), "posts_drop"),
        (("--accept", "users_drop, posts_dorp"), "'posts_dorp'"),  # several in one are several, as in the form
    ],
)
def test_wrong_usage_is_a_sentence_and_2(
    arguments: tuple[str, ...], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nightly.main(["--json", *arguments]) == 2
    said = json.loads(capsys.readouterr().out)
    assert list(said) == [*NAMES, *HOW, "error", "remedy", "written"]
    assert said["status"] == "failed"
    assert said["remedy"]
    assert word in said["error"] + said["remedy"]


@pytest.mark.slow
def test_wrong_usage_and_wrong_settings_end_the_process_with_2(project: Project) -> None:
    done = command(project, "--acept", "posts_drop")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("✗ Unrecognized arguments: --acept")
    done = command(project, ETL_RANGES="many")
    assert done.returncode == 2
    assert "ETL_RANGES" in done.stderr
    assert "Traceback" not in done.stderr
    secret = "ETL_PASSWORD" if "ETL_PASSWORD" in project.identity else "SUPABASE_SERVICE_KEY"
    done = command(project, "--json", **{secret: ""})
    assert done.returncode == 2
    assert secret in last_line(done)["error"]


def test_a_failure_is_1_and_says_what_to_do(project: Project) -> None:
    project.stack.query("alter table public.posts rename to posts_moved")
    try:
        done = command(project, "--json", "--transport", "postgres")
    finally:
        project.stack.query("alter table public.posts_moved rename to posts")
    assert done.returncode == 1
    said = last_line(done)
    assert said["status"] == "failed"
    assert said["run_id"]
    assert (said["mode"], said["full_because"]) == (None, None), "it failed before that was decided"
    assert "public.posts" in said["error"]
    assert said["remedy"]


@pytest.mark.slow
def test_a_held_run_is_3_until_its_metric_is_accepted(project: Project, demo: DemoCounts, run: Runner) -> None:
    run()
    project.stack.query("delete from public.posts where id in (select id from public.posts order by id limit 500)")
    done = command(project, "--json", "--as-of", AS_OF)
    assert done.returncode == 3, done.stderr
    said = last_line(done)
    assert said["status"] == "held"
    assert (said["mode"], said["base_run"]) == ("full", None)
    assert "of posts changed" in said["full_because"]
    names = [word.rstrip(";.") for word in said["remedy"].split() if word.startswith(("posts_", "users_", "rule_"))]
    assert "posts_deletes" in names
    again = command(project, "--json", "--as-of", AS_OF, *(part for name in names for part in ("--accept", name)))
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_while_another_run_holds_the_lease_it_is_declined_with_4(project: Project, demo: DemoCounts) -> None:
    project.stack.query(
        "insert into public.etl_runs (run_id, token, status, transport, as_of_mode, lease_seconds)"
        " values ('other', gen_random_uuid(), 'running', 'rest', 'now', 600)"
    )
    done = command(project, "--json")
    assert done.returncode == 4
    said = last_line(done)
    assert said["status"] == "declined"
    assert "other" in said["error"]
