# SPDX-License-Identifier: Apache-2.0
"""Request and response bodies, one file for each collection: the source of the OpenAPI document.

Requests refuse what they do not know, naming it. Responses keep Karbor's keys and spellings; new keys are
added beside them.
"""
