# SPDX-License-Identifier: Apache-2.0
"""The REST API v1: parse, authorise, call a service, present. Karbor's shapes, with more keys.

Built by wiring with ``build_app``; called by HTTP clients only. Guarantees I10 (no secret in an answer or a
fault) and I11 (a caller reaches its own project only). Reaches services through the protocols of ``ports``;
must not know the database, plugins or banks.
"""
