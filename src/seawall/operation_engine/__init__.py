# SPDX-License-Identifier: Apache-2.0
"""The operation engine: what is due becomes runs, runs are carried out, what has expired is cleaned up.

* ``claim`` makes rows of what is due; ``service`` drives it (M3) by a ``trigger_loop.TriggerLoop`` (M5).
* ``dispatcher`` lets the runs that are queued be carried out, in every process that hosts protection.
* ``cleanup`` deletes what has expired (M6).
* ``schedules`` is what users see and change (M7); ``operations`` and ``executors`` are plugins (M9, M11).
"""
