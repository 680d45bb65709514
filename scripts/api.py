"""`make api`: the reports site and API on this machine, on the project that is set or else on the local stack.

On the local stack it makes a demo analyst and prints how to sign in. Runs are started and linked through the Prefect
server of PREFECT_API_URL, or that of `make ui` while it runs. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from pathlib import Path

import httpx
import uvicorn

from api import vendor
from deploy import project
from local_stack import Stack, find
from local_stack.arguments import port, positive
from local_stack.state import free_port, taken
from scripts.ui import HOME as PREFECT_HOME
from scripts.ui import end_on_signals, local_project, use_running
from tasks.errors import PipelineError
from tasks.platform.whole_file import whole_file
from tasks.settings.environment import prefect_api_url

PORT = 8_300
ACCOUNT = Path("data/local/demo-analyst.json")
EMAIL = "analyst@example.com"
MASTER = ("SUPABASE_SERVICE_KEY", "SUPABASE_DB_URL", "ETL_ACCESS_TOKEN", "ETL_EMAIL", "ETL_PASSWORD")


def main(arguments: list[str] | None = None) -> int:
    """Start it and wait for Ctrl-C; returns the exit code."""
    options = _parser().parse_args(arguments)
    end_on_signals()
    try:
        with local_project():
            vendor.install(project.log_step)
            _serve(options)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Ended.", file=sys.stderr)
    return 0


def _serve(options: argparse.Namespace) -> None:
    port = options.port or (free_port() if taken(PORT) else PORT)
    print(f"\n  http://{options.host}:{port}\n", flush=True)
    if "SUPABASE_JWT_SECRET" not in os.environ and os.environ.get("SUPABASE_URL", "").startswith("http://127.0.0.1:"):
        _introduce(find(project.LOCAL_HOME))
    _find_prefect()
    for name in MASTER:
        os.environ.pop(name, None)  # this process asks as its callers, and as nobody else
    end_on_signals()  # the database driver has put a handler of its own in place meanwhile
    uvicorn.run(
        "api.app:create_app",
        factory=True,
        host=options.host,
        port=port,
        workers=options.workers,
        access_log=False,
        log_level="warning",
        proxy_headers=True,
    )


def _find_prefect() -> None:
    """That of `make ui`, where PREFECT_API_URL names no other; this process asks once."""
    if not prefect_api_url() and not use_running(PREFECT_HOME):
        how = "set PREFECT_API_URL or start `make ui`, then this again"
        print(f"  No Prefect server: to start runs from the site {how}.\n", flush=True)


def _introduce(stack: Stack | None) -> None:
    """Make the demo analyst of the local stack and print how to sign in."""
    if stack is None or os.environ.get("SUPABASE_URL") != stack.url:
        return
    os.environ["SUPABASE_JWT_SECRET"] = stack.jwt_secret
    email, password = demo_analyst(stack, ACCOUNT)
    print(f"  Sign in as the demo analyst\n    e-mail    {email}\n    password  {password}\n", flush=True)
    if stack.query("select count(*) from public.etl_runs where status = 'committed'") == "0":
        print("  No run was committed yet: `make run` makes the first one.\n", flush=True)


def demo_analyst(stack: Stack, kept: Path) -> tuple[str, str]:
    """E-mail and password of the local stack's analyst, made where it is missing; the password is kept in a file."""
    password = _kept(kept) or secrets.token_urlsafe(9)
    body, headers = {"email": EMAIL, "password": password}, {"apikey": stack.key}
    token = f"{stack.url}/auth/v1/token"
    if httpx.post(token, params={"grant_type": "password"}, headers=headers, json=body).is_error:
        stack.query("delete from auth.users where email = :'email'", {"email": EMAIL})
        httpx.post(f"{stack.url}/auth/v1/signup", headers=headers, json=body).raise_for_status()
    stack.query(
        "update auth.users set raw_app_meta_data = coalesce(raw_app_meta_data, '{}') || '{\"etl_role\": \"analyst\"}' "
        "where email = :'email'",
        {"email": EMAIL},
    )
    with whole_file(kept, private=True) as part:
        part.write_text(json.dumps(body))
    return EMAIL, password


def _kept(file: Path) -> str:
    """The password that was kept; empty where there is none, or an earlier release was killed while it wrote it."""
    try:
        return str(json.loads(file.read_text())["password"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.api", description="The reports site and API.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=port, help=f"port to listen on ({PORT}, or a free one when that is taken)")
    parser.add_argument("--workers", type=positive, default=1, help="processes that serve (1)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
