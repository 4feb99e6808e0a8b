# SPDX-License-Identifier: Apache-2.0
"""Wake-ups between the threads of one process."""

from __future__ import annotations

import threading

from seawall.runtime.wakeup import Wakeup


def test_a_notification_wakes_all_that_subscribed() -> None:
    wakeup = Wakeup()
    one, two = wakeup.subscribe(), wakeup.subscribe(threading.Event())
    wakeup.notify()

    assert one.is_set()
    assert two.is_set()
    assert wakeup.event.is_set()


def test_who_unsubscribed_is_woken_no_more() -> None:
    wakeup = Wakeup()
    one = wakeup.subscribe()
    assert wakeup.subscribe(one) is one
    wakeup.unsubscribe(one)
    wakeup.unsubscribe(threading.Event())
    wakeup.notify()

    assert not one.is_set()


def test_a_notification_before_the_wait_is_not_lost() -> None:
    wakeup = Wakeup()
    event = wakeup.subscribe()
    wakeup.notify()

    assert event.wait(0)
