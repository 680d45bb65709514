"""What a stack remembers: its ports, its keys, its passwords."""

from __future__ import annotations

import json
import random
import secrets
import socket
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from local_stack.errors import StackError
from local_stack.home import Home

# Below the range from which systems take the ports of outgoing connections, so that none of those can be in the way.
_PORTS = range(20_000, 32_000)


def _secret() -> str:
    return secrets.token_hex(24)


@dataclass(frozen=True)
class State:
    """Ports and secrets of one stack, made once and kept in `stack.json`."""

    api_port: int
    db_port: int
    max_rows: int = 1000
    max_file_mib: int = 50
    jwt_expiry: int = 3600
    access_token_hook: str = ""
    jwt_secret: str = field(default_factory=_secret, repr=False)
    publishable_key: str = field(default_factory=lambda: f"sb_publishable_{_secret()}", repr=False)
    more_secret_keys: list[str] = field(default_factory=list, repr=False)
    signing_keys: list[dict[str, str]] = field(default_factory=list, repr=False)
    secret_key: str = field(default_factory=lambda: f"sb_secret_{_secret()}", repr=False)
    admin_password: str = field(default_factory=_secret, repr=False)
    owner_password: str = field(default_factory=_secret, repr=False)
    lite_password: str = field(default_factory=_secret, repr=False)

    def url(self, role: str, password: str) -> str:
        """The database's URL for a role."""
        return f"postgresql://{role}:{password}@127.0.0.1:{self.db_port}/postgres"


def load(home: Home) -> State | None:
    """The state of an existing stack, or None. What a later release keeps there besides is left out."""
    try:
        kept = json.loads(home.state.read_text())
        return State(**{known.name: kept[known.name] for known in fields(State) if known.name in kept})
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise StackError(f"{home.state} belongs to another user.", remedy="Give another folder with --home.") from error
    except (ValueError, TypeError) as error:
        raise StackError(
            f"{home.state} is damaged.", remedy=f"Put it back, or remove {home.path} to start from scratch."
        ) from error


def save_state(home: Home, *, api_port: int | None = None, db_port: int | None = None, **options: Any) -> State:
    """The state with what was asked for, written down. A port of 0 asks for a new free one; None keeps what is.

    options: fields of State, by their names.
    """
    known = load(home)
    state = known or State(api_port=api_port or free_port(), db_port=db_port or free_port())
    state = replace(
        state,
        api_port=_asked(api_port, state.api_port),
        db_port=_asked(db_port, state.db_port),
        **{name: value for name, value in options.items() if value is not None},
    )
    _require_sound(state, known)
    if state != known:
        home.write_private(home.state, json.dumps(asdict(state), indent=2))
    return state


def _asked(port: int | None, now: int) -> int:
    if port is None:
        return now
    return port or free_port()


def _require_sound(state: State, known: State | None) -> None:
    """Refuse before anything is written down or stopped."""
    if state.api_port == state.db_port:
        raise StackError(f"Port {state.api_port} cannot serve both API and database.", remedy="Give two ports.")
    if state.api_port not in (known and known.api_port, known and known.db_port):
        require_free(state.api_port, "--api-port")
    if state.db_port not in (known and known.api_port, known and known.db_port):
        require_free(state.db_port, "--db-port")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    for port in random.sample(_PORTS, 200):
        if not taken(port):
            return port
    raise StackError("No free port was found.", remedy="Give one with --api-port and --db-port.")


def taken(port: int) -> bool:
    """Whether somebody holds the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def require_free(port: int, option: str) -> None:
    """Say so, with the way out, when a port that is to be opened is taken."""
    if taken(port):
        raise StackError(
            f"Port {port} is taken by another program.",
            remedy="End that program, or give the stack another port, which it keeps: "
            f"make up ARGS='{option} 0' (0 picks a free one). "
            "The copy of a clone whose stack runs needs ARGS='--api-port 0 --db-port 0'.",
        )
