"""Ask an advisory service about every package that is pinned here, with pip-audit.

    python -m tests.advisories.audit                  osv.dev
    AUDIT_OSV_URL=https://mirror/v1/query …           any service that speaks its language

Exit status 0: no pinned version has a known vulnerability, or nobody could be asked; the last line says which. 1: at
least one has, and it is named. With AUDIT_REQUIRED=1 it is also 1 where nobody could be asked.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
LOCKED = (
    "constraints.txt",
    "container/requirements.lock",
    "container/requirements-aws.lock",
    "examples/text/requirements.txt",
    "examples/voice/requirements.txt",
    "tests/ecosystem/requirements-hugging-face.txt",
    "tests/ecosystem/requirements-mlflow.txt",
    "tests/ecosystem/requirements-openai.txt",
    "tests/ecosystem/requirements-openvino.txt",
    "tests/ecosystem/requirements-peft.txt",
    "tests/ecosystem/requirements-tensorflow.txt",
    "tests/ecosystem/requirements-tritonclient.txt",
    "tests/ecosystem/requirements-v2.txt",
    "tests/ecosystem/requirements-v3.txt",
)
"""Every file that pins what ships, what builds it and what tests it."""

SERVICE = "https://api.osv.dev/v1/query"
KNOWN = ("jinja2", "2.4.1")
"""A version with advisories of many years: who has never heard of it is not believed about the others."""

ACCEPTED: Mapping[str, str] = {}
"""Advisories that do not concern us, each with the reason."""

ANSWER_S = 20


class NotAsked(Exception):
    """There is no service that could be asked; the text is one sentence."""


def main(files: Sequence[Path], environment: Mapping[str, str]) -> int:
    """Audit `files`, say what came of it, and return the exit status."""
    service = environment.get("AUDIT_OSV_URL") or SERVICE
    try:
        _check_that_it_knows(service)
    except NotAsked as why:
        print(f"NOT AUDITED: {why}")
        return 1 if environment.get("AUDIT_REQUIRED") == "1" else 0
    packages = 0
    vulnerable: list[str] = []
    for file in files:
        found = _audit(file, service)
        packages += len(found)
        vulnerable += [f"{file}: {sentence}" for sentence in _sentences(found)]
    for sentence in vulnerable:
        print(sentence)
    said = f"{len(vulnerable)} known vulnerabilities" if vulnerable else "no known vulnerability"
    print(f"audited: {packages} pins of {len(files)} files at {service}: {said}")
    return 1 if vulnerable else 0


def _check_that_it_knows(service: str) -> None:
    name, version = KNOWN
    query = json.dumps({"package": {"name": name, "ecosystem": "PyPI"}, "version": version}).encode()
    request = urllib.request.Request(service, query, {"content-type": "application/json"})  # noqa: S310 - the operator's own address
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as reply:  # noqa: S310
            advisories = json.load(reply).get("vulns")
    except (OSError, ValueError, AttributeError) as error:
        reason = getattr(error, "reason", None) or error
        raise NotAsked(f"the advisory service {service} cannot be asked ({reason}).") from None
    if not advisories:
        raise NotAsked(f"the advisory service {service} knows nothing, not even of {name} {version}.")


def _audit(file: Path, service: str) -> list[dict[str, object]]:
    """What pip-audit says about each package of `file`."""
    arguments = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json", "--desc", "off"]
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", *arguments, "-s", "osv", "--osv-url", service, "-r", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        dependencies: list[dict[str, object]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        raise SystemExit(f"pip-audit failed on {file}: {done.stderr[-2000:]}") from None
    unread = [each for each in dependencies if "skip_reason" in each]
    if unread or len(dependencies) < _pins(file):
        raise SystemExit(f"pip-audit read {len(dependencies)} of {_pins(file)} pins of {file}; it skipped {unread}")
    return dependencies


def _pins(file: Path) -> int:
    return len({line.split("==")[0].lower() for line in file.read_text().splitlines() if re.match(r"[\w.-]+==", line)})


def _sentences(dependencies: Sequence[Mapping[str, object]]) -> list[str]:
    sentences = []
    for package in dependencies:
        advisories = package["vulns"]
        assert isinstance(advisories, list)
        for advisory in advisories:
            names = [advisory["id"], *advisory.get("aliases", [])]
            if not ACCEPTED.keys() & set(names):
                mended = ", ".join(advisory["fix_versions"]) or "no version yet"
                sentences.append(f"{package['name']} {package['version']}: {', '.join(names)}; fixed in {mended}")
    return sentences


if __name__ == "__main__":
    sys.exit(main([REPOSITORY / name for name in LOCKED], os.environ))
