"""Configuration from the environment and `.env` (the environment wins), with secrets masked.

`SUPABASE_*` name the project, `ETL_*` everything else; `.env.example` explains each.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, NonNegativeInt, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from tasks.settings.environment import ENCODING, FILE
from tasks.settings.fields import (
    Database,
    Email,
    Exchange,
    Key,
    Place,
    Project,
    Scheduler,
    Transport,
    TransportChoice,
    named,
    without_ends,
)
from tasks.settings.schedule import ScheduleSettings
from tasks.settings.site import SiteSettings
from tasks.settings.watch import WatchSettings

SCHEDULED_WAIT = 3600
PASSWORDS = {"password", "alert_smtp_password", "supabase_jwt_secret"}
EMPTY_MEANS = {"db_role"}  # something else than its default
MAX_DAYS = 36_500
DAY, WEEK = 86_400, 7 * 86_400  # longest times in seconds: PostgreSQL counts milliseconds, in 32 bits


class Settings(WatchSettings, SiteSettings, ScheduleSettings):
    """Every setting of a run. Sizes are bytes, times seconds, unless a name says otherwise."""

    model_config = SettingsConfigDict(
        env_file=FILE,
        env_file_encoding=ENCODING,
        env_prefix="ETL_",
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    supabase_url: Project = Field(default="", validation_alias=named("SUPABASE_URL"))
    supabase_service_key: Key = Field(default=SecretStr(""), validation_alias=named("SUPABASE_SERVICE_KEY"))
    supabase_key: Key = Field(default=SecretStr(""), validation_alias=named("SUPABASE_KEY"))
    supabase_db_url: Database = Field(default=SecretStr(""), validation_alias=named("SUPABASE_DB_URL"))

    # Without the service key: the pipeline's own user, or a token with the role etl
    email: Email = Field(default="", repr=False, description="The user to sign in as; its role is etl.")
    password: SecretStr = SecretStr("")
    access_token: Key = Field(default=SecretStr(""), description="A token with the role etl, minted by hand.")

    transport: TransportChoice = "auto"
    db_role: str = Field(
        default="etl",
        pattern=r"^[^\x00]{0,63}$",
        description="Role taken after connecting; empty keeps the login role.",
    )
    data_dir: Place = Path("data/local")
    bucket: str = Field(default="reports", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")

    # Reading
    ranges: int = Field(default=4, ge=1, le=32, description="Key ranges read at once.")
    page_rows: int = Field(default=5_000, ge=1, le=100_000, description="Rows asked for in one REST page.")
    batch_rows: int = Field(default=50_000, ge=1, le=1_000_000)
    batch_bytes: int = Field(default=64 * 2**20, ge=2**16)
    statement_timeout: int = Field(default=600, ge=1, le=WEEK, description="Seconds, on Postgres connections.")
    trusted_functions: str = Field(default="", description="Functions that source views may call, as schema.name.")
    count_timeout: float = Field(default=20, gt=0, le=WEEK)

    # Where the work is done
    workers: int = Field(default=0, ge=0, le=256, description="Local worker processes; 0 uses this process alone.")
    shared_dir: Exchange = Field(
        default="", description="A URL of fsspec that all workers reach; empty: they share data_dir."
    )
    dask_address: Scheduler = Field(default="", description="A Dask scheduler, like tcp://10.0.0.5:8786.")

    # Network
    connect_timeout: float = Field(default=10, gt=0, le=WEEK)
    read_timeout: float = Field(default=60, gt=0, le=WEEK)
    retries: int = Field(default=6, ge=0, le=20, description="Retries of one request.")
    retry_seconds: float = Field(default=300, gt=0, le=WEEK, description="All retries of one request together.")
    retry_base: float = Field(
        default=0.5, gt=0, le=WEEK, description="First pause; it doubles, with jitter, up to 30 s."
    )

    run_retries: int = Field(default=2, ge=0, le=10, description="New starts of a run that a new start can fix.")
    run_retry_seconds: float = Field(default=60, ge=0, le=WEEK)

    # Writing
    write_rows: int = Field(default=2_000, ge=1, le=50_000, description="Rows in one RPC.")
    write_bytes: int = Field(default=4 * 2**20, ge=2**14)
    writers: int = Field(default=4, ge=1, le=16, description="Write requests in flight.")
    max_refused_share: float = Field(default=0.01, ge=0, le=1)
    lease_seconds: int = Field(default=120, ge=2, le=DAY)
    wait_for_lease: NonNegativeInt | None = Field(
        default=None,
        le=WEEK,
        description="Seconds to wait for another run; without it a scheduled run waits an hour, any other not at all.",
    )
    clock_scale: float = Field(
        default=1,
        gt=0,
        le=10,
        description="Multiplies pauses between tries and the lease; for tests.",
    )
    resume_within: int = Field(
        default=DAY // 2, ge=0, le=WEEK, description="Seconds in which a dead run may be resumed."
    )

    # Incremental nights
    full_refresh_days: int = Field(
        default=7, ge=0, le=MAX_DAYS, description="Days after which a night reads everything; 0 always."
    )
    max_changed_share: float = Field(default=0.1, ge=0, le=1, description="Changed rows above it: a full read is due.")
    keep_base: bool = Field(default=True, description="Keep the files that the next night starts from on this disk.")

    # Guard
    max_drop_share: float = Field(default=0.2, ge=0, le=1, description="Users or posts down by more hold the run.")
    max_delete_share: float = Field(default=0.1, ge=0, le=1, description="Deletes above it hold the run.")
    max_rule_points: float = Field(default=10, ge=0, le=100, description="A rule's share up by more points holds it.")
    drift_floor_rows: int = Field(default=100, ge=0, description="So few rows hold no run, except where all are gone.")

    # Publishing
    signed_link_seconds: int = Field(default=WEEK, ge=60, le=WEEK)
    part_rows: int = Field(default=500_000, ge=1, le=500_000)
    row_group_rows: int = Field(default=100_000, ge=1, le=1_000_000)
    keep_days: int = Field(default=30, ge=1, le=MAX_DAYS)

    # Reading reports
    cache_dir: Path = Field(
        default=Path("~/.cache/supabase-nightly"), description="Where `tasks.read` keeps what it downloaded."
    )

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, values: dict[str, object]) -> dict[str, object]:
        """An empty value is one that is not set."""
        return {name: value for name, value in values.items() if name in EMPTY_MEANS or without_ends(value) != ""}

    @field_validator("*", mode="before")
    @classmethod
    def _stripped(cls, value: object, info: ValidationInfo) -> object:
        """All but passwords, of which a space may be a part; a line's end is never."""
        if info.field_name in PASSWORDS:
            return value.rstrip("\r\n") if isinstance(value, str) else value
        return without_ends(value)

    @cached_property
    def resolved_transport(self) -> Transport:
        """`auto` takes Postgres when its URL is set."""
        if self.transport != "auto":
            return self.transport
        return "postgres" if self.supabase_db_url.get_secret_value() else "rest"

    def scaled(self) -> Settings:
        """The same with every waiting time multiplied by `clock_scale`."""
        scale = self.clock_scale
        times = {name: getattr(self, name) * scale for name in ("retry_base", "retry_seconds", "run_retry_seconds")}
        lease = max(2, round(self.lease_seconds * scale))
        return self if scale == 1 else self.model_copy(update={**times, "lease_seconds": lease})

    def lease_wait(self, *, scheduled: bool) -> int:
        """Seconds to wait for another run: nobody sits before a scheduled run, so it waits."""
        if self.wait_for_lease is not None:
            return self.wait_for_lease
        return SCHEDULED_WAIT if scheduled else 0

    @property
    def project(self) -> str:
        """Host of the project, for messages: never a key or a password."""
        return urlsplit(self.supabase_url).netloc.rpartition("@")[2]
