"""What pydantic found, as one sentence for whoever wrote the stage file: `key=value is …; way out`."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import AfterValidator, BeforeValidator, ValidationError
from pydantic_core import ErrorDetails

from tidegate.infra.configuration.hosting import (
    AsyncHosting,
    ComponentHosting,
    MultiModelHosting,
    RealtimeHosting,
    ServerlessHosting,
)
from tidegate.infra.configuration.value import Rule, Value

MODES: dict[str, type[Value]] = {
    "realtime": RealtimeHosting,
    "async": AsyncHosting,
    "serverless": ServerlessHosting,
    "component": ComponentHosting,
    "multi_model": MultiModelHosting,
}
# pydantic puts the chosen member of a union into the place of an error, where the file has no key for it.
_CHOSEN = {
    ("hosting",): set(MODES),
    ("hosting", "rollout"): {"all_at_once", "canary", "linear", "rolling"},
    ("image",): {"tag", "digest", "uri", "build"},
    ("model",): {"", "archive", "prefix", "training_job", "package", "group", "directory", "repository"},
    ("network",): {"new", "existing"},
}
_WANTED = {
    "string_type": "a text in quotes",
    "bool_type": "true or false",
    "dict_type": "a table; write {header}, and its keys below that line",
    "model_type": "a table; write {header}, and its keys below that line",
    "model_attributes_type": "a table; write {header}, and its keys below that line",
    "tuple_type": "a list in square brackets",
}


def sentence(root: type[Value], table: Mapping[str, Any], error: ValidationError, *, file: str = "a stage file") -> str:
    """The first of the errors; mistyped keys come first, for a missing key is often only misspelled.

    `file` is what a file of that form is called.
    """
    errors = sorted(error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden")
    return _sentence(root, table, errors[0], file)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of `known` that `word` was probably meant to be."""
    return next(iter(get_close_matches(word, list(known), n=1, cutoff=0.6)), None)


def shown(value: object) -> str:
    """A value as its writer knows it from the file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{…}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(shown(item) for item in value)}]"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return repr(value)


def _sentence(root: type[Value], table: Mapping[str, Any], error: ErrorDetails, file: str) -> str:
    path, classes = _place(root, error["loc"])
    key, value, kind = _dotted(path), error["input"], error["type"]
    if kind == "extra_forbidden":
        return _unknown_key(root, table, path, value=value, classes=classes, file=file)
    if kind == "missing":
        return f"{key} is missing; {_way_out(classes, str(path[-1]), path)}"
    if kind == "one_key":
        if not isinstance(value, Mapping):
            return f"{key}={shown(value)} is not a table; write {_header(path)} and below it {error['msg']}"
        given = [name for name in value if name in error["msg"].replace(",", "").split()]
        if given:
            return f"{key} has {' and '.join(given)}, and takes {error['msg']}; remove what is not meant"
        return f"{key} does not say which; write {error['msg']}"
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        return _wrong_word(path, value, error)
    if kind == "literal_error":
        return _not_one_of(f"{key}={shown(value)}", value, error["ctx"]["expected"])
    if kind == "rule":
        return f"{key}={shown(value)} is {error['msg']}"
    if kind == "tuple_type" and _tables(classes, str(path[-1])):
        return f"{key}={shown(value)} is not a list of tables; write {_header((*path, 0))} above the keys of each"
    if kind in _WANTED:
        return f"{key}={shown(value)} is not {_WANTED[kind].format(header=_header(path))}"
    return f"{key}={shown(value)} is wrong: {error['msg']}"


def _place(root: type[Value], loc: Sequence[int | str]) -> tuple[tuple[int | str, ...], list[type[Value]]]:
    """The keys that lead to the error, and the classes that its table may have."""
    path: list[int | str] = []
    classes: list[type[Value]] = [root]
    chosen = False
    for step in loc:
        if step == "[key]":
            # The key itself is wrong, not its value.
            break
        if not chosen and step in _CHOSEN.get(tuple(map(str, path)), ()):
            chosen = True
            if tuple(path) == ("hosting",):
                classes = [MODES[str(step)]]
            continue
        if path and not isinstance(step, int):
            above = next(key for key in reversed(path) if isinstance(key, str))
            classes = classes if chosen and tuple(path) == ("hosting",) else _tables(classes, above)
        path.append(step)
        chosen = False
    return tuple(path), classes


def _tables(classes: Iterable[type[Value]], key: str) -> list[type[Value]]:
    """The classes that the value of `key` may have; those of a list's items, for a list."""
    fields = [found.model_fields[key] for found in classes if key in found.model_fields]
    return [table for field in fields for table in _within(field.annotation)]


def _within(annotation: Any) -> list[type[Value]]:
    if isinstance(annotation, type) and issubclass(annotation, Value):
        return [annotation]
    return [table for part in get_args(annotation) for table in _within(part)]


