# SPDX-License-Identifier: Apache-2.0
"""Configuration: one typed tree, read once at start and passed down.

Sources, the first wins: command line options, ``SEAWALL_*`` variables, one strict YAML file
(``seawall.yaml`` in the data folder, or ``--config`` / ``SEAWALL_CONFIG``), the defaults below. An unknown
key, variable or wrong value ends the start with ``ConfigurationError`` that names field, value and rule.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from seawall.core.errors import ConfigurationError, FieldFault
from seawall.runtime.amqp_url import AmqpUrl, management_parts
from seawall.runtime.database_url import HIDDEN, DatabaseUrl, read_password
from seawall.runtime.folder import DataFolder, default_data_dir

PREFIX = "SEAWALL_"
# Variables that are no settings of a service: the client's, the test harness's.
OTHER_VARIABLES = frozenset({"CONFIG", "URL", "TOKEN", "PROJECT_ID", "FAILPOINTS", "RECOVERY_KEY"})
_WORD = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$"


class Settings(BaseSettings):
    """What can be set. Names are those of the YAML file; in the environment they are ``SEAWALL_<NAME>``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True
    )

    data_dir: Path = Field(default_factory=default_data_dir)
    host: str = Field(default_factory=socket.gethostname, pattern=_WORD)
    """This machine's name in ``services``; runs that are bound to a host wait for this word."""

    database_password_file: Path | None = None
    """A file with the password of ``database_url`` on one line."""
    database_url: SecretStr | None = None
    """``postgresql://user@host:5432/name``; none is SQLite in the data folder."""

    listen: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8799, ge=0, le=65535)
    """0 takes any free port; the file ``api-url`` in the data folder says which."""

    executor: str = Field(default="thread_pool", min_length=1)
    workers: int = Field(default=8, ge=1, le=256)
    """How many runs at once in this process."""
    coroutines: int = Field(default=5000, ge=1, le=20_000)
    """How many ``async def run`` operations wait at once in this process, with the executor ``coroutine``."""
    celery_queue_prefix: str = Field(default="seawall.runs", pattern=_WORD, max_length=100)
    """The executor ``celery`` rings at the queue of this name, and at ``<prefix>.<host>`` for bound runs."""
    doorbell_expires_s: float = Field(default=10, ge=1, le=600)
    """After how long a doorbell that nobody heard is forgotten, and rung again if there is still work."""
    movers: int = Field(default=2, ge=1, le=64)
    """How many mover processes at once."""
    operation_folders: Annotated[list[Path], NoDecode] = Field(default_factory=list)
    """Drop-in folders of operations (M11) besides ``operations`` in the data folder; in the environment
    separated by colons."""

    min_interval_s: float = Field(default=60, gt=0)
    """Triggers that would fire more often than this are refused."""
    lease_s: float = Field(default=15, ge=1)
    heartbeat_s: float = Field(default=5, gt=0)
    poll_s: float = Field(default=1.0, gt=0)
    """The safety net: how often a loop looks although nothing woke it."""
    cleanup_interval_s: float = Field(default=60, gt=0)
    keep_runs_days: float = Field(default=90, gt=0)
    error_checkpoint_days: float = Field(default=7, gt=0)
    grace_s: float = Field(default=8, gt=0, le=600)
    """How long running work may go on after SIGTERM before it is handed back."""

    amqp_url: SecretStr | None = None
    """``amqp://user:password@host:5672/name`` or ``amqps://``: the RabbitMQ of events and of many hosts."""
    amqp_exchange: str = Field(default="seawall", pattern=_WORD)
    """The topic exchange that is told what happens; ``<name>.in`` is where events come from."""
    amqp_required: bool = False
    """Whether the API counts as ready only while the broker answers."""
    management_url: SecretStr | None = None
    """``http://user:password@host:15672`` of the broker's management plugin, for alarms and who consumes."""
    webhook_replay_s: float = Field(default=300, gt=0, le=86_400)
    """How far the clock of a webhook's sender may be off; a request older than this is refused."""

    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    log_format: str = Field(default="auto", pattern="^(auto|console|json)$")
    """``auto`` is console on a terminal and JSON lines elsewhere."""

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("database_password_file")
    @classmethod
    def _holds_a_password(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        path = value.expanduser().absolute()
        try:
            read_password(path)
        except ConfigurationError as error:
            raise ValueError(error.fields[0].rule) from None
        return path

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None:
            DatabaseUrl.parse(value.get_secret_value(), info.data.get("database_password_file"))
        return value

    @field_validator("amqp_url")
    @classmethod
    def _is_amqp(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            AmqpUrl.parse(value.get_secret_value())
        return value

    @field_validator("management_url")
    @classmethod
    def _is_http(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            management_parts(value.get_secret_value())
        return value

    @field_validator("operation_folders", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value

    @field_validator("operation_folders")
    @classmethod
    def _absolute_folders(cls, value: list[Path]) -> list[Path]:
        for folder in value:
            if not folder.is_absolute():
                raise ValueError(f"must be absolute paths, {str(folder)!r} is not")
        return value

    @field_validator("heartbeat_s")
    @classmethod
    def _before_the_lease_ends(cls, value: float, info: ValidationInfo) -> float:
        lease_s = info.data.get("lease_s")
        if lease_s is not None and value * 2 > lease_s:
            raise ValueError(f"must be at most half of lease_s ({lease_s}), or a slow beat loses leases")
        return value

    @property
    def folder(self) -> DataFolder:
        """The names inside the data folder."""
        return DataFolder(self.data_dir)

    @property
    def database(self) -> Path | DatabaseUrl:
        """Where the database is: a SQLite file, or PostgreSQL."""
        if self.database_url is None:
            return self.folder.database
        return DatabaseUrl.parse(self.database_url.get_secret_value(), self.database_password_file)

    @property
    def all_operation_folders(self) -> list[Path]:
        """Where drop-in operations are looked for."""
        return [self.folder.operations, *self.operation_folders]


def load_settings(*, config: Path | None = None, options: Mapping[str, object] | None = None) -> Settings:
    """Read everything once. ``options`` are those given on the command line; None values are not given."""
    given = {name: value for name, value in (options or {}).items() if value is not None}
    path, must_exist = _file(config, given)
    values = _read_yaml(path, must_exist=must_exist)
    _refuse_unknown_variables()

    class _Sources(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, values)

    try:
        return _Sources(**given)  # type: ignore[arg-type]  # the fields are checked by the model itself
    except ValidationError as error:
        raise ConfigurationError(
            [_fault(dict(one), given, path) for one in error.errors()],
            hint=f"settings come from options, {PREFIX}* variables and {path}",
        ) from error


def _file(config: Path | None, given: Mapping[str, object]) -> tuple[Path, bool]:
    chosen = config or (Path(found) if (found := os.environ.get(f"{PREFIX}CONFIG")) else None)
    if chosen is not None:
        return chosen.expanduser().absolute(), True
    data_dir = Path(str(given["data_dir"])) if "data_dir" in given else default_data_dir()
    return DataFolder(data_dir.expanduser().absolute()).configuration, False


def _read_yaml(path: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if must_exist:
            raise ConfigurationError.of("config", str(path), "must be a file that exists") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError.of("config", str(path), f"cannot be read: {error}") from error
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise ConfigurationError.of("config", str(path), f"must be valid YAML: {problem}{where}") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigurationError.of("config", str(path), "must hold `name: value` lines")
    return values


def _refuse_unknown_variables() -> None:
    known = {name.upper() for name in Settings.model_fields} | OTHER_VARIABLES
    faults = [
        FieldFault(name, "...", "is not a setting; a misspelt one would be silently without effect")
        for name in sorted(os.environ)
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in known
    ]
    if faults:
        raise ConfigurationError(faults, hint=f"settings: {', '.join(Settings.model_fields)}")


def _fault(error: Mapping[str, Any], given: Mapping[str, object], path: Path) -> FieldFault:
    field = str(error["loc"][0]) if error["loc"] else "configuration"
    if field in given:
        source = "an option"
    elif f"{PREFIX}{field.upper()}" in os.environ:
        source = f"{PREFIX}{field.upper()}"
    else:
        source = str(path)
    value = error.get("input")
    if error["type"] == "extra_forbidden":
        # What is misspelt may be a secret (I10).
        value = "..."
        rule = f"is not a setting; known are {', '.join(Settings.model_fields)}"
    else:
        rule = str(error["msg"]).removeprefix("Value error, ").replace("Input should", "must", 1)
        rule = rule if rule.startswith("must") else f"must be valid: {rule}"
    if field in ("database_url", "amqp_url", "management_url"):
        value = HIDDEN
    return FieldFault(field, value, f"{rule} (from {source})")
