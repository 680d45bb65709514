"""What to do about an answer that is an error, by HTTP status and code: for the terminal and for the run's page.

Sources: PostgREST's error reference, Supabase's status codes (402, 540, 544), Cloudflare's 52x, PostgreSQL's SQLSTATEs.
"""

from __future__ import annotations

import re

from tasks.platform.storage_rights import sees_bucket

KEY = (
    "SUPABASE_SERVICE_KEY must be the current secret key (sb_secret_… or service_role) of the project in SUPABASE_URL: "
    "Project settings → API keys."
)
RIGHTS = "`make doctor` says what each key and role may do; `make migrate` grants what runs need."
STORAGE_GRANTS = (
    "Somebody took rights on Storage's tables from service_role. In the SQL editor: grant usage on schema storage to "
    "service_role; grant all on storage.buckets, storage.objects to service_role;"
)
ADDRESS = "SUPABASE_URL must be the project's own address, https://<ref>.supabase.co, without a path."
OUTAGE = (
    "Look at the project's state in the dashboard and at status.supabase.com, then start this again. On the local "
    "stack: `make up`."
)
VALUE = (
    "A value does not fit, or cannot be computed: look at the view where the source is one, at generated columns, and "
    "at the constraints and triggers of the table."
)
DEFAULT_BUCKET = "reports"
_STATES = {
    402: ("the project is restricted: a quota or a payment is due", "See Usage and Billing in the dashboard."),
    540: ("the project is paused", "Restore the project in the dashboard, then start this again."),
    544: ("the database did not answer in time", OUTAGE),
}
# In this order: the first that fits the code, else the first that fits the status.
_BY_CODE = (
    (r"57014", "A statement took too long. Over REST: alter role service_role set statement_timeout = '60s' (of "
               "the role etl, where runs go without the secret key), then "
               "notify pgrst, 'reload config'. Over Postgres: raise ETL_STATEMENT_TIMEOUT."),
    (r"PGRST30\d", KEY),
    (r"28\w{3}", "Look at the user and the password in SUPABASE_DB_URL: Project settings → Database."),
    (r"42501", RIGHTS),
    (r"PGRST202|42883", "Run `make migrate`: the database lacks functions that runs call. Or a trigger of your own on "
                        "a cleaned table calls one that is gone."),
    (r"PGRST205|42P01", "Name the source of the table in tasks/contracts/; for tables of ours run `make migrate`. Or a "
                        "trigger of your own on a cleaned table uses one that is gone."),
    (r"55P03", "Another session holds a lock, longer than the lock_timeout of the role that connects (over REST "
               "authenticator): wait until it ends its transaction, or end it (pg_locks, pg_stat_activity)."),
    (r"55000", "Where it is about a replica identity: a publication covers the pipeline's tables, and somebody took "
               "theirs away. `alter table … replica identity default` gives it back."),
    (r"42703|PGRST204", "Compare the columns in tasks/contracts/ with the table; for tables of ours `make migrate`."),
    (r"PGRST106", "Add public, where our functions are, and the schema of the source to the exposed schemas: "
                  "Project settings → Data API."),
    (r"53\w{3}", "The database is out of connections, memory or disk: see Reports in the dashboard. Fewer connections "
                 "at once: ETL_RANGES, ETL_WRITERS."),
    (r"25006|DatabaseReadOnly", "The database is read-only: its disk is full (see its usage in the dashboard), it is a "
                                "replica, or default_transaction_read_only is set."),
    (r"40\w{3}", "Other sessions changed the same rows at the same time; start the run again."),
    (r"2[12]\w{3}", VALUE),
    (r"P0001|09000|23\w{3}|44000", "Look at the constraints and triggers of the table."),
    (r"57P0\d|08\w{3}|PGRST00[0-3]", OUTAGE),
    (r"XX\w{3}|58\w{3}", "The database failed inside: see Logs → Postgres in the dashboard, and run `make doctor`."),
)  # fmt: skip
_OTHERWISE = "Run `make doctor`; if it finds nothing, report this message with the run's id."
_BY_STATUS = (
    ({401}, KEY),
    ({403}, f"`make doctor` says what each key and role may do. {KEY}"),
    ({404, 405, 410}, ADDRESS),
    ({413}, "Send less at once: ETL_WRITE_BYTES, ETL_PART_ROWS; for files see the limit in Storage → Settings."),
    ({414, 431}, "Ask for fewer rows at once: lower ETL_PAGE_ROWS."),
    ({408, 429}, "The project is asked too much at once: lower ETL_RANGES and ETL_WRITERS, or run at a quieter hour."),
    ({507}, "There is no room for files: see Usage and Billing in the dashboard; on a server of your own, its disk."),
    (set(range(500, 600)), OUTAGE),
)


def no_bucket(name: str, *, as_etl: bool = False) -> str:
    """What to do where the bucket of this name, which is set, is not there, or the role etl does not see it."""
    unseen = f" If it is there, the role etl does not see it. {sees_bucket(name)}" if as_etl else ""
    if name == DEFAULT_BUCKET:
        made = (
            f"Run `make migrate`, which makes the bucket `{name}`, or make it in the dashboard under Storage, private."
        )
        return made + unseen
    return (
        f"ETL_BUCKET names `{name}`: make a private bucket of that name under Storage, or take the setting away and "
        f"use `{DEFAULT_BUCKET}`, which `make migrate` makes.{unseen}"
    )


def words_for(status: int, message: str) -> str:
    """What the server said, or in our words what the status means, where it said it with a page or not at all."""
    if status in _STATES:
        return _STATES[status][0]
    return message or ("the gateway answered in the project's place" if status >= 520 else "no reason given")


def remedy_for(status: int, code: str | None) -> str:
    """What to do when that answer stays. Never empty."""
    if status in _STATES:
        return _STATES[status][1]
    for pattern, remedy in _BY_CODE:
        if re.fullmatch(pattern, code or ""):
            return remedy
    return next((remedy for statuses, remedy in _BY_STATUS if status in statuses), _OTHERWISE)
