# SPDX-License-Identifier: Apache-2.0
"""The data folder: where everything of one installation lies, by name.

Light to import: the command line uses it to find the address and the token of the service.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from seawall.core.errors import ConfigurationError
from seawall.sdk.failpoints import failpoint


def default_data_dir() -> Path:
    """``SEAWALL_DATA_DIR``, else /var/lib/seawall for root, else the user's own data folder."""
    if chosen := os.environ.get("SEAWALL_DATA_DIR"):
        return Path(chosen).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/seawall")
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser().absolute() / "seawall"


@dataclass(frozen=True, slots=True)
class DataFolder:
    """The names inside; nothing is created by asking for one."""

    path: Path

    @property
    def configuration(self) -> Path:
        return self.path / "seawall.yaml"

    @property
    def database(self) -> Path:
        return self.path / "seawall.db"

    @property
    def install_key(self) -> Path:
        return self.path / "install-key"

    @property
    def admin_token(self) -> Path:
        return self.path / "admin-token"

    @property
    def api_url(self) -> Path:
        """One line: where the API of this data folder answers, project included."""
        return self.path / "api-url"

    @property
    def bank(self) -> Path:
        """The default provider's bank."""
        return self.path / "bank"

    @property
    def recovery_kit(self) -> Path:
        return self.path / "recovery-kit.txt"

    @property
    def operations(self) -> Path:
        """Drop-in operations (M11)."""
        return self.path / "operations"

    @property
    def providers(self) -> Path:
        return self.path / "providers.d"

    @property
    def projects(self) -> Path:
        """What each project may reach on this host (I11)."""
        return self.path / "projects.d"

    @property
    def scratch(self) -> Path:
        return self.path / "scratch"

    def lock(self, name: str) -> Path:
        """The lock file of a service or of the set-up."""
        return self.path / "locks" / f"{name}.lock"

    def create(self) -> None:
        """Make the folder for its owner alone (0700); may be called by several processes at once.

        One that exists is never opened or closed to others silently: when others can read or write it,
        ``ConfigurationError`` says how to mend it, for it holds keys.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in (self.operations, self.scratch, self.lock("any").parent):
                name.mkdir(mode=0o700, exist_ok=True)
            status = self.path.stat()
        except OSError as error:
            raise ConfigurationError.of(
                "data_dir", str(self.path), f"cannot be used: {error.strerror}"
            ) from error
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise ConfigurationError.of(
                "data_dir", str(self.path), f"must be closed to others: chmod 700 {self.path}"
            )
        if status.st_uid not in (os.geteuid(), 0):
            raise ConfigurationError.of("data_dir", str(self.path), "must belong to the user that runs this")


def write_private(path: Path, text: str) -> None:
    """Put a small file in place whole, readable by its owner alone (0600), durable on return.

    If the process dies here, a reader finds the former file or none; a leftover ``.new`` is overwritten by
    the next attempt.
    """
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
        file.flush()
        failpoint("folder.private_file.before_fsync")
        os.fsync(descriptor)
    failpoint("folder.private_file.before_rename")
    new.replace(path)
    failpoint("folder.private_file.after_rename")
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    failpoint("folder.private_file.after_fsync")
