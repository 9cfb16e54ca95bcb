"""What every value of a stage file is built from: strict, frozen, and refused in half a sentence that names a way out.

`infra.stage_file` puts the file, the key and the value in front of that half sentence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError


class ConfigurationError(ValueError):
    """A stage that cannot be deployed; the text names the key, the value and the way out."""


class Value(BaseModel):
    """One table of a stage file. A key that it does not have is an error, and so is `"2"` for 2."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a single value must be; `why` follows `key=value is`, with the way out after a semicolon.

    `keywords` say as much of it as JSON Schema can, for editors.
    """

    holds: Callable[[Any], bool]
    why: str
    keywords: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __call__(self, value: object) -> object:
        """Refuse `value`, or hand it on as it is."""
        if not self.holds(value):
            raise PydanticCustomError("rule", "{why}", {"why": self.why})
        return value


def whole(low: int, high: int, why: str | None = None) -> BeforeValidator:
    """A whole number from `low` to `high`, both allowed."""

    def holds(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    range_ = {"minimum": low, "maximum": high}
    return BeforeValidator(Rule(holds, why or f"not a whole number from {low} to {high}", range_))


def number(low: float, high: float) -> BeforeValidator:
    """A number from `low` to `high`, both allowed."""

    def holds(value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high

    return BeforeValidator(Rule(holds, f"not a number from {low:.9g} to {high:.9g}", {"minimum": low, "maximum": high}))


def like(pattern: str, why: str) -> AfterValidator:
    """A text that is `pattern` from end to end; `\\d` is a digit from 0 to 9, and of no other script.

    For Python, and for some that read the schema, it would be any digit of Unicode.
    """
    pattern = pattern.replace(r"\d", "[0-9]")
    compiled = re.compile(pattern)
    return AfterValidator(
        Rule(lambda value: compiled.fullmatch(value) is not None, why, {"pattern": f"^(?:{pattern})$"})
    )


def some(most: int, what: str) -> AfterValidator:
    """A list of one to `most`."""
    why = f"not a list of 1 to {most} {what}"
    return AfterValidator(Rule(lambda items: 1 <= len(items) <= most, why, {"minItems": 1, "maxItems": most}))


def one_key(*keys: str, required: bool) -> Callable[[Any], str | None]:
    """Which of `keys` a table has, for a union whose members differ in that one key.

    None, if it has none of them or more than one; `""` where none of them is allowed.
    """

    def choose(value: Any) -> str | None:
        present = [key for key in keys if (key in value if isinstance(value, dict) else hasattr(value, key))]
        if not present and not required:
            return ""
        return present[0] if len(present) == 1 else None

    return choose


def _as_tuple(value: object) -> object:
    # TOML has lists only; a value is frozen all the way down.
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


# Put in front of `tuple[…]` in an annotation, as Listed(…) cannot be generic over the strict mode of pydantic.
LISTED = BeforeValidator(_as_tuple)


def off(value: object) -> object:
    """TOML has no null: `false` takes back a default."""
    return None if value is False else value


OFF = BeforeValidator(off)

Email = Annotated[str, like(r"[^@\s]+@[^@\s]+\.[^@\s]+", "not an e-mail address; write one like 'ml-team@example.com'")]
Account = Annotated[str, like(r"\d{12}", "not an account; write its 12 digits in quotes")]
# A bucket's name has 3 to 63 characters. Source: Amazon S3 user guide, bucket naming rules.
BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
KEY_ARN = r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[a-zA-Z0-9-]+"
Archive = Annotated[
    str,
    like(
        rf"s3://{BUCKET}/\S+\.tar\.gz",
        "not an archive in S3; pack it with 'tidegate pack', upload it, write s3://bucket/path/model.tar.gz, where a "
        "bucket's name has 3 to 63 small letters, digits, dots and hyphens",
    ),
]
S3Prefix = Annotated[
    str, like(rf"s3://{BUCKET}/\S+/", "not a prefix in S3; write s3://bucket/path/ with the slash at its end")
]
# A whole bucket, or what lies below a prefix of one; the slash at the end may be left out.
S3Place = Annotated[
    str,
    like(rf"s3://{BUCKET}(/[^\s/*?$]+)*/?", "not a place in S3; write s3://bucket/path, without '*', '?', '$' or '//'"),
]
# What a variable of the container may be written as.
Setting = Annotated[
    Any,
    BeforeValidator(
        Rule(
            lambda value: isinstance(value, int | float | str),
            "not a number, a text, true or false",
            {"type": ["boolean", "number", "string"]},
        )
    ),
]
# A path in the stage's own bucket.
OwnPrefix = Annotated[
    str, like(r"[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*/", "not a path in the bucket; write one like 'batch/in/'")
]
InstanceType = Annotated[str, like(r"ml\.[a-z0-9-]+\.[a-z0-9]+", "not an instance type; write one like 'ml.g6.xlarge'")]
