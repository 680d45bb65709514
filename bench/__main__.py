"""`make bench`: side-by-side measurements, one process each, printed as ratios beside the goals.

make bench                    all of them but scale, incremental, api and watch, which take long
make bench scale              one of them
make bench incremental ARGS="--transport postgres --shape recent --rows 500000"
python -m bench reading writing --rows 100000

Each bench compares in one run on one machine; on a shared machine only the ratios mean something.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

BENCHES = ("cleaning", "reading", "writing", "publishing", "overhead")
BY_NAME = ("scale", "incremental", "api", "watch")


def main() -> int:
    """Run the benches asked for, one after the other; non-zero when one of them could not be measured."""
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", default=list(BENCHES), metavar="bench", help=f"of {', '.join(BENCHES + BY_NAME)}"
    )
    parser.add_argument("--rows", type=int, help="posts to measure on (each bench has its own default)")
    options, own = parser.parse_known_args()
    if unknown := [name for name in options.names if name not in BENCHES + BY_NAME]:
        parser.error(f"there is no bench {', '.join(unknown)}; there are {', '.join(BENCHES + BY_NAME)}")
    if own and len(options.names) > 1:
        parser.error(f"{' '.join(own)}: options of a bench's own go with its name alone")
    failed = [name for name in options.names if _run(name, options.rows, own)]
    if failed:
        sys.stderr.write(f"Not measured: {', '.join(failed)}\n")
    return 1 if failed else 0


def _run(name: str, rows: int | None, own: list[str]) -> int:
    sys.stdout.write(f"\n== {name} ==\n")
    sys.stdout.flush()
    size = ["--rows", str(rows)] if rows else []
    return subprocess.run([sys.executable, "-m", f"bench.{name}", *size, *own], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
