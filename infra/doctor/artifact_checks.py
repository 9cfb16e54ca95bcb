"""What the endpoint runs: its image in the form that SageMaker takes, and its archive, looked into by `check`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from tidegate.infra.configuration.hosting import MultiModelHosting, RealtimeHosting
from tidegate.infra.configuration.image import BuiltImage
from tidegate.infra.doctor.finding import Finding, Severity, Unanswered, ok, unknown
from tidegate.infra.doctor.subject import Subject
from tidegate.infra.hosting import machines
from tidegate.infra.image_push.media_types import unfit
from tidegate.infra.image_push.registries import ImageConfiguration, Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """An object of S3. `region` is its bucket's."""

    size_bytes: int
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What `tidegate check` said of an archive. `error` is its sentence where the model may take no traffic."""

    error: str | None
    warnings: tuple[str, ...] = ()


# What an image says that takes streams in both directions. Source: SageMaker guide, custom inference code with hosting
# services.
_BIDIRECTIONAL = "com.amazonaws.sagemaker.capabilities.bidirectional-streaming"
# One that is larger is left to its owner: it is downloaded and loaded.
CHECKED_BYTES = 2 << 30


def image(subject: Subject, manifest: Manifest | Unanswered | None, *, local: bool) -> Finding:
    """`manifest` is what the registry holds, None for nothing. `local`: the cloud is a process of this machine."""
    check, push = "image", f"tidegate image push --stage {subject.argument}"
    address = subject.image
    if address is None:
        built = isinstance(subject.stage.image, BuiltImage)
        by = "'cdk deploy' builds and pushes it" if built else "the model package names it"
        return ok(check, "the stage file", f"Nothing is to be pushed: {by}.")
    if local:
        return ok(check, "the address of the cloud", "The local cloud starts the server by itself and pulls no image.")
    asked = f"ecr:DescribeImages {address}" if ".dkr.ecr." in address else f"the registry, {address}"
    if isinstance(manifest, Unanswered):
        return unknown(check, asked, manifest, push)
    if manifest is None:
        sentence, command = f"There is no image {address}.", push
        if "@" in address:
            command = f"{push} --tag NEXT"
    elif (kind := unfit(manifest.media_type)) is not None:
        sentence = f"{address} is {kind}, which SageMaker refuses."
        command = f"{push} --tag NEXT"
    else:
        return ok(check, asked, f"{address} is there, {manifest.digest}, as one Docker manifest.")
    return Finding(check=check, asked=asked, severity=Severity.ERROR, sentence=sentence, command=command)


def image_configuration(subject: Subject, found: ImageConfiguration | Unanswered | None) -> Finding:
    """Whether an image that is there runs on the stage's instances; `found` is what it says of itself."""
    check, address = "image", subject.image
    asked = f"ecr:BatchGetImage {address}" if ".dkr.ecr." in str(address) else f"the registry, {address}"
    push = f"tidegate image push --stage {subject.argument} --tag NEXT"
    if found is None or isinstance(found, Unanswered):
        answer = found or Unanswered(reason=f"{address} says nothing of itself")
        return unknown(check, asked, answer, f"docker image inspect {address}")
    wanted = machines.platform(subject.stage)
    if found.platform != wanted:
        sentence = f"{address} is for {found.platform}, and the stage's instances are {wanted}."
        return Finding(check=check, asked=asked, severity=Severity.ERROR, sentence=sentence, command=push)
    hosting = subject.stage.hosting
    if isinstance(hosting, RealtimeHosting) and hosting.bidirectional and found.labels.get(_BIDIRECTIONAL) != "true":
        sentence = f"{address} lacks the label {_BIDIRECTIONAL}=true, without which no stream reaches a container."
        return Finding(check=check, asked=asked, severity=Severity.ERROR, sentence=sentence, command=push)
    return ok(check, asked, f"{address} is for {wanted}, as the stage's instances are.")


def archive(subject: Subject, found: Object | Unanswered | None) -> Finding:
    """`found` is None where there is no such object, or no such bucket."""
    check, url = "archive", subject.archive
    if url is None and isinstance(subject.stage.hosting, MultiModelHosting):
        sentence = "The archives of a multi-model endpoint were not looked at: run 'tidegate check' on each of them."
        return ok(check, "the stage file", sentence)
    if url is None:
        return ok(check, "the stage file", "The stage names no single archive, so none was looked for.")
    asked = f"s3:HeadObject {url}"
    if isinstance(found, Unanswered):
        return unknown(check, asked, found, subject.aws(f"s3 ls {url}"))
    if found is None:
        upload = subject.aws(f"s3 cp model.tar.gz {url}")
        if url.startswith(f"s3://{subject.bucket}/"):
            sentence = f"There is no archive {url}; the bucket of the stage comes with its storage stack."
            command = f"{subject.cdk('deploy storage')} && {upload}"
        else:
            sentence = f"There is no archive {url}; its bucket is not the stage's, and no stack makes it."
            command = upload
        return Finding(check=check, asked=asked, severity=Severity.ERROR, sentence=sentence, command=command)
    if found.region != subject.region:
        return Finding(
            check=check,
            asked=asked,
            severity=Severity.ERROR,
            sentence=f"{url} is in {found.region}, and SageMaker takes models from its own Region, {subject.region}.",
            command=subject.aws(
                f"s3 cp {url} s3://{subject.bucket}/models/model.tar.gz --source-region {found.region}"
            ),
        )
    return ok(check, asked, f"{url} is there, {found.size_bytes:,} bytes.")


def layout(subject: Subject, found: Object | Unanswered | None, verdict: Verdict | Unanswered | None) -> list[Finding]:
    """Nothing where there is no archive to look into. `verdict` is None where it was not asked for."""
    url = subject.archive
    if url is None or found is None or isinstance(found, Unanswered):
        return []
    check, command = "layout", f"tidegate check {shlex.quote(url)}"
    asked = command
    if verdict is None:
        why = f"it has {found.size_bytes:,} bytes" if found.size_bytes > CHECKED_BYTES else "the command line said so"
        sentence = f"{url} was not loaded, because {why}; do it where there is room."
        return [Finding(check=check, asked=asked, severity=Severity.WARNING, sentence=sentence, command=command)]
    if isinstance(verdict, Unanswered):
        return [unknown(check, asked, verdict, command)]
    if verdict.error is not None:
        sentence = f"The model may take no traffic: {verdict.error}"
        return [Finding(check=check, asked=asked, severity=Severity.ERROR, sentence=sentence, command=command)]
    if verdict.warnings:
        return [
            Finding(check=check, asked=asked, severity=Severity.WARNING, sentence=warning, command=command)
            for warning in verdict.warnings
        ]
    return [ok(check, asked, "The model loads, and may take traffic.")]
