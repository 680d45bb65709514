"""`watch`: changes start a run. A flow that runs until it is stopped; `make watch` is the same without Prefect.

python -m flows.watch          watches until Ctrl-C or SIGTERM
python -m flows.watch --health exit 0 when the watch of this folder is well, 1 when not, with a sentence
python -m flows.watch --serve  as a Prefect flow that this process serves, started from its form
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence

if __name__ == "__main__" and sys.argv[1:] == ["--health"]:  # a probe asks often: not after three seconds of imports
    from flows.engine.probe import main as probe

    sys.exit(probe())

from flows.engine.artifacts import show_report
from flows.engine.child import warm
from flows.engine.command import EXIT, USAGE, show_failure, stopped
from flows.engine.declare import etl_flow
from flows.engine.prefect_api import prefect_answering
from flows.engine.probe import health, parser
from flows.engine.run_page import table
from flows.engine.stage import unexpected
from flows.engine.watching import Say, Watch
from flows.forms import WatchForm
from tasks.errors import PipelineError, SettingsError
from tasks.live.counts import fetch_counts, kept_base
from tasks.live.night import Night
from tasks.platform.functions import open_database
from tasks.platform.identity import acting
from tasks.platform.interrupts import interruptible
from tasks.platform.project import require_project
from tasks.settings import Settings, load_settings

logger = logging.getLogger(__name__)


@etl_flow(name="watch", run_name="watch{options.if_dry}")
def watch(options: WatchForm = WatchForm()) -> None:  # noqa: B008 - the form is frozen
    """Start an incremental nightly as of now when enough has changed; runs until it is cancelled.

    Each run has a page of its own. One line an hour says what was seen; `watch.json` in ETL_DATA_DIR says how it is.

    Args:
        options: How many changes start a run, and how long a single one waits.
    """
    settings = load_settings(**overrides(options))
    if options.dry_run:
        show_report(look(settings), key="watch", description="What a watch would see now.")
    else:
        watch_changes(settings)


def look(settings: Settings) -> str:
    """What the database says now, as Markdown; starts nothing."""
    Night.of(settings).require_time_between()
    with acting(settings), open_database(settings) as database:
        counts = fetch_counts(database)
    base = kept_base(settings)
    rows = [(name, f"{of.changes:,}", "yes" if of.published else "no") for name, of in counts.sources.items()]
    pending = f"{counts.since(base):,} since the last run that a watch started" if base else "no watch has run yet"
    head = f"# Dry run: nothing was started\n\nRows changed: {pending}.\n\n"
    return head + table("lrl", ["source", "rows ever changed", "Realtime"], rows)


def overrides(options: WatchForm) -> dict[str, object]:
    """What the form says in place of the settings."""
    given = options.model_dump(exclude_none=True, exclude={"dry_run"})
    return {f"watch_{name}": value for name, value in given.items()}


def watch_changes(settings: Settings, *, say: Say | None = None) -> None:
    """Watch until SIGTERM or SIGINT. Raises PipelineError when it cannot even begin; later failures are waited out."""
    say = say or logger.debug
    Night.of(settings).require_time_between()
    warm()
    with acting(settings) as identity, open_database(settings) as database:
        require_project(settings)  # a wrong key or password, or no answer, fails now and not in a log an hour later
        fetch_counts(database)
        say(f"A run starts after {settings.watch_changes:,} changes, or {settings.watch_minutes:g} minutes after one")
        asyncio.run(_until_signal(Watch(settings, database, identity, say=say)))


async def _until_signal(watching: Watch) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            loop.add_signal_handler(number, watching.stop)
    await watching.run()


def main(arguments: Sequence[str] | None = None) -> int:
    """0 ended cleanly or well, 1 failed or unwell, 2 settings that cannot be used, 128 and a signal's number before."""
    options = parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr, level=logging.WARNING)
    logging.getLogger("flows").setLevel(logging.INFO)
    with interruptible() as signals:
        try:
            return _done(options)
        except PipelineError as error:
            show_failure(error)
            return USAGE if isinstance(error, SettingsError) else EXIT["failed"]
        except KeyboardInterrupt as stop:
            ended, code = stopped(stop, signals)
            show_failure(ended)
            return code
        except Exception as error:  # noqa: BLE001 - a defect of ours: a sentence, and no value of a row
            show_failure(unexpected("The watch", error, "watch"))
            return EXIT["failed"]


def _done(options: argparse.Namespace) -> int:
    if options.health:
        return health()
    settings = load_settings()
    if options.serve:
        with prefect_answering():
            watch.serve(name="watch", limit=1)
    else:
        watch_changes(settings, say=_say)
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"· {text}\n")


if __name__ == "__main__":
    sys.exit(main())
