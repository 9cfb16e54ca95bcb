"""Why pip failed, in one sentence of which the deployer can make something.

pip's first line that begins with `ERROR: ` says what it could not do. For the failures that a model meets most often
the reason is elsewhere in its output: another torch than the one that is here, and an index that cannot be reached.
The patterns are those of pip 23 to 26.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_OTHER_TORCH = re.compile(r"^\s*(?:The user requested|(?P<who>\S+ \S+) depends on) (?P<what>torch(?![\w.-]).*)$", re.M)
_CONSTRAINT = re.compile(r"The user requested \(constraint\) torch==")
_BROKEN = re.compile(r"after connection broken by '(?P<error>.*)': ")
_HOST = re.compile(r"host='(?P<host>[^']+)', port=(?P<port>\d+)")
_ERRNO = re.compile(r"\[Errno -?\d+\] (?P<text>[^'\")\]]+)")
_INDEXES = re.compile(r"^Looking in indexes: (?P<urls>.*)$", re.M)
_ERROR = "ERROR: "


def sentence(output: str, torch_version: str) -> str:
    """What follows "… cannot be installed: ", without its full stop; `output` is all that pip printed."""
    if _CONSTRAINT.search(output) and (wish := _OTHER_TORCH.search(output)):
        who = wish["who"] or "it"
        return f"{who} wants {wish['what'].strip()}, but torch stays the one that is here, {torch_version}"
    if broken := _BROKEN.search(output):
        return (
            f"{_index(broken['error'], output)}; name another by PIP_INDEX_URL, or bring the packages in code/wheels/"
        )
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    # The first error names the package; what follows is advice. A crash of pip's own has its reason in the last line.
    said = next((line for line in lines if line.startswith(_ERROR) and line != "ERROR: Exception:"), None)
    return (said or (lines[-1] if lines else "pip said nothing")).removeprefix(_ERROR).rstrip(".")


def _index(error: str, output: str) -> str:
    host, errno = _HOST.search(error), _ERRNO.search(error)
    where = f" at {host['host']}:{host['port']}" if host else _only_index(output)
    if errno:
        why = errno["text"].strip()
    elif "timed out" in error:
        why = "it does not answer in time"
    else:
        why = error.partition("(")[0]
    return f"the package index{where} cannot be reached ({why})"


def _only_index(output: str) -> str:
    """Before pip 25 the error does not name the host; where there is but one index, it is that one."""
    indexes = _INDEXES.search(output)
    urls = [url.strip() for url in indexes["urls"].split(",")] if indexes else []
    netlocs = [urlsplit(url).netloc.rpartition("@")[2] for url in urls if url.startswith("http")]
    return f" at {netlocs[0]}" if len(netlocs) == 1 else ""
