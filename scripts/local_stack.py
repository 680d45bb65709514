"""The local stack's command under its former name: `python -m local_stack` is the same."""

from __future__ import annotations

import sys

from local_stack.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
