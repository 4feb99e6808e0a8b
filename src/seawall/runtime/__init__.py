# SPDX-License-Identifier: Apache-2.0
"""How a process lives: clock, configuration, lifecycle, plugin registry, logging, secrets.

Called by every service and by ``wiring``. Guarantees M1 (one lifecycle), M11 (plugins isolated) and I10
(secrets sealed at rest). Knows nothing of plans, runs or SQL: it reaches the ``services`` table through the
``ServiceRows`` port bound in ``wiring``.
"""
