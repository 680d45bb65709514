"""Functions, views and the trigger that somebody dropped or replaced: made again as the files have them."""

# ruff: noqa: S608 - names come from our own files, quoted

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from deploy.migrations.database import Run, exists, with_lock_retries
from deploy.migrations.files import Migration
from tasks.errors import WriteError
from tasks.platform.quoting import literal
from tasks.sink.schema import RELEASE

_NO_COLUMN = "42703"
_STATEMENT = re.compile(
    r'^create (?:or replace )?function "?public"?\."?(?P<made>\w+)"?\s*\(.*?(?P<quote>\$\w*\$).*?(?P=quote)[^;]*;'
    r"|^alter function public\.(?P<altered>\w+)\([^)]*\) set [^;]*;"
    r"|^drop function if exists public\.(?P<dropped>\w+)\(",
    re.MULTILINE | re.DOTALL,
)
_TRIGGER = re.compile(
    r"^(?:drop trigger if exists etl_move_base|create trigger etl_move_base|alter table public\.etl_runs enable always)"
    r" [^;]*;",
    re.MULTILINE,
)
_VIEW = re.compile(
    r"^create or replace view public\.(?P<plain>\w+) .*?;$"
    r"|^do \$\$(?:(?!^\$\$;).)*create view public\.(?P<closed>\w+) .*?^\$\$;$"
    r"|^comment on view public\.(?P<described>\w+) .*?;$",
    re.MULTILINE | re.DOTALL,
)

_DROPPED = re.compile(r"^drop function if exists (public\.\w+\([^;]*\));", re.MULTILINE)


def make_dropped_functions(run: Run, files: Sequence[Migration], *, say: Callable[[str], None]) -> None:
    """Make each function that the files leave behind and the database lacks; what was dropped with it is not made."""
    made = functions(files)
    wanted = ", ".join(f"({literal(name)})" for name in made)
    lacking = run(
        f"select w.name from (values {wanted}) w (name) where not exists (select from pg_proc p "
        "where p.pronamespace = 'public'::regnamespace and p.proname = w.name) order by 1"
    )
    if names := [str(name) for (name,) in lacking]:
        sql = "\n".join(made[name] + _rights(name) for name in names)
        run(f"begin; set local check_function_bodies = off;\n{sql}\ncommit;", "Making dropped functions again")
        say(f"made again what somebody had dropped: {', '.join(names)}")


def make_newer_functions(run: Run, files: Sequence[Migration], *, say: Callable[[str], None]) -> None:
    """Make each function as the files leave it where one is another: somebody ran files of an earlier release.

    By its release alone those of files from before the first one with a release would not be noticed. The list of our
    tables is that of the contracts, and of the tables that are there.
    """
    if str(run("select public.etl_release()")[0][0]) > RELEASE:
        return
    made = {name: sql for name, sql in functions(files).items() if name != "etl_tables"}
    found = run("select p.proname::text, p.prosrc from pg_proc p where p.pronamespace = 'public'::regnamespace")
    if all(f"${body}$" in made[name] for name, body in found if name in made):
        return
    gone = [f"drop function {signature};" for signature in _former(run, files, made)]
    again = [sql + _rights(name) for name, sql in made.items()]
    sql = "\n".join(["begin; set local check_function_bodies = off;", *gone, *again, "commit;"])
    with_lock_retries(run, sql, "Making the functions of this release again", say=say)
    say("made all functions again, as somebody had put those of an earlier release back")


def _former(run: Run, files: Sequence[Migration], made: Mapping[str, str]) -> list[str]:
    """Signatures that the files drop, where an earlier release has its function: beside ours, or in the way of it."""
    dropped = {signature for migration in files for signature in _DROPPED.findall(migration.sql)}
    listed = ", ".join(f"({literal(signature)})" for signature in sorted(dropped))
    found = run(f"select s.f, p.prosrc from (values {listed}) s (f) join pg_proc p on p.oid = to_regprocedure(s.f)")
    return [str(signature) for signature, body in found if not any(f"${body}$" in sql for sql in made.values())]


def make_dropped_views(run: Run, files: Sequence[Migration], *, say: Callable[[str], None]) -> None:
    """Make each view that the files leave behind and the database lacks.

    One whose table lacks a column waits until that is there again: `verify` names those of our tables.
    """
    for name, made in views(files).items():
        if exists(run, f"public.{name}"):
            continue
        try:
            run(f"begin;\n{made}\ncommit;", f"Making the view {name} again")
        except WriteError as error:
            if error.code != _NO_COLUMN:
                raise
            say(error.message)
        else:
            say(f"made again what somebody had dropped: {name}")


def make_dropped_trigger(run: Run, files: Sequence[Migration], *, say: Callable[[str], None]) -> None:
    """Make the trigger again that moves the base, where it is gone or disabled.

    The base is marked as mistrusted with it: runs may have committed meanwhile, and the next one reads everything.
    """
    if run("select (public.etl_own_tables() ->> 'base_moves')::boolean")[0][0]:
        return
    made = "\n".join(statement[0] for migration in files for statement in _TRIGGER.finditer(migration.sql))
    sql = f"begin;\n{made}\nupdate public.etl_base set dirty = true where true;\ncommit;"
    with_lock_retries(run, sql, "Making the trigger etl_move_base again", say=say)
    say("made the trigger etl_move_base again, which somebody had dropped or disabled: the next run reads everything")


def functions(files: Sequence[Migration]) -> dict[str, str]:
    """The SQL of each function as the last file that makes it has it, with what later files set of it."""
    found: dict[str, str] = {}
    for statement in (s for migration in files for s in _STATEMENT.finditer(migration.sql)):
        if name := statement["made"]:
            found[name] = statement[0]
        elif name := statement["altered"]:
            found[name] += f"\n{statement[0]}"
        else:
            found.pop(statement["dropped"], None)
    return found


def views(files: Sequence[Migration]) -> dict[str, str]:
    """The SQL of each view as the last file that makes it has it, with its comment."""
    found: dict[str, str] = {}
    for statement in (s for migration in files for s in _VIEW.finditer(migration.sql)):
        if name := statement["described"]:
            found[name] += f"\n{statement[0]}"
        else:
            found[statement["plain"] or statement["closed"]] = statement[0]
    return found


def _rights(name: str) -> str:
    """Nobody's but the owner's; those of the runs are given back with all others that were lost."""
    readers = "'authenticated', 'service_role'" if name.startswith("nightly_") else ""
    if name == "etl_access_token":
        readers = "'supabase_auth_admin'"
    return f"""
do $$
declare
  f regprocedure := 'public.{name}'::regproc::regprocedure;
  r name;
begin
  execute format('revoke all on function %s from public', f);
  for r in select rolname from pg_roles where rolname in ('anon', 'authenticated') loop
    execute format('revoke all on function %s from %I', f, r);
  end loop;
  for r in select rolname from pg_roles where rolname in ({readers or "null"}) loop
    execute format('grant execute on function %s to %I', f, r);
  end loop;
end
$$;"""
