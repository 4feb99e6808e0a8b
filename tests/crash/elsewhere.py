# SPDX-License-Identifier: Apache-2.0
"""Failpoints that a round of ordinary work does not pass, each with the test that kills at it."""

from __future__ import annotations

_EVENTS = "tests/events/test_kills.py"
_FIRST_START = "tests/crash/test_first_start.py"
_OTHER = "tests/crash/test_other_places.py"
_KILL = "tests/repository/test_kill.py"
_PRUNE = "tests/repository/test_prune_crash.py"
_SCALE = "tests/scale/test_two_hosts.py"

# A prune deletes packs a day after it has taken them out of the index; nobody calls a repair or changes key
# slots but by hand; the others are passed once in the life of an installation.
ELSEWHERE: dict[str, str] = {
    "bank.bucket.before_put": _OTHER,
    "bank.bucket.after_put": _OTHER,
    "bank.bucket.before_delete": _OTHER,
    "bank.bucket.after_delete": _OTHER,
    "movers.restic.before_rename": _OTHER,
    "movers.restic.after_rename": _OTHER,
    "repositories.adopt.before_commit": _OTHER,
    "repositories.adopt.after_commit": _OTHER,
    "repository.unlock.before_delete": _OTHER,
    "repository.unlock.after_delete": _OTHER,
    "allowlist.default.before_rename": _FIRST_START,
    "allowlist.default.after_rename": _FIRST_START,
    "install.project.before_commit": _FIRST_START,
    "install.project.after_commit": _FIRST_START,
    "install.token.before_commit": _FIRST_START,
    "install.token.after_commit": _FIRST_START,
    "kit.acknowledge.before_commit": _FIRST_START,
    "kit.acknowledge.after_commit": _FIRST_START,
    "migrations.upgrade.before_commit": _FIRST_START,
    "migrations.upgrade.after_commit": _FIRST_START,
    "outbox.switch.before_commit": _OTHER,
    "outbox.switch.after_commit": _OTHER,
    "outbox.confirmed.before_commit": _EVENTS,
    "outbox.confirmed.after_commit": _EVENTS,
    "outbox.lease.before_commit": _EVENTS,
    "outbox.lease.after_commit": _EVENTS,
    "broker.batch.before_publish": _EVENTS,
    "broker.batch.after_publish": _EVENTS,
    "broker.messages.before_ack": _EVENTS,
    "broker.messages.after_ack": _EVENTS,
    "broker.messages.before_reject": _EVENTS,
    "broker.messages.after_reject": _EVENTS,
    "events.messages.before_commit": _EVENTS,
    "events.messages.after_commit": _EVENTS,
    "recover.rows.before_commit": _FIRST_START,
    "recover.rows.after_commit": _FIRST_START,
    "repositories.ensure.before_commit": _FIRST_START,
    "repositories.ensure.after_commit": _FIRST_START,
    "doorbells.hear.before_claim": _SCALE,
    "doorbells.ring.after_publish": _SCALE,
    "doorbells.ring.before_publish": _SCALE,
    "repository.key.before_delete": _KILL,
    "repository.key.after_delete": _KILL,
    "repository.pack.before_delete": _PRUNE,
    "repository.pack.after_delete": _PRUNE,
    "repository.pending.before_delete": _PRUNE,
    "repository.pending.after_delete": _PRUNE,
    "repository.repack.before_put": _PRUNE,
    "repository.repack.after_put": _PRUNE,
    "repository.repair.before_put": _KILL,
    "repository.repair.after_put": _KILL,
}
