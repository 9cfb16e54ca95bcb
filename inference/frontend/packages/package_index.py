"""Where pip looks for a model's packages when `CA_REPOSITORY_ARN` names a CodeArtifact repository.

The token of the index lives for hours and opens the whole repository: it is in the environment of pip's process and
nowhere else, and `Index.redact` takes it out of whatever pip says.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from tidegate.inference.errors import DeploymentError
from tidegate.inference.frontend.packages import program
from tidegate.inference.settings import CODEARTIFACT_ARN

log = logging.getLogger("tidegate.requirements")

_ASK = Path(__file__).with_name("ask_codeartifact.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An index with its credentials."""

    url: str = field(repr=False)
    token: str = field(repr=False)

    def redact(self, text: str) -> str:
        """`text` without the token, as it is and as a URL has it."""
        for secret in (self.token, quote(self.token, safe="")):
            text = text.replace(secret, "****")
        return text


async def codeartifact(arn: str) -> Index:
    """The index of the repository, with a token that the role of this container may have.

    Raises `DeploymentError` with what AWS, the network or the image lack.
    """
    found = re.fullmatch(CODEARTIFACT_ARN, arn)
    if found is None:
        raise DeploymentError(f"CA_REPOSITORY_ARN={arn!r} names no CodeArtifact repository.")
    place = [found[name] for name in ("region", "domain", "account", "repository")]
    status, output = await program.run([sys.executable, "-P", str(_ASK), *place])
    answer = json.loads(output) if status == 0 else {"error": f"status {status}"}
    if "error" in answer:
        raise DeploymentError(f"CodeArtifact (CA_REPOSITORY_ARN={arn}) cannot be asked: {answer['error']}.")
    log.info("packages come from CodeArtifact", extra={"repository": arn})
    endpoint = urlsplit(answer["endpoint"])
    token, path = str(answer["token"]), endpoint.path.rstrip("/")
    url = f"{endpoint.scheme}://aws:{quote(token, safe='')}@{endpoint.netloc}{path}/simple/"
    return Index(url=url, token=token)
