# SPDX-License-Identifier: Apache-2.0
"""A bank in a bucket of S3, or of anything that speaks its protocol.

An object is stored by one request, or by a multipart upload when it is large: either is whole or not there.
What arrives is compared by the server with a digest that is part of the signature. If the process dies in a
multipart upload its parts stay hidden in the bucket; a lifecycle rule of the bucket removes them.

The keys stand in a file of the operator's, closed to others, in the form that S3's own tools use::

    [default]
    aws_access_key_id = ...
    aws_secret_access_key = ...

It is read when the bank is first used, and again when the server refuses the keys: they can be exchanged
while everything runs. Nothing is tried again here: that is what the layer above is for.
"""

from __future__ import annotations

import configparser
import os
import re
import secrets
import ssl
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

import httpx
import obstore
from obstore import exceptions
from obstore.store import S3Store

from seawall.core.errors import (
    BankDeniedError,
    BankError,
    BankFullError,
    BankObjectMissingError,
    BankReadOnlyError,
    ConfigurationError,
    ConflictError,
    InvalidInputError,
)
from seawall.protection.banks._s3_signing import signed_address
from seawall.sdk.bank import BankFeatures, Chunks, ObjectInfo, ObjectLock, ResticAddress, check_key, joined
from seawall.sdk.failpoints import failpoint

