# SPDX-License-Identifier: Apache-2.0
"""Figures as JSON lines: ``name, value, unit, goal, ok``; with a peer also ``peer, peer_value, ratio``.

Each module measures one part on this machine, medians of several rounds, peers in the same run.
``ok: false`` is an honest answer.
"""
