"""`tidegate schema`: the JSON Schema of a stage file, made from the classes that read one.

Editors complete and check by it, where the first line of a file names it: `#:schema ./stage.schema.json`. It knows what
a single value may be, and not what `infra.validation` finds in two that do not go together.
"""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.value import Rule, off

_LINK = re.compile(r"\[([^]]+)\]\([^)]+\)")


def main(arguments: list[str]) -> int:
    """Print it; return the exit status."""
    argparse.ArgumentParser(
        prog="tidegate schema", description="The JSON Schema of a stage file, for editors."
    ).parse_args(arguments)
    print(text(), end="")  # noqa: T201 - the command line's own output
    return 0


def text() -> str:
    """The schema as it is kept in `infra/stages/stage.schema.json`."""
    return json.dumps(stage_schema(), indent=2, ensure_ascii=False) + "\n"


def stage_schema() -> dict[str, Any]:
    """Of the file; the stage's name, which a file does not have inside, is not in it."""
    schema = TypeAdapter(Stage).json_schema(schema_generator=_OfToml)
    del schema["properties"]["name"]
    schema["required"].remove("name")
    _tell_plainly(schema)
    # The newest that the tools of TOML know; nothing of a later one is in it.
    return {"$schema": "http://json-schema.org/draft-07/schema#"} | schema


def _tell_plainly(schema: Any) -> None:
    """Descriptions are written for a page of the documentation: what an editor shows has no place for its links."""
    if isinstance(schema, dict):
        if isinstance(schema.get("description"), str):
            schema["description"] = _LINK.sub(r"\1", " ".join(schema["description"].split()))
        for inner in schema.values():
            _tell_plainly(inner)
    elif isinstance(schema, list):
        for inner in schema:
            _tell_plainly(inner)


class _OfToml(GenerateJsonSchema):
    """TOML has no null, and our rules know how a schema says them."""

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        return _ruled(super().function_before_schema(schema), schema["function"]["function"])

    def function_after_schema(self, schema: core_schema.AfterValidatorFunctionSchema) -> JsonSchemaValue:
        return _ruled(super().function_after_schema(schema), schema["function"]["function"])

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        return {key: value for key, value in found.items() if key != "default" or value is not None}

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        # `discriminator` is a word of OpenAPI and not of JSON Schema.
        found = super().tagged_union_schema(schema)
        return {key: value for key, value in found.items() if key != "discriminator"}

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - the same for all
        return False


def _ruled(found: JsonSchemaValue, function: object) -> JsonSchemaValue:
    if function is off:
        return {"anyOf": [found, {"const": False}]}
    return found | dict(function.keywords) if isinstance(function, Rule) else found
