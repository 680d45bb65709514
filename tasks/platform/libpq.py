"""What the PostgreSQL driver gets beside an address; imported before anything connects.

Its library takes PG… variables, as other programs have them, for what an address leaves out, and some before the
address: with PGHOSTADDR our password went to another server, and PGSERVICE or PGOPTIONS ended a run. Those that are a
secret or ask for more security (PGPASSWORD, PGPASSFILE, PGSSLMODE, PGSSLROOTCERT …) hold.
"""

from __future__ import annotations

import os
from urllib.parse import quote, urlsplit, urlunsplit

_OF_OTHERS = (
    *("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE", "PGOPTIONS"),
    *("PGTARGETSESSIONATTRS", "PGLOADBALANCEHOSTS", "PGCLIENTENCODING", "PGDATESTYLE", "PGTZ", "PGGEQO"),
)
# On this machine there is nobody to hide from, and the local stack has no TLS. What a tunnel leads to may have it.
_HERE = ("127.0.0.1", "localhost", "::1")
_AS_THE_SERVER_HAS_IT = {"sslmode": "prefer", "channel_binding": "prefer"}


def leave_out_variables() -> None:
    """Take those that lead elsewhere out of this process, and of those that it starts."""
    for name in _OF_OTHERS:
        os.environ.pop(name, None)


def address(url: str, **wanted: str) -> str:
    """The URL with these parameters where it says nothing of them. What it says stays as it is written.

    libpq decodes %20, and takes a plus sign for itself.
    """
    parts = urlsplit(url)
    said = {item.partition("=")[0] for item in parts.query.split("&")}
    wanted = {**(_AS_THE_SERVER_HAS_IT if parts.hostname in _HERE else {}), **wanted}
    ours = [f"{name}={quote(value)}" for name, value in wanted.items() if name not in said]
    return urlunsplit(parts._replace(query="&".join(filter(None, [parts.query, *ours]))))


leave_out_variables()
