# SPDX-License-Identifier: Apache-2.0
"""The operations that Seawall brings: each module is a plugin, found by scanning this folder (M11).

A plugin imports ``sdk`` and ``core`` only; nobody imports a plugin. To add one, put a file here, or into a
configured plugin folder, with a class that has ``operation_type``, ``definition_schema`` and ``run``.
Two more are looked at when it has them: ``schedulable = False`` keeps it out of scheduled operations, and
``check_definition(definition)`` may refuse, with an ``InvalidInputError``, what the schema cannot say.
"""
