"""The JavaScript that the site uses from npm: pinned by api/package-lock.json, installed and laid out for serving.

`python -m api.vendor` does it ahead of time; `make api` does it by itself. `--lay-out` only lays out what another
Node.js has installed in api/node_modules: the image is built so (Dockerfile).
"""

from __future__ import annotations

import argparse
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
LICENSES = ("vega", "vega-lite", "vega-interpreter")


def install(say: Callable[[str], None]) -> None:
    """Install what the lock names and copy what the browser gets; nothing when that is done already."""
    from local_stack import npm  # an image has no local stack

    changed = npm.install(HERE, "the site's JavaScript", say, dev=True)
    if changed or not all((VENDOR / name).exists() for name in FILES):
        lay_out()


def lay_out() -> None:
    """Copy what the browser gets from api/node_modules to api/static/vendor, with the licenses."""
    VENDOR.mkdir(parents=True, exist_ok=True)
    for name, packed in FILES.items():
        text = (_PACKAGES / packed).read_text()
        # A browser knows no package names, and an import map would be an inline script; the window's vega has these.
        text = re.sub(r"import (\{[^}]*\}) from 'vega-util';", r"const \1 = globalThis.vega;", text)
        (VENDOR / name).write_text(_without_map(text))
    for package in LICENSES:
        (VENDOR / f"{package}.LICENSE").write_text((_PACKAGES / package / "LICENSE").read_text())


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
