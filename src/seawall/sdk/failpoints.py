# SPDX-License-Identifier: Apache-2.0
"""Named places where a crash test may end the process.

``failpoint("runs.outcome.before_commit")`` does nothing unless the environment of the process arms
that name: ``SEAWALL_FAILPOINTS="name=action[@n],..."`` with an action of

* ``kill``: SIGKILL this process at the n-th arrival (default the first);
* ``killgroup``: SIGKILL its whole process group (service and movers, as a power cut would);
* ``stop``: SIGSTOP this process (a zombie that may be continued later);
* ``raise``: raise ``FailpointError`` once.

Names are ``<part>.<what>.<before|after>_<act>``; the list is found by ``tests/architecture``, and each is
killed at by ``tests/crash``. The check of an unarmed process is one dictionary test.
"""

from __future__ import annotations

import os
import signal
import threading


class FailpointError(Exception):
    """Raised by an armed ``raise`` failpoint; never in production."""


def _parse(text: str) -> dict[str, tuple[str, int]]:
    armed: dict[str, tuple[str, int]] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, action = part.partition("=")
        action, _, count = action.partition("@")
        armed[name] = (action or "kill", int(count or "1"))
    return armed


_armed = _parse(os.environ.get("SEAWALL_FAILPOINTS", ""))
_lock = threading.Lock()


def arm(text: str) -> None:
    """Replace what is armed in this process (tests; a child reads its environment)."""
    with _lock:
        _armed.clear()
        _armed.update(_parse(text))


def failpoint(name: str) -> None:
    """Die, stop or raise here if the environment says so; otherwise return at once."""
    if name not in _armed:
        return
    with _lock:
        if name not in _armed:
            return
        action, left = _armed[name]
        if left > 1:
            _armed[name] = (action, left - 1)
            return
        del _armed[name]
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "killgroup":
        os.killpg(os.getpgid(0), signal.SIGKILL)
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif action == "raise":
        raise FailpointError(name)
    else:
        raise ValueError(f"failpoint {name}: unknown action {action!r}")