def _unknown_key(
    root: type[Value],
    table: Mapping[str, Any],
    path: tuple[int | str, ...],
    *,
    value: object,
    classes: Sequence[type[Value]],
    file: str,
) -> str:
    key, word = _dotted(path), str(path[-1])
    here = path[:-1]
    known = sorted({name for found in classes for name in found.model_fields if here or name != "name"})
    where = _header(here) if here else file
    if here == ("hosting",):
        mode = table["hosting"]["mode"]
        if others := [name for name, other in MODES.items() if word in other.model_fields]:
            return _key_of_another_mode(key, value, mode, others)
        where = f"mode {mode}"
    if word in known and (missing := _missing_choice(table, here, word, classes)):
        return f"{key}={shown(value)} goes with {missing}, which is missing; write both or none"
    if word in known:
        return f"{key}={shown(value)} does not go with {_choice(table, here)}; remove one of the two"
    if here and word in root.model_fields:
        return f"{key}={shown(value)} is no key of a table; write {word} above the first [table]"
    homes = [name for name in root.model_fields if word in _names(root, name)]
    if homes and not here and isinstance(value, Mapping):
        return f"{key}={shown(value)} is a table of [{homes[0]}]; write [{homes[0]}.{word}]"
    if homes and not here:
        return f"{key}={shown(value)} is a key of [{homes[0]}]; write it below that line"
    if near := nearest(word, known):
        return f"{key}={shown(value)} is not a key of {where}; did you mean {near}?"
    return f"{key}={shown(value)} is not a key of {where}; there are: {', '.join(known)}"


def _names(root: type[Value], table: str) -> set[str]:
    return {name for found in _tables([root], table) for name in found.model_fields}


def _missing_choice(
    table: Mapping[str, Any], path: Sequence[int | str], word: str, classes: Sequence[type[Value]]
) -> str | None:
    """The key that would have chosen the kind of table that has `word`, where none of them is there."""
    choosing = _CHOSEN.get(tuple(map(str, path)), set())
    here: Any = table
    for step in path:
        here = here[step]
    if "" not in choosing or choosing & set(here):
        return None
    homes = [found for found in classes if word in found.model_fields]
    return next((f"{_dotted(path)}.{name}" for home in homes for name in home.model_fields if name in choosing), None)


def _choice(table: Mapping[str, Any], path: Sequence[int | str]) -> str:
    """What chose the kind of the table at `path`: a word in it, or which of its keys is there."""
    here: Any = table
    for step in path:
        here = here[step]
    if word := next((word for word in ("strategy", "vpc") if word in here), None):
        return f"{word} = {shown(here[word])}"
    return next(str(name) for name in here if name in _CHOSEN[tuple(map(str, path))])


def _key_of_another_mode(key: str, value: object, mode: str, others: Sequence[str]) -> str:
    also = f"mode {others[0]}" if len(others) == 1 else f"modes {', '.join(others)}"
    if mode == "serverless":
        reason = "serverless endpoints have no instances to choose and no GPU" if "instance" in key else None
        reason = reason or "serverless endpoints do not have it"
        return f"{key}={shown(value)} is a key of {also}, and {reason}; remove it, or write mode = '{others[0]}'"
    return f"{key}={shown(value)} is a key of {also}, and the mode here is {mode}; remove it, or change the mode"


def _wrong_word(path: Sequence[int | str], value: Any, error: ErrorDetails) -> str:
    """`mode` or `strategy`, which decide what the rest of their table means."""
    key = _dotted(path)
    word = error["ctx"]["discriminator"].strip("'")
    if error["type"] == "union_tag_invalid":
        return _not_one_of(f"{key}.{word}={shown(value[word])}", value[word], error["ctx"]["expected_tags"])
    if not isinstance(value, Mapping):
        return f"{key}={shown(value)} is not a table; write {_header(path)} and below it {word} = …"
    if near := nearest(word, value):
        return f"{key}.{near}={shown(value[near])} is not a key of {_header(path)}; did you mean {word}?"
    words = " or ".join(repr(name) for name in sorted(_CHOSEN[tuple(key.split("."))]))
    return f"{key}.{word} is missing; write {words}"


def _not_one_of(given: str, value: object, expected: str) -> str:
    words = expected.replace(" or ", ", ").split(", ")
    near = nearest(str(value), [word.strip("'") for word in words])
    hint = f"; did you mean '{near}'?" if near else ""
    return f"{given} is not one of {', '.join(words)}{hint}"


def _way_out(classes: Sequence[type[Value]], key: str, path: tuple[int | str, ...]) -> str:
    field = next(found.model_fields[key] for found in classes if key in found.model_fields)
    if field.annotation is bool:
        return f"write {key} = true or {key} = false"
    if tables := _within(field.annotation):
        # Said at once: the next run would ask for them.
        fields = tables[0].model_fields.items()
        flags = [name for name, each in fields if each.is_required() and each.annotation is bool]
        said = " with " + " and ".join(f"{name} = true or {name} = false" for name in flags) if flags else ""
        return f"write the table {_header(path)}{said}"
    for rule in field.metadata:
        if isinstance(rule, BeforeValidator | AfterValidator) and isinstance(rule.func, Rule):
            why, semicolon, way_out = rule.func.why.partition("; ")
            return way_out if semicolon else f"write {why.removeprefix('not ')}"
    return "write it"


def _header(path: Sequence[int | str]) -> str:
    """The line above the keys of a table, as TOML has it: the tables of a list all have the same, in two brackets."""
    line = ".".join(step for step in path if isinstance(step, str))
    return f"[[{line}]]" if isinstance(path[-1], int) else f"[{line}]"


def _dotted(path: Sequence[int | str]) -> str:
    # The items of [[hosting.variants]] are counted from 1, as people count the tables of a file.
    text = ""
    for step in path:
        text += f"[{step + 1}]" if isinstance(step, int) else f".{step}" if text else step
    return text
