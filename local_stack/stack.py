"""A stack as a whole: up, down, status, reset."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_stack import api, postgres, processes
from local_stack.home import Home
from local_stack.state import State, load, save_state

Say = Callable[[str], None]


def _silent(_: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Stack:
    """A stack that is up. Keys and URLs of the database are secrets; the repr leaves them out."""

    home: Path
    url: str
    key: str = field(repr=False)
    service_key: str = field(repr=False)
    db_url: str = field(repr=False)
    jwt_secret: str = field(repr=False)

    def env(self) -> dict[str, str]:
        """The settings that the pipeline needs to use this stack, by their names."""
        return {
            "SUPABASE_URL": self.url,
            "SUPABASE_KEY": self.key,
            "SUPABASE_SERVICE_KEY": self.service_key,
            "SUPABASE_DB_URL": self.db_url,
        }

    def kill_api(self) -> None:
        """SIGKILL to REST, Auth and Storage. `up` brings them back on the same port."""
        processes.kill(api.service(Home.at(self.home)))

    def kill_database(self) -> None:
        """SIGKILL to all of PostgreSQL. `up` brings it back on the same port, with what was committed."""
        processes.kill(postgres.service(Home.at(self.home)))

    def query(self, sql: str, variables: Mapping[str, str] | None = None) -> str:
        """Run SQL as the database's owner, with `:'name'` variables; rows as text, columns separated by `|`."""
        return postgres.query(self.db_url, sql, variables)

    def empty_bucket(self, bucket: str) -> None:
        """Forget every file of a bucket at once (Storage itself takes 6 s for a thousand)."""
        self.query("delete from storage.objects where bucket_id = :'bucket'", {"bucket": bucket})
        shutil.rmtree(Home.at(self.home).storage / bucket, ignore_errors=True)


@dataclass(frozen=True)
class Status:
    """What runs in a home."""

    database: bool
    api: bool

    @property
    def complete(self) -> bool:
        """Whether all of it runs and answers."""
        return self.database and self.api


def up(
    home: Path | str,
    *,
    empty: bool = False,
    api_port: int | None = None,
    db_port: int | None = None,
    max_rows: int | None = None,
    max_file_mib: int | None = None,
    jwt_expiry: int | None = None,
    access_token_hook: str | None = None,
    keep: bool = True,
    say: Say = _silent,
    note: Say | None = None,
) -> Stack:
    """Start the stack in the folder `home`, or find it running; it answers when this returns.

    Ports: None keeps the remembered ones (free ones at first), 0 picks new free ones. `max_rows` is the API's row cap
    (1000 at first), `max_file_mib` the largest file of Storage (50), `jwt_expiry` the life of Auth's tokens in seconds
    (3600), `access_token_hook` the function that changes their claims (none; "" for none again). `empty` leaves out
    the demo data. keep: it goes on when the last command that `uses` it has ended. say: called with each step, note
    (else say) with what was changed of a table that was there. Raises StackError with the reason and the way out.
    """
    place = Home.at(home)
    place.create(traversable=True)
    with place.locked(say):
        place.require_space()
        options: dict[str, int | str | None] = {
            "max_rows": max_rows,
            "max_file_mib": max_file_mib,
            "jwt_expiry": jwt_expiry,
            "access_token_hook": access_token_hook,
        }
        state = save_state(place, api_port=api_port, db_port=db_port, **options)
        api.install(say)
        if keep:
            place.kept.touch(mode=0o600)
        elif not processes.running(postgres.service(place)):
            place.kept.unlink(missing_ok=True)  # the machine was switched off meanwhile
        postgres.start(place, state, say)
        api.start(place, state, say)
        _prepare(state, empty=empty, say=say, note=note or say)
    return _describe(place, state)


