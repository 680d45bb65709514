"""`make doctor`: what keeps a run from working, a line each with its remedy. Exit 1 when something fails, else 0."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from deploy import project
from flows.terminal.display import show_error
from tasks.errors import PipelineError

COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def main(arguments: list[str] | None = None) -> int:
    """Examine, print as it goes, and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        project.use(start=False)
    except PipelineError as error:  # of the local stack: another account's, or damaged
        show_error(error.message, error.remedy)
        return 1
    from tasks.doctor import MARKS, examine, sound  # after the environment is set

    console = Console(highlight=False, soft_wrap=True)
    findings = []
    for finding in examine(transport=options.transport, try_upload=not options.no_upload):
        console.print(f"[{COLOURS[finding.level]}]{MARKS[finding.level]}[/] {finding.check:<18}", end="")
        console.print(finding.what, markup=False)
        if finding.remedy:
            console.print(f"{'':<20}→ {finding.remedy}", markup=False, style="dim")
        findings.append(finding)
    return 0 if sound(findings, strict=options.strict) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.doctor", description="What keeps a run from working.")
    transport = "that of runs; auto is postgres where SUPABASE_DB_URL is set (auto)"
    parser.add_argument("--transport", choices=("auto", "rest", "postgres"), default="auto", help=transport)
    parser.add_argument("--no-upload", action="store_true", help="do not try an upload")
    parser.add_argument("--strict", action="store_true", help="warnings fail too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
