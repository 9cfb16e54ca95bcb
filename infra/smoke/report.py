"""The report of a run, as JSON and as Markdown, without the number of the account and paths of this machine: it can be
committed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tidegate.infra.configuration import ConfigurationError
from tidegate.infra.smoke.plan import Plan
from tidegate.infra.smoke.questions import Answer

_ACCOUNT = "ACCOUNT"
_PATH = re.compile(r"""(?<![\w./:-])(?:/[^\s/"'\\:;,()|]+){2,}/?""")


def content(
    plan: Plan, answers: Mapping[str, Answer], *, began: str, is_local: bool, left: list[str] | None
) -> dict[str, Any]:
    """What the JSON file holds. `began` is a time as ISO 8601 has it."""
    found = {
        "run": plan.run,
        "began": began,
        "cloud": "a cloud on this machine" if is_local else "AWS",
        "region": plan.region,
        "instance_type": plan.instance_type,
        "image": plan.image,
        "versions": {name: version(name) for name in ("aws-cdk-lib", "boto3", "tidegate")},
        "questions": [
            {
                "name": answer.question.name,
                "asks": answer.question.asks,
                "documented": answer.question.documented,
                "page": answer.question.page,
                "verdict": str(answer.verdict),
                "answer": answer.sentence,
                "seen": [asdict(seen) for seen in answer.seen],
            }
            for answer in answers.values()
        ],
        # None: it was not tried, because the process was killed.
        "left": left,
    }
    text = re.sub(rf"(?<!\d){plan.account}(?!\d)", _ACCOUNT, json.dumps(found))
    # AWS knows paths of the container only.
    redacted: dict[str, Any] = json.loads(_PATH.sub(_without_folders, text) if is_local else text)
    return redacted


def _without_folders(found: re.Match[str]) -> str:
    """A path of this machine by its last name; one of the container, or what only looks like a path, as it is."""
    path = found[0]
    here = Path(f"/{path.split('/')[1]}").is_dir() and not path.startswith("/opt/ml/")
    return f".../{path.rstrip('/').rpartition('/')[2]}" if here else path


def markdown(found: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = ["# Smoke run", ""]
    if found["cloud"] != "AWS":
        lines += [f"**Asked of {found['cloud']}: this shows that the run works, and settles nothing about AWS.**", ""]
    lines += [
        "| | |",
        "| --- | --- |",
        f"| asked of | {found['cloud']}, {found['region']} |",
        f"| began | {found['began']} |",
        f"| run | {found['run']}, on {found['instance_type']}, with `{found['image']}` |",
        f"| versions | {', '.join(f'{name} {number}' for name, number in found['versions'].items())} |",
        f"| left behind | {_left(found['left'])} |",
        "",
        "| question | verdict |",
        "| --- | --- |",
        *(f"| [{each['name']}](#{each['name']}) | {each['verdict']} |" for each in found["questions"]),
    ]
    for each in found["questions"]:
        lines += ["", f"## {each['name']}", "", each["asks"], ""]
        lines += [f"- documented ({each['page']}): {each['documented'] or 'that nobody knows'}"]
        lines += [f"- **{each['verdict']}**: {each['answer']}"]
        if each["seen"]:
            lines += ["", "| deploy | stack | seconds | endpoint before | after | answers |", "| --- " * 6 + "|"]
            lines += [_row(seen) for seen in each["seen"]]
    return "\n".join(lines) + "\n"


def _left(left: list[str] | None) -> str:
    if left is None:
        return "not known yet"
    return _cell("; ".join(left)) if left else "nothing"


def _row(seen: Mapping[str, Any]) -> str:
    cells = (
        seen["what"],
        seen["stack"] if seen["refused"] is None else f"refused: {seen['refused']}",
        seen["seconds"],
        _standing(seen["before"]),
        _standing(seen["after"]),
        ", ".join(f"{count} x {answer}" for answer, count in sorted(seen["answers"].items())) or "none asked",
    )
    return "| " + " | ".join(_cell(str(cell)) for cell in cells) + " |"


def _standing(standing: Mapping[str, Any] | None) -> str:
    if standing is None:
        return "none"
    said = f"{standing['status']}, {standing['config']}"
    if standing["instances"] is not None:
        said += f", instances {standing['instances']}"
    if standing["component_status"] is not None:
        said += f"; component {standing['component_status']}, {standing['component_model']}"
    return said


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def write(path: Path, found: Mapping[str, Any]) -> None:
    """`path` for people, and beside it the same name with `.json`. Raises `ConfigurationError`."""
    try:
        path.write_text(markdown(found), encoding="utf-8")
        path.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"--report={path} cannot be written: {error}") from None