def rekey(
    home: Path | str,
    *,
    secret_key: str | None = None,
    more_secret_keys: Sequence[str] | None = None,
    jwt_secret: str | None = None,
    signing_keys: Sequence[Mapping[str, str]] | None = None,
    say: Say = _silent,
) -> Stack:
    """Change the keys of a stack that runs, as a project's owner does in the dashboard; None leaves what is.

    more_secret_keys: others that are valid beside `secret_key`. jwt_secret: signs tokens, and the older `anon` and
    `service_role` keys. signing_keys: private JWKs (ES256); the first signs, all are trusted.
    """
    place = Home.at(home)
    with place.locked(say):
        given: dict[str, Any] = {"secret_key": secret_key, "jwt_secret": jwt_secret}
        given["more_secret_keys"] = None if more_secret_keys is None else list(more_secret_keys)
        given["signing_keys"] = None if signing_keys is None else [dict(key) for key in signing_keys]
        state = save_state(place, **given)
        api.start(place, state, say)
    return _describe(place, state)


def down(home: Path | str, *, say: Say = _silent) -> bool:
    """Stop the stack; its data stays. True when something ran."""
    place = Home.at(home)
    if not place.exists():
        return False
    with place.locked(say):
        return _stop(place)


@contextmanager
def uses(home: Path | str, *, say: Say = _silent) -> Iterator[None]:
    """While this lasts a command uses the stack; at the end the last one stops it, unless one was to keep it (`up`)."""
    place = Home.at(home)
    place.create(traversable=True)
    with place.used() as is_last:
        try:
            yield
        finally:
            if place.exists():
                _leave(place, is_last, say)


def _leave(place: Home, is_last: Callable[[], bool], say: Say) -> None:
    with place.locked(say):
        if not place.kept.exists() and is_last():
            _stop(place)
        else:
            say("The local stack goes on; `make down` stops it")


def status(home: Path | str) -> Status:
    """What of the stack runs and answers."""
    place = Home.at(home)
    state = load(place)
    if state is None:
        return Status(database=False, api=False)
    return Status(
        database=processes.running(postgres.service(place)) is not None and postgres.answers(state),
        api=processes.running(api.service(place)) is not None and api.answers(state),
    )


def find(home: Path | str) -> Stack | None:
    """The stack of a home as it was last up, running or not; None when there never was one."""
    place = Home.at(home)
    state = load(place)
    return _describe(place, state) if state else None


def reset(home: Path | str, *, empty: bool = False, say: Say = _silent) -> Stack:
    """Throw all data away and start from scratch, on the same ports with the same keys."""
    place = Home.at(home)
    place.create(traversable=True)
    with place.locked(say):
        _stop(place)
        for folder in (place.cluster, place.storage):
            shutil.rmtree(folder, ignore_errors=True)
    return up(home, empty=empty, say=say)


def _stop(place: Home) -> bool:
    stopped = [api.stop(place), postgres.stop(place)]  # the API first: it would only log errors about its database
    place.kept.unlink(missing_ok=True)
    return any(stopped)


def _prepare(state: State, *, empty: bool, say: Say, note: Say) -> None:
    """The source tables, the migrations and the demo data: each only where it is missing."""
    # Imported here: `down` and `status` need neither the contracts nor the generator.
    from deploy.migrations import create_source_tables, migrate
    from tasks.contracts import USERS
    from tasks.platform.quoting import identifier

    url = state.url(postgres.OWNER, state.owner_password)
    create_source_tables(url, say=say, note=note)
    applied = migrate(url, say=say)
    if applied:
        say(f"Applied {len(applied)} migrations")
        api.reload_schema(state)
    table = identifier(USERS.source_schema, USERS.source)
    if not empty and not postgres.query(url, f"select 1 from {table} limit 1"):  # noqa: S608 - our own contract
        _load_demo(url, say)


def _load_demo(url: str, say: Say) -> None:
    from data.demo import load, unfit

    if reason := unfit():
        say(f"{reason} The tables stay empty")
        return
    said = [-1]  # the last tenth that was reported

    def progress(done: int, total: int | None) -> None:
        tenth = 10 * done // (total or 1)
        if tenth > said[0]:
            said[0] = tenth
            say(f"Loading the demo data: {done:,} of {total or done:,} rows")

    load(url, progress=progress)


def _describe(place: Home, state: State) -> Stack:
    return Stack(
        home=place.path,
        url=f"http://127.0.0.1:{state.api_port}",
        key=state.publishable_key,
        service_key=state.secret_key,
        db_url=state.url(postgres.OWNER, state.owner_password),
        jwt_secret=state.jwt_secret,
    )
