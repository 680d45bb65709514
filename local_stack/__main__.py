"""`python -m local_stack up|down|status|reset --home DIR`: the stack as a tool.

`up` and `reset` print where the stack is, with --show-keys `NAME=value` lines with its keys; both to stdout. Everything
else goes to stderr.
Exit 0 when done (`status`: when all of it runs), 1 when it failed or does not run, 2 for bad usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from local_stack.arguments import folder, port, positive
from local_stack.home import Home
from local_stack.stack import Stack, down, find, reset, status, up
from tasks.errors import PipelineError

DEFAULT_HOME = Path("data/local/stack")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        with console.status("Looking at the stack") as line:
            options.note = lambda text: console.print(text, markup=False)
            return int(options.run(options, lambda text: line.update(f"{text} …")))
    except (PipelineError, OSError) as error:
        console.print("[bold red]error:[/] ", end="")
        console.print(str(error), markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("Stopped; what was started keeps running. `down` ends it.", markup=False)
        return 1


def _up(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    stack = up(
        options.home,
        empty=options.empty,
        api_port=options.api_port,
        db_port=options.db_port,
        max_rows=options.max_rows,
        jwt_expiry=options.jwt_expiry,
        access_token_hook=options.access_token_hook,
        say=say,
        note=options.note,
    )
    return _show(stack, keys=options.show_keys)


def _reset(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    return _show(reset(options.home, empty=options.empty, say=say), keys=options.show_keys)


def _show(stack: Stack, *, keys: bool) -> int:
    """Its settings with their keys for a program, or for a person where it is and where the keys are."""
    if keys:
        print("\n".join(f"{name}={value}" for name, value in stack.env().items()))
        return 0
    database = urlsplit(stack.db_url)
    print(f"API       {stack.url}")
    print(f"Database  {database.hostname}:{database.port}{database.path}, as {database.username}")
    print(f"Keys      in {Home.at(stack.home).state}, for you only; --show-keys prints them")
    return 0


def _down(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    print("stopped" if down(options.home, say=say) else "was not running", file=sys.stderr)
    return 0


def _status(options: argparse.Namespace, _: Callable[[str], None]) -> int:
    found = status(options.home)
    stack = find(options.home)
    print(f"home      {options.home.resolve()}")
    print(f"database  {'runs' if found.database else 'does not run'}")
    print(f"api       {'runs' if found.api else 'does not run'}{f'  {stack.url}' if stack else ''}")
    return 0 if found.complete else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local_stack", description="The embedded Supabase stack.")
    commands = parser.add_subparsers(required=True, metavar="up|down|status|reset")

    def command(name: str, run: Callable[..., int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--home", type=folder, default=DEFAULT_HOME, help=f"folder of the stack ({DEFAULT_HOME})")
        added.set_defaults(run=run)
        return added

    starting = command("up", _up, "Start the stack, or find it running, and print its addresses.")
    starting.add_argument("--api-port", type=port, help="port of REST, Auth and Storage; 0 picks a free one")
    starting.add_argument("--db-port", type=port, help="port of PostgreSQL; 0 picks a free one")
    starting.add_argument("--max-rows", type=positive, help="most rows that one REST answer holds (1000)")
    starting.add_argument("--jwt-expiry", type=positive, help="seconds that a signed-in user's token lives (3600)")
    starting.add_argument(
        "--access-token-hook", metavar="FUNCTION", help="custom access token hook: public.etl_access_token, '' for none"
    )
    _shown(starting)
    starting.add_argument("--empty", action="store_true", help="leave out the demo data")
    command("down", _down, "Stop the stack; its data stays.")
    command("status", _status, "Show what runs; exit 0 when all of it does.")
    again = command("reset", _reset, "Throw all data of the stack away and start again with none.")
    _shown(again)
    again.add_argument("--empty", action="store_true", help="leave out the demo data")
    return parser


def _shown(command: argparse.ArgumentParser) -> None:
    command.add_argument("--show-keys", action="store_true", help="print the settings with their keys, as NAME=value")


if __name__ == "__main__":
    sys.exit(main())
