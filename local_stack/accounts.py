"""As whom PostgreSQL runs. It refuses root, so under root it runs as an account that may do nothing else."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_stack.errors import StackError

ACCOUNT = "nightly-postgres"
# Accounts that systems have anyway, for where none can be made.
_FALLBACKS = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """An unprivileged account; `prefix` and `popen` make a subprocess run as it."""

    name: str
    uid: int
    gid: int
    prefix: tuple[str, ...] = ()

    @property
    def popen(self) -> dict[str, Any]:
        """Arguments for `subprocess`; empty when the prefix changes the account."""
        return {} if self.prefix else {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Give the path to the account."""
        os.chown(path, self.uid, self.gid)

    def reaching(self, *paths: Path) -> Account:
        """The account, able to pass through the parents of `paths`: below /root that takes a capability."""
        if all(_may_pass(self, parent) for path in paths for parent in path.resolve().parents):
            return self
        setpriv = shutil.which("setpriv")
        capability = _passing_capability()
        if not setpriv or not capability:
            raise StackError(
                f"PostgreSQL runs as {self.name} under root, and that account cannot reach {paths[0]}.",
                remedy="Move the project, or the folder given with --home, to where others may pass (chmod o+x), "
                "or run as another user than root.",
            )
        caps = f"-all,+{capability}"
        # initdb looks for its programs by access(2), which overlooks another account's capabilities without that bit.
        prefix = (setpriv, f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups",
                  "--securebits=+no_setuid_fixup", f"--inh-caps={caps}", f"--ambient-caps={caps}", "--")  # fmt: skip
        return Account(self.name, self.uid, self.gid, prefix)


def unprivileged(cluster: Path) -> Account | None:
    """The account for a cluster: None (ourselves) unless we are root; the owner of an existing cluster."""
    if os.geteuid() != 0:
        return None
    if cluster.exists() and cluster.stat().st_uid != 0:
        entry: pwd.struct_passwd | None = pwd.getpwuid(cluster.stat().st_uid)
    else:
        entry = _existing(ACCOUNT) or _created() or next(filter(None, map(_existing, _FALLBACKS)), None)
    if entry is None:
        raise StackError("PostgreSQL refuses root, and there is no other account.", remedy="Run as another user.")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _existing(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _created() -> pwd.struct_passwd | None:
    useradd = shutil.which("useradd")
    if useradd:
        options = ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin"]
        subprocess.run([useradd, *options, ACCOUNT], check=False, capture_output=True)
    return _existing(ACCOUNT)


def _may_pass(account: Account, folder: Path) -> bool:
    try:
        facts = folder.stat()
    except FileNotFoundError:
        return True
    if facts.st_uid == account.uid:
        return bool(facts.st_mode & 0o100)
    if facts.st_gid == account.gid:
        return bool(facts.st_mode & 0o010)
    return bool(facts.st_mode & 0o001)


def _passing_capability() -> str | None:
    """The least of our own capabilities that passes through closed folders (Linux; capabilities(7))."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except FileNotFoundError:
        return None
    held = next((int(line.split()[1], 16) for line in lines if line.startswith("CapPrm:")), 0)
    return next((name for bit, name in ((2, "dac_read_search"), (1, "dac_override")) if held >> bit & 1), None)
