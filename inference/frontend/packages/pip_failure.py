"""Why pip failed, in one sentence of which the deployer can make something.

pip's first line that begins with `ERROR: ` says what it could not do. For the failures that a model meets most often
the reason is elsewhere in its output: another torch than the one that is here, an index that cannot be reached, a
program that is missing, and a step of a build or of git, whose own words stand before pip's. The patterns are those of
pip 23 to 26.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_OTHER_TORCH = re.compile(r"^\s*(?:The user requested|(?P<who>\S+ \S+) depends on) (?P<what>torch(?![\w.-]).*)$", re.M)
_CONSTRAINT = re.compile(r"The user requested \(constraint\) torch(?![\w.-])(?P<bounds>.*)$", re.M)
_BROKEN = re.compile(r"after connection broken by '(?P<error>.*)': ")
_HOST = re.compile(r"host='(?P<host>[^']+)', port=(?P<port>\d+)")
_ERRNO = re.compile(r"\[Errno -?\d+\] (?P<text>[^'\")\]]+)")
_INDEXES = re.compile(r"^Looking in indexes: (?P<urls>.*)$", re.M)
_NO_PROGRAM = re.compile(r"ERROR: Cannot find command '(?P<program>[^']+)'")
_TAKEN_UP = re.compile(r"^\s*(?:Collecting|Processing|Obtaining) (?P<what>.+?)(?: \(from .*\))?$", re.M)
_STEP_FAILED = re.compile(r"^\s*\xd7 (?P<step>.+) did not run successfully\.$", re.M)
_STEPS_OUTPUT = re.compile(r"^\s*╰─> \[\d+ lines? of output\]\n(?P<lines>.*?)^\s*\[end of output\]$", re.M | re.S)
_HASHES = re.compile(r"^ERROR: (?P<head>.*\bhashes\b.*)\n {4}(?P<package>\S+)(?P<after>(?:.*\n {8}.*)*)", re.M | re.I)
_NAMED_HASH = re.compile(r"^ +(?P<whose>Expected|Got) .*?(?P<hash>\w+)$", re.M)
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@'\"]+@")
_ERROR = "ERROR: "
_NO_REASONS = ("ERROR: Exception:", "ERROR: Ignored the following ")
"""What pip prints as an error and what does not say what went wrong."""


def sentence(output: str, torch_version: str) -> str:
    """What follows "… cannot be installed: ", without its full stop; `output` is all that pip printed."""
    if other := _other_torch(output, torch_version):
        return other
    if broken := _BROKEN.search(output):
        return (
            f"{_index(broken['error'], output)}; name another by PIP_INDEX_URL, or put the packages into code/wheels/"
        )
    if missing := _NO_PROGRAM.search(output):
        return f"it needs {missing['program']}, which is not installed; put the package as a wheel into code/wheels/"
    if failed := _STEP_FAILED.search(output):
        return _step(failed["step"], output[: failed.start()], output[failed.end() :])
    if hashes := _HASHES.search(output):
        return _hashes(hashes["package"], hashes["head"], hashes["after"])
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    # The first error names the package; what follows is advice. A crash of pip's own has its reason in the last line.
    return (_first_error(lines) or (lines[-1] if lines else "pip said nothing")).removeprefix(_ERROR).rstrip(".")


def redacted(output: str) -> str:
    """`output` without the credentials of URLs: pip hides them, the programs that it starts do not."""
    return _CREDENTIALS.sub("****@", output)


def _first_error(lines: list[str]) -> str | None:
    return next((line for line in lines if line.startswith(_ERROR) and not line.startswith(_NO_REASONS)), None)


def _other_torch(output: str, torch_version: str) -> str | None:
    constraint, wish = _CONSTRAINT.search(output), _OTHER_TORCH.search(output)
    if constraint is None or wish is None:
        return None
    stays = f"but torch stays at the installed version, {torch_version}"
    # pip joins our own bound and those of its configuration into one.
    bounds = ",".join(bound for bound in constraint["bounds"].strip().split(",") if bound != f"=={torch_version}")
    if bounds and not _allows(bounds, torch_version):
        return f"a constraint of pip's own configuration (PIP_CONSTRAINT, pip.conf) wants torch{bounds}, {stays}"
    return f"{wish['who'] or 'it'} wants {wish['what'].strip()}, {stays}"


def _allows(bounds: str, version: str) -> bool:
    """Whether a version is within the bounds of a requirement; yes where that cannot be told."""
    try:
        from pip._vendor.packaging.specifiers import SpecifierSet  # noqa: PLC0415 - pip is here, packaging need not be

        return bool(SpecifierSet(bounds).contains(version, prereleases=True))
    except (ImportError, ValueError):
        return True


def _step(step: str, before: str, after: str) -> str:
    """A step of a build, or a command of git, with its own first reason."""
    if step.startswith(("git ", "hg ", "svn ", "bzr ")):
        # pip lets its output through, so it stands before.
        said = [line.strip() for line in before.rpartition("Running command ")[2].splitlines()[1:] if line.strip()]
        said = [line for line in said if not line.startswith("error: subprocess-exited-with-error")]
        why = next((line for line in said if line.startswith(("fatal: ", "error: "))), said[-1] if said else "")
        what = step
    else:
        output = _STEPS_OUTPUT.search(after)
        said = [line.strip() for line in output["lines"].splitlines() if line.strip()] if output else []
        why = (_first_error(said) or (said[-1] if said else "")).removeprefix(_ERROR)
        taken_up = _TAKEN_UP.findall(before)
        # The building of a wheel names its package, and comes when everything has been taken up.
        what = step if step.startswith("Building ") or not taken_up else f"{taken_up[-1]}: {step}"
    return f"{what} failed{': ' if why else ''}{why}".rstrip(".")


def _hashes(package: str, head: str, after: str) -> str:
    """A package whose hash is another one, or that has none: pip names it in the lines below its error."""
    found = [(line["whose"], line["hash"]) for line in _NAMED_HASH.finditer(after)]
    got = [value for whose, value in found if whose == "Got"]
    if not got:
        return f"{package.rstrip(':')}: {head.partition('. ')[0].rstrip(':')}"
    wanted = " or ".join(value for whose, value in found if whose == "Expected")
    return f"{package} has the hash {got[0]}, and the requirements want {wanted}"


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
