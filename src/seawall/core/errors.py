# SPDX-License-Identifier: Apache-2.0
"""The error tree: every error a user can meet, with what each surface shows for it.

Three families:

* the caller can mend it (``status`` 4xx): bad input, missing, in use, not allowed;
* the world is unavailable (``retryable``): bank, database, broker, host;
* our own bug: anything that is not a ``SeawallError``; never caught except at the top.

A class carries its stable ``code``, HTTP ``status``, process ``exit_code`` and a ``hint``. Bad input
carries ``fields``: one ``FieldFault`` for each thing wrong, so that API, CLI and log say the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldFault:
    """One thing wrong with one input: where it is, what it was and the rule it breaks."""

    field: str
    value: object
    rule: str

    def __str__(self) -> str:
        if self.value is None and self.rule.startswith("is missing"):
            return f"{self.field} {self.rule}"
        shown = "(hidden)" if _is_secret(self.field, self.value) else repr(self.value)
        if len(shown) > 120:
            shown = shown[:117] + "..."
        return f"{self.field}: {shown} {self.rule}"


_SECRET_NAME = re.compile(r"auth|passw|secret|token|credential|private_key|recovery_key", re.IGNORECASE)
_SECRET_PAIR = re.compile(rf"({_SECRET_NAME.pattern})\w*['\"]?\s*[=:]", re.IGNORECASE)


def _is_secret(field: str, value: object) -> bool:
    """Whether a field, or something in its value, is called like a secret (I10)."""
    return bool(_SECRET_NAME.search(field)) or bool(_SECRET_PAIR.search(str(value)))


class SeawallError(Exception):
    """Root of every error that Seawall raises on purpose."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False
    hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.shown_hint = self.hint if hint is None else hint

    def __str__(self) -> str:
        return self.message


# --- the caller can mend it ------------------------------------------------------------------


class InvalidInputError(SeawallError):
    """The input breaks a rule; ``fields`` names each field, its value and the rule."""

    code = "invalid_input"
    status = 400
    exit_code = 2

    def __init__(self, fields: Sequence[FieldFault], *, hint: str | None = None) -> None:
        self.fields = tuple(fields)
        super().__init__("; ".join(str(fault) for fault in self.fields), hint=hint)

    @classmethod
    def of(cls, field: str, value: object, rule: str) -> InvalidInputError:
        """The common case: one field is wrong."""
        return cls([FieldFault(field, value, rule)])


class ConfigurationError(InvalidInputError):
    """A configuration file or variable is wrong; the process does not start."""

    code = "configuration"
    exit_code = 2


class UnauthenticatedError(SeawallError):
    """No token, or one that is unknown or expired."""

    code = "unauthenticated"
    status = 401
    exit_code = 4
    hint = "pass a valid token in X-Auth-Token; the CLI reads the admin token of its data folder"


class ForbiddenError(SeawallError):
    """The caller is known but may not do this."""

    code = "forbidden"
    status = 403
    exit_code = 4


class NotFoundError(SeawallError):
    """There is no such thing, or not in this project."""

    code = "not_found"
    status = 404
    exit_code = 3


class ConflictError(SeawallError):
    """The thing is in a state, or in use, so that this cannot be done now."""

    code = "conflict"
    status = 409
    exit_code = 5


class InUseError(ConflictError):
    """Others still refer to it (Karbor answers 424 here, and so do we)."""

    code = "in_use"
    status = 424


class AlreadyRunningError(ConflictError):
    """A second service of this kind on the same data folder."""

    code = "already_running"
    exit_code = 6
    hint = "stop the other one first, or give this one its own data folder"


class AddressInUseError(ConflictError):
    """The port is taken."""

    code = "address_in_use"
    exit_code = 6
    hint = "choose another port: --port, SEAWALL_PORT or `port:` in the configuration file"


class StateError(ConflictError):
    """A move that its state machine does not allow."""

    code = "invalid_state"


# --- the world is unavailable ------------------------------------------------------------------


class UnavailableError(SeawallError):
    """Something outside Seawall does not answer; trying again may help."""

    code = "unavailable"
    status = 503
    exit_code = 7
    retryable = True


class BankError(UnavailableError):
    """The bank does not do what it was asked for a reason that may pass."""

    code = "bank_unavailable"


class BankFullError(BankError):
    """No space is left on the bank."""

    code = "bank_full"
    hint = "free space on the bank or shorten the retention, then run again"


class BankReadOnlyError(BankError):
    """The bank refuses writes."""

    code = "bank_read_only"
    retryable = False


class BankDeniedError(BankError):
    """The bank refuses what it is asked, and will again: wrong keys, no such bucket, a wrong request."""

    code = "bank_denied"
    hint = "see the provider's file, and the keys and the bucket that it names"
    retryable = False


class BankObjectMissingError(BankError):
    """The bank has no object of this name."""

    code = "bank_object_missing"
    retryable = False


class DatabaseUnavailableError(UnavailableError):
    """The database does not answer."""

    code = "database_unavailable"


class BrokerUnavailableError(UnavailableError):
    """The message broker does not answer, or refuses what it is asked."""

    code = "broker_unavailable"


class ServiceUnreachableError(UnavailableError):
    """The API does not answer."""

    code = "service_unreachable"
    hint = "is it running? `seawall serve` starts it; --url or SEAWALL_URL says where it is"


class HostUnavailableError(UnavailableError):
    """The host that the work is bound to did not come back in time."""

    code = "host_unavailable"


# --- what is stored is wrong ------------------------------------------------------------------


class DamagedError(SeawallError):
    """Stored bytes are not what was written: truncated, flipped or missing."""

    code = "damaged"
    exit_code = 8
    hint = "`seawall repository check --read-data` shows which files are touched"


class WrongKeyError(SeawallError):
    """No key slot of the repository opens with this password."""

    code = "wrong_key"
    status = 400
    exit_code = 9


# --- work that did not end well ------------------------------------------------------------------


class RunError(SeawallError):
    """A run ended without doing what it was asked."""

    code = "run_failed"
    exit_code = 10


class SourceError(RunError):
    """A source could not be read whole: missing, unreadable, vanished, short, failed producer (I8)."""

    code = "source_failed"


class CancelledError(RunError):
    """The run was cancelled."""

    code = "cancelled"
    exit_code = 11


class TimedOutError(RunError):
    """The run took longer than its timeout."""

    code = "timed_out"


class LeaseLostError(RunError):
    """Another process has taken this work over; this one must stop without recording anything."""

    code = "lease_lost"


class MoverDiedError(RunError):
    """The mover process ended in the middle of its work."""

    code = "mover_died"
    retryable = True


class PluginError(SeawallError):
    """A plugin is broken, a duplicate, or lies in a folder that others can write."""

    code = "plugin"
