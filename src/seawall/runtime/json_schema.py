# SPDX-License-Identifier: Apache-2.0
"""What a JSON schema (2020-12) has against a value: for each fault its field, what stood there, the rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError

from seawall.core.errors import FieldFault, PluginError


def faults(schema: Mapping[str, Any], value: Any, field: str) -> list[FieldFault]:
    """All of them, in the order of their fields; ``field`` is the name of the value itself.

    ``PluginError`` when the schema is none.
    """
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise PluginError(f"the schema of {field} is not a JSON schema: {error.message}") from error
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    found = sorted(validator.iter_errors(value), key=lambda one: list(map(str, one.absolute_path)))
    return [fault for error in found for fault in _of(error, field)]


def _of(error: ValidationError, field: str) -> list[FieldFault]:
    path = ".".join(filter(None, (field, *map(str, error.absolute_path))))
    instance: Any = error.instance
    wanted: Any = error.validator_value
    if error.validator == "required":
        missing = [name for name in wanted if name not in instance]
        return [FieldFault(_below(path, name), None, "is needed") for name in missing]
    if error.validator == "additionalProperties" and isinstance(error.schema, Mapping):
        known = error.schema.get("properties", {})
        words = ", ".join(sorted(known)) or "none"
        return [
            FieldFault(_below(path, str(name)), given, f"is not known; known are {words}")
            for name, given in instance.items()
            if name not in known
        ]
    return [FieldFault(path, instance, _rule(str(error.validator), wanted, error.message))]


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _rule(validator: str, wanted: Any, message: str) -> str:
    simple = {
        "format": f"must be a {wanted}",
        "pattern": f"must match {wanted}",
        "minimum": f"must be at least {wanted}",
        "maximum": f"must be at most {wanted}",
        "minLength": f"must have at least {wanted} characters",
        "maxLength": f"must have at most {wanted} characters",
        "minItems": f"must have at least {wanted} entries",
        "maxItems": f"must have at most {wanted} entries",
        "uniqueItems": "must not name the same twice",
    }
    if validator == "type":
        return "must be " + (wanted if isinstance(wanted, str) else " or ".join(wanted))
    if validator == "enum":
        return "must be one of " + ", ".join(map(str, wanted))
    return simple.get(validator, f"breaks the rule {validator}: {message}")