# Larger objects go up in parts of 16 MiB; packs are of about that size and go in one.
_MULTIPART_FROM: Final = 64 * 1024 * 1024
_PART_BYTES: Final = 16 * 1024 * 1024
_PARTS_AT_ONCE: Final = 4
_PAGE: Final = 1000
_CONNECT_S: Final = 10
_MOST_KEY_FILE_BYTES: Final = 65_536
_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
# Why there was no answer; the library's own first line says only that there was none.
_CAUSE: Final = re.compile(
    r"InvalidCertificate\(\s*(?P<certificate>\w+)|Connection refused|Connection reset|Network is unreachable"
    r"|failed to lookup address|operation timed out"
)
_SIGNED_AT: Final = re.compile(r"X-Amz-Date=(\w+)")
_FULL: Final = frozenset({"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "EntityTooLarge"})
# A 4xx that may pass: request timeout, conflict with another request, slow down.
_MAY_PASS: Final = frozenset({408, 409, 425, 429})


@dataclass(frozen=True, slots=True, repr=False)
class _Keys:
    access_key_id: str
    secret_access_key: str
    token: str | None


class S3Bank:
    """Objects of a bucket, below ``prefix``."""

    bank_name: ClassVar[str] = "s3"
    options_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "endpoint": {"type": "string", "pattern": "^https?://[^/?#]+/?$"},
            "bucket": {"type": "string", "pattern": "^[a-zA-Z0-9][a-zA-Z0-9._-]{1,62}$"},
            "prefix": {"type": "string", "minLength": 1, "maxLength": 512},
            "region": {"type": "string", "minLength": 1},
            "key_file": {"type": "string", "minLength": 1},
            "key_profile": {"type": "string", "minLength": 1},
            "path_style": {"type": "boolean"},
            "allow_http": {"type": "boolean"},
            "ca_file": {"type": "string", "minLength": 1},
            "conditional_create": {"type": "boolean"},
            "timeout_s": {"type": "integer", "minimum": 1, "maximum": 3600},
        },
        "required": ["bucket", "key_file"],
        "additionalProperties": False,
    }

    def __init__(
        self,
        *,
        bucket: str,
        key_file: str,
        key_profile: str = "default",
        endpoint: str | None = None,
        prefix: str = "",
        region: str = "us-east-1",
        path_style: bool | None = None,
        allow_http: bool = False,
        ca_file: str | None = None,
        conditional_create: bool = True,
        timeout_s: int = 300,
    ) -> None:
        """Touches neither the store nor a file.

        ``path_style`` is on by default with an endpoint. ``timeout_s`` bounds one request: a pack of 16 MiB
        must get through in it.
        """
        if endpoint is not None and urlsplit(endpoint).scheme == "http" and not allow_http:
            raise InvalidInputError.of(
                "endpoint", endpoint, "is not encrypted; allow_http: true permits that"
            )
        for name, path in (("key_file", key_file), ("ca_file", ca_file)):
            if path is not None and not os.path.isabs(path):
                raise InvalidInputError.of(name, path, "must be absolute")
        self._prefix = f"{check_key(prefix)}/" if prefix else ""
        self._bucket = bucket
        self._key_file = Path(key_file)
        self._profile = key_profile
        self._region = region
        self._endpoint = endpoint.rstrip("/") if endpoint else f"https://s3.{region}.amazonaws.com"
        self._is_path_style = endpoint is not None if path_style is None else path_style
        self._ca_file = ca_file
        self._allow_http = allow_http
        self._timeout = timedelta(seconds=timeout_s)
        self._features = BankFeatures(conditional_create=conditional_create, object_lock="unknown")
        self._lock = threading.Lock()
        self._keys: _Keys | None = None
        self._store: S3Store | None = None
        self._is_closed = False

    @property
    def features(self) -> BankFeatures:
        return self._features

    def probe(self) -> BankFeatures:
        """Ask the store itself: is a second create of a key refused, and does the bucket keep objects locked?

        Writes one small object and deletes it; a kill between leaves it there.
        """
        key = f"seawall-probe-{secrets.token_hex(8)}"
        with self._translated(key):
            self._put(key, b"1", is_create=True)
        try:
            with self._translated(key):
                self._put(key, b"2", is_create=True)
            honours = False
        except ConflictError:
            honours = True
        finally:
            self.delete(key)
        self._features = replace(
            self._features, conditional_create=honours, object_lock=self._asked_object_lock()
        )
        return self._features

    def restic_address(self, prefix: str) -> ResticAddress:
        lookup = "path" if self._is_path_style else "dns"
        options = ["-o", f"s3.bucket-lookup={lookup}", "-o", f"s3.region={self._region}"]
        if self._ca_file is not None:
            options += ["--cacert", self._ca_file]
        where = f"{self._endpoint}/{self._bucket}/{self._prefix}{prefix}".rstrip("/")
        keys = {"AWS_SHARED_CREDENTIALS_FILE": str(self._key_file), "AWS_PROFILE": self._profile}
        return ResticAddress(f"s3:{where}", tuple(options), keys)

    def put(self, key: str, content: bytes | Chunks, *, create_only: bool = False) -> None:
        check_key(key)
        whole = joined(content)
        if create_only and not self._features.conditional_create and self.exists(key):
            raise ConflictError(f"{key} exists already in the bucket {self._bucket}")
        with self._translated(key, writes=True):
            failpoint("bank.bucket.before_put")
            self._put(key, whole, is_create=create_only and self._features.conditional_create)
            failpoint("bank.bucket.after_put")

    def _put(self, key: str, whole: bytes, *, is_create: bool) -> None:
        obstore.put(
            self._opened(),
            self._prefix + key,
            whole,
            mode="create" if is_create else "overwrite",
            # A multipart upload cannot be refused because the key exists.
            use_multipart=len(whole) >= _MULTIPART_FROM and not is_create,
            chunk_size=_PART_BYTES,
            max_concurrency=_PARTS_AT_ONCE,
        )

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        if length == 0:
            self.size(key)
            return b""
        where = self._prefix + check_key(key)
        with self._translated(key):
            try:
                if length is not None:
                    found = obstore.get_range(self._opened(), where, start=offset, length=length)
                    return found.to_bytes()
                if offset:
                    asked = obstore.get(self._opened(), where, options={"range": {"offset": offset}})
                else:
                    asked = obstore.get(self._opened(), where)
                return asked.bytes().to_bytes()
            except exceptions.GenericError as error:
                if _status(error) == 416:  # it begins at or past the end
                    return b""
                raise

    def size(self, key: str) -> int:
        where = self._prefix + check_key(key)
        with self._translated(key):
            return obstore.head(self._opened(), where)["size"]

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except BankObjectMissingError:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        folder, _, _ = prefix.rpartition("/")
        if folder:
            check_key(folder)
        wanted = self._prefix + prefix
        last = ""
        with self._translated(prefix):
            place = (self._prefix + folder).rstrip("/") or None
            for page in obstore.list(self._opened(), place, chunk_size=_PAGE):
                for one in page:
                    path = one["path"]
                    if path <= last:
                        raise BankDeniedError(f"the bucket {self._bucket} does not list its objects in order")
                    last = path
                    if path.startswith(wanted):
                        yield ObjectInfo(path.removeprefix(self._prefix), one["size"])
                    elif path > wanted:
                        return

    def delete(self, key: str) -> None:
        where = self._prefix + check_key(key)
        try:
            with self._translated(key, writes=True):
                failpoint("bank.bucket.before_delete")
                obstore.delete(self._opened(), where)
                failpoint("bank.bucket.after_delete")
        except BankObjectMissingError:
            return  # some servers say so

    def close(self) -> None:
        with self._lock:
            self._store = self._keys = None
            self._is_closed = True

    # --- the connection ---------------------------------------------------------------------------

    def _opened(self) -> S3Store:
        with self._lock:
            if self._is_closed:
                raise BankError(f"the bank in the bucket {self._bucket} was closed")
            if self._store is None:
                self._keys = self._keys or self._read_keys()
                self._store = self._connect(self._keys)
            return self._store

    def _connect(self, keys: _Keys) -> S3Store:
        config: dict[str, Any] = {
            "access_key_id": keys.access_key_id,
            "secret_access_key": keys.secret_access_key,
            "endpoint": self._address() if not self._is_path_style else self._endpoint,
            "region": self._region,
            "virtual_hosted_style_request": not self._is_path_style,
            "disable_bulk_delete": True,  # not every server has it
        }
        if keys.token is not None:
            config["session_token"] = keys.token
        client: dict[str, Any] = {
            "allow_http": self._allow_http,
            "connect_timeout": timedelta(seconds=_CONNECT_S),
            "timeout": self._timeout,
            "user_agent": "seawall",
        }
        if self._ca_file is not None:
            try:
                client["root_certificate"] = Path(self._ca_file).read_bytes()
            except OSError as error:
                raise ConfigurationError.of(
                    "bank.ca_file", self._ca_file, f"cannot be read: {error.strerror}"
                ) from error
        try:
            return S3Store(
                self._bucket,
                config=config,  # type: ignore[arg-type]  # its keys are those of S3Config
                client_options=client,  # type: ignore[arg-type]  # its keys are those of ClientConfig
                retry_config={"max_retries": 0},
            )
        except exceptions.BaseError as error:
            raise ConfigurationError.of("bank", self._bucket, f"cannot be used: {_short(error)}") from error

    def _address(self) -> str:
        """The address of the bucket."""
        if self._is_path_style:
            return f"{self._endpoint}/{self._bucket}"
        scheme, _, host = self._endpoint.partition("://")
        return f"{scheme}://{self._bucket}.{host}"

    def _read_keys(self) -> _Keys:
        """What stands in the key file now; it is checked on the descriptor that is read (I10)."""
        try:
            descriptor = os.open(self._key_file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self._bad_keys(f"cannot be read: {error.strerror}") from error
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise self._bad_keys("must be a regular file")
            if status.st_uid not in (0, os.geteuid()):
                raise self._bad_keys("must belong to root or to the user that runs this")
            if stat.S_IMODE(status.st_mode) & 0o077:
                raise self._bad_keys("must be closed to others: chmod 600")
            content = file.read(_MOST_KEY_FILE_BYTES)
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(content.decode())
            found = parser[self._profile]
            return _Keys(
                found["aws_access_key_id"], found["aws_secret_access_key"], found.get("aws_session_token")
            )
        except (configparser.Error, UnicodeDecodeError):
            # Without the cause: its text holds lines of the file.
            raise self._bad_keys("is no file of `name = value` lines in sections") from None
        except KeyError as error:
            raise self._bad_keys(f"has no {error.args[0]} in the section [{self._profile}]") from None

    def _bad_keys(self, rule: str) -> InvalidInputError:
        return ConfigurationError.of("bank.key_file", str(self._key_file), rule)

    def _refused_keys(self) -> bool:
        """Whether the key file holds other keys than those that were refused; then they are used next."""
        with self._lock:
            fresh = self._read_keys()
            if fresh == self._keys or self._is_closed:
                return False
            self._keys, self._store = fresh, None
            return True

    def _asked_object_lock(self) -> ObjectLock:
        """What the bucket says of its object lock; ``unknown`` when it does not answer that question."""
        signed = obstore.sign(self._opened(), "GET", "probe", timedelta(minutes=1))
        found = _SIGNED_AT.search(signed)
        keys = self._keys
        if found is None or keys is None:
            return "unknown"
        address = signed_address(
            "GET",
            self._address(),
            query={"object-lock": ""},
            region=self._region,
            access_key_id=keys.access_key_id,
            secret_access_key=keys.secret_access_key,
            token=keys.token,
            at=found.group(1),
        )
        try:
            trust = True if self._ca_file is None else ssl.create_default_context(cafile=self._ca_file)
            answer = httpx.get(address, verify=trust, timeout=_CONNECT_S)
        except (httpx.HTTPError, OSError):
            raise BankError(f"the bucket {self._bucket} did not answer whether it has object lock") from None
        if answer.status_code == 200:
            return "on" if "<ObjectLockEnabled>Enabled<" in answer.text else "off"
        return "off" if "ObjectLockConfigurationNotFoundError" in answer.text else "unknown"

    # --- errors -----------------------------------------------------------------------------------

    @contextmanager
    def _translated(self, key: str, *, writes: bool = False) -> Iterator[None]:
        """Errors of the library as those of the bank; their text may hold much, so little of it is shown."""
        where = f"{self._endpoint}, bucket {self._bucket}"
        try:
            yield
        except (FileNotFoundError, exceptions.NotFoundError) as error:
            if _code(error) == "NoSuchBucket":
                raise self._error(error, where, writes=writes) from None
            raise BankObjectMissingError(f"there is no object {key} in the bank: {where}") from None
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            raise ConflictError(f"{key} exists already in the bank: {where}") from None
        except (exceptions.BaseError, OSError) as error:
            raise self._error(error, where, writes=writes) from None

    def _error(self, error: Exception, where: str, *, writes: bool) -> BankError:
        status, code = _status(error), _code(error)
        words = f"{where}: {_short(error)}"
        if code == "NoSuchBucket":
            return BankDeniedError(f"there is no bucket {self._bucket} at {self._endpoint}")
        if code in _FULL or status == 507:
            return BankFullError(f"no space is left on the bank: {words}")
        if status in (401, 403):
            if self._refused_keys():
                return BankError(f"the bank refused the keys; their file holds others by now: {words}")
            if code == "AccessDenied" and writes:
                return BankReadOnlyError(f"the bank refuses this: {words}")
            return BankDeniedError(f"the bank refuses this: {words}")
        if status is not None and 400 <= status < 500 and status not in _MAY_PASS:
            return BankDeniedError(f"the bank refuses this: {words}")
        if "its certificate is not accepted" in words:
            return BankDeniedError(f"the server is not trusted: {words}", hint="see ca_file in its file")
        return BankError(f"the bank failed: {words}")


def _status(error: Exception) -> int | None:
    found = _STATUS.search(str(error))
    return int(found.group(1)) if found else None


def _code(error: Exception) -> str:
    found = _CODE.search(str(error))
    return found.group(1) if found else ""


def _short(error: Exception) -> str:
    """Status and code, why there was no answer, or the first line without what the server wrote."""
    status, code = _status(error), _code(error)
    if status is not None:
        return f"{status} {code}".strip()
    if found := _CAUSE.search(str(error)):
        certificate = found.group("certificate")
        return f"its certificate is not accepted: {certificate}" if certificate else found.group(0)
    return str(error).partition("\n")[0].partition("<?xml")[0][:300]
