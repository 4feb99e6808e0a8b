# SPDX-License-Identifier: Apache-2.0
"""The command line: ``seawall <noun> <verb>``.

It talks to the API like any other client. Only ``serve`` and its kind, ``recover``, ``repository``,
``recovery-kit`` and ``doctor`` work on a data folder themselves. One file for each noun; each has
``register(app)``. What a command needs is imported inside it, so that every command starts fast.
"""
