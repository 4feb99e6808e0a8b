# SPDX-License-Identifier: Apache-2.0
"""``make demo``: Seawall does its whole job, unattended, on real files and a real database.

``run.py`` tells the story, ``evidence.py`` compares what came back with what was there, ``ledger.py`` keeps a
database busy. It drives the installed ``seawall`` command and its API, nothing inside.
"""
