"""The JavaScript that the site uses from npm: pinned by api/package-lock.json, installed and laid out for serving.

`python -m api.vendor` does it ahead of time; `make api` does it by itself. `--lay-out` only lays out what another
Node.js has installed in api/node_modules: the image is built so (Dockerfile).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
VENDOR = HERE / "static" / "vendor"
_PACKAGES = HERE / "node_modules"
# As served → as packed. vega-interpreter is a module; the others put themselves on the window.
FILES = {
    "vega.js": "vega/build/vega.min.js",
    "vega-lite.js": "vega-lite/build/vega-lite.min.js",
    "vega-interpreter.js": "vega-interpreter/build/vega-interpreter.js",
}
NOTE = ".laid-out"
LICENSES = ("vega", "vega-lite", "vega-interpreter")


def install(say: Callable[[str], None]) -> None:
    """Install what the lock names and copy what the browser gets; nothing when that is done already.

    What it is of is noted once all of it is there: a copy that was broken off is made again.
    """
    from local_stack import npm  # an image has no local stack

    what = "the site's JavaScript"
    npm.install(HERE, what, say, dev=True)
    wanted, noted = _version(), VENDOR / NOTE
    if not noted.exists() or noted.read_text() != wanted:
        npm.require_writable(VENDOR if VENDOR.exists() else VENDOR.parent, what)
        lay_out()
        noted.write_text(wanted)


def _version() -> str:
    """Of what is laid out: the lock that names it, and how it is done."""
    return hashlib.sha256((HERE / "package-lock.json").read_bytes() + Path(__file__).read_bytes()).hexdigest()


def lay_out() -> None:
    """Copy what the browser gets from api/node_modules to api/static/vendor, with the licenses."""
    VENDOR.mkdir(parents=True, exist_ok=True)
    for name, packed in FILES.items():
        text = (_PACKAGES / packed).read_text(encoding="utf-8")
        # A browser knows no package names, and an import map would be an inline script; the window's vega has these.
        text = re.sub(r"import (\{[^}]*\}) from 'vega-util';", r"const \1 = globalThis.vega;", text)
        _write(VENDOR / name, _without_map(text))
    for package in LICENSES:
        _write(VENDOR / f"{package}.LICENSE", (_PACKAGES / package / "LICENSE").read_text(encoding="utf-8"))


def _write(path: Path, text: str) -> None:
    """Under its name only when it is whole: a site may be serving it."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _without_map(text: str) -> str:
    """Without the note of a source map, which is not served."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("//# sourceMappingURL=")) + "\n"


def main() -> None:
    """Install and lay out, or lay out only."""
    parser = argparse.ArgumentParser(
        prog="python -m api.vendor", description="The site's JavaScript, pinned, from npm."
    )
    parser.add_argument("--lay-out", action="store_true", help="only copy what api/node_modules holds already")
    if parser.parse_args().lay_out:
        lay_out()
    else:
        install(lambda text: print(f"· {text}", file=sys.stderr))


if __name__ == "__main__":
    main()
