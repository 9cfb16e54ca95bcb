"""`… infra keys PAGE`: the tables of keys in docs/infrastructure.md, from the classes that read a stage file.

A table stands between `<!-- keys: hosting.scaling -->` and `<!-- end of keys -->`. Its rows are the keys of that table
in every form that it may have, with their defaults and their docstrings.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import Tag
from pydantic.fields import FieldInfo

from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.value import Value

_PLACE = re.compile(r"(<!-- keys: ?([\w.]*) -->\n).*?(<!-- end of keys -->)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One form of a table: `key = word` chooses it. Both are empty where there is no other, or where a key of its own
    chooses it, which is `chooser`.
    """

    table: type[Value]
    key: str = ""
    word: str = ""
    chooser: str = ""


def main(arguments: list[str]) -> int:
    """Write the tables of a page anew; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tidegate.infra keys", description="Writes the tables of keys in a page, between their marks."
    )
    parser.add_argument("page", type=Path, help="such as docs/infrastructure.md")
    page = parser.parse_args(arguments).page
    try:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
    except (OSError, UnicodeDecodeError, LookupError) as error:
        print(f"keys: error: {page} is left as it is: {error}", file=sys.stderr)  # noqa: T201 - the command line's own output
        return 1
    return 0


def filled(page: str) -> str:
    """`page` with every table as the classes have it. Raises `LookupError` for a table that no stage file has."""
    return _PLACE.sub(lambda place: f"{place[1]}{table(place[2])}\n{place[3]}", page)


def paths() -> list[str]:
    """Every table of a stage file, as in `hosting.scaling`; the first is empty, for what stands above all tables."""
    return list(_forms())


def table(path: str) -> str:
    """The table of `path` as Markdown."""
    forms = _forms().get(path)
    if forms is None:
        raise LookupError(f"a stage file has no table {path}; there are: {', '.join(filter(None, _forms()))}")
    chosen_by = next((form.key for form in forms if form.key), "") if len({form.table for form in forms}) > 1 else ""
    heading = ["key" if not path else f"`[[{path}]]`" if _is_list(path) else f"`[{path}]`", "default"]
    heading += [chosen_by, "meaning"] if chosen_by else ["meaning"]
    rows = [heading, ["---"] * len(heading)]
    all_words = [form.word if form.key == chosen_by else f"{form.key} {form.word}" for form in forms]
    names = dict.fromkeys(name for form in forms for name in form.table.model_fields)
    choosing = {form.chooser or form.key for form in forms}
    for name in sorted(names, key=lambda name: name not in choosing):
        # The forms in which the key is the same, by what is said of it.
        same: dict[tuple[str, str], list[str]] = {}
        for form, word in zip(forms, all_words, strict=True):
            if name in form.table.model_fields:
                said = (_default(form, name), _meaning(form.table.model_fields[name]))
                same.setdefault(said, []).append(word)
        for (default, meaning), words in same.items():
            others = [word for word in all_words if word not in words]
            where = "" if not others else f"all but {others[0]}" if len(others) == 1 < len(words) else ", ".join(words)
            rows.append([f"`{name}`", default, *([where] if chosen_by else []), meaning])
    return "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows)


def _forms() -> dict[str, list[Form]]:
    found: dict[str, list[Form]] = {}

    def add(path: str, form: Form) -> None:
        if form in found.setdefault(path, []):
            return
        found[path].append(form)
        for name, field in form.table.model_fields.items():
            members = list(dict.fromkeys(_members(field.annotation)))
            for word, sub in members:
                chooser = word if word in sub.model_fields else ""
                key = _literal(sub)[0] or next((key for key, _ in map(_literal, _tables(members)) if key), "")
                inner = Form(table=sub, chooser=chooser) if chooser else Form(table=sub, key=key, word=word)
                if len(members) == 1:
                    inner = Form(table=sub, key=form.key, word=form.word)
                add(f"{path}.{name}".lstrip("."), inner)

    add("", Form(table=Stage))
    return found


def _tables(members: list[tuple[str, type[Value]]]) -> Iterator[type[Value]]:
    return (table for _, table in members)


def _members(annotation: Any, tag: str = "") -> Iterator[tuple[str, type[Value]]]:
    """The classes of an annotation, each with the word that chooses it."""
    if isinstance(annotation, type) and issubclass(annotation, Value):
        yield tag or _literal(annotation)[1], annotation
        return
    tags = [str(one.tag) for one in getattr(annotation, "__metadata__", ()) if isinstance(one, Tag)]
    for part in get_args(annotation):
        yield from _members(part, tags[0] if tags else tag)


def _literal(table: type[Value]) -> tuple[str, str]:
    """The key that says which form a table has, and its word; empty where it has none."""
    for name, field in table.model_fields.items():
        words = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        if len(words) == 1 and field.is_required():
            return name, str(words[0])
    return "", ""


def _is_list(path: str) -> bool:
    parent, _, name = path.rpartition(".")
    fields = [form.table.model_fields[name] for form in _forms()[parent] if name in form.table.model_fields]
    return any(get_origin(field.annotation) is tuple for field in fields)


def _default(form: Form, name: str) -> str:
    if name == form.chooser:
        return "chooses"
    field = form.table.model_fields[name]
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    match value:
        case Value():
            return "see below"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case tuple():
            return ", ".join(map(str, value)) or "none"
        case None | {}:
            return "none"
        case _:
            return f"`{value}`" if re.search(r"\W", str(value)) else str(value)


def _meaning(field: FieldInfo) -> str:
    return " ".join((field.description or "").split()).replace("|", r"\|")
