# SPDX-License-Identifier: Apache-2.0
"""The API as its callers see it: one connection, errors as they were raised in the service.

Used by the command line; it knows addresses, tokens and HTTP, and nothing of the service's inside.
"""

from seawall.client.address import Address, find_address
from seawall.client.connection import Connection

__all__ = ["Address", "Connection", "find_address"]
