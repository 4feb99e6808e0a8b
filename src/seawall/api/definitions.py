# SPDX-License-Identifier: Apache-2.0
"""Operation definitions as clients write them: objects, or Karbor's text ``key=value,key=value``.

Karbor's clients send every value as text. Where the schema wants a number or a yes/no, such text is turned
into one, so that the schema judges what was meant; what cannot be turned stays as it is and is refused there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seawall.core.errors import InvalidInputError


def definition_of(given: Mapping[str, Any] | str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The definition as the schema's types."""
    values = _parsed(given) if isinstance(given, str) else dict(given)
    properties = schema.get("properties", {})
    return {name: _as_type(value, properties.get(name, {})) for name, value in values.items()}


def _parsed(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for piece in text.split(","):
        name, equals, value = piece.strip().partition("=")
        if not equals or not name:
            raise InvalidInputError.of(
                "operation_definition", text, "must be an object, or key=value,key=value"
            )
        found[name] = value
    return found


def _as_type(value: Any, schema: Mapping[str, Any]) -> Any:
    if not isinstance(value, str):
        return value
    kinds = schema.get("type", ())
    kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    if "string" in kinds:
        return value
    word = value.strip()
    if "integer" in kinds or "number" in kinds:
        try:
            return int(word)
        except ValueError:
            pass
    if "number" in kinds:
        try:
            return float(word)
        except ValueError:
            pass
    if "boolean" in kinds and word.lower() in ("true", "false"):
        return word.lower() == "true"
    return value
