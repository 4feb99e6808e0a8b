# SPDX-License-Identifier: Apache-2.0
"""Movers: the processes in which bytes move.

``frames`` is how they are spoken to, ``main`` and ``work`` are the process, ``pool`` keeps them. This side
never imports ``work``, and the process imports nothing but what it needs.
"""
