"""Which forms of an image SageMaker runs.

CreateModel answers "Unsupported manifest media type … Ensure that valid manifest media type is used for specified
image" to an OCI manifest and to an index of either kind. AWS's guides do not name the forms; the answer is quoted in
github.com/aws/amazon-sagemaker-feedback, issue 180 (manifest), and github.com/mlflow/mlflow, issue 13834 (index).
Not verified in an account by us.
"""

from __future__ import annotations

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_KINDS = {
    "application/vnd.docker.distribution.manifest.list.v2+json": "a list of images for several platforms",
    "application/vnd.docker.distribution.manifest.v1+json": "a Docker manifest of the first version",
    "application/vnd.docker.distribution.manifest.v1+prettyjws": "a Docker manifest of the first version",
    "application/vnd.oci.image.index.v1+json": "an OCI index",
    "application/vnd.oci.image.manifest.v1+json": "an OCI manifest",
}
# What is asked for, so that a registry shows what it holds and converts nothing.
ACCEPTED = (DOCKER_MANIFEST, *_KINDS)


def unfit(media_type: str) -> str | None:
    """What an image of this media type is, in a few words, where SageMaker refuses it; None where it runs it."""
    if media_type == DOCKER_MANIFEST:
        return None
    kind = _KINDS.get(media_type)
    return media_type if kind is None else f"{kind} ({media_type})"
