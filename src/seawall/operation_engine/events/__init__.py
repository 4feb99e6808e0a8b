# SPDX-License-Identifier: Apache-2.0
"""What fires besides time: signed webhooks, messages of a broker, and the ends of other operations."""
