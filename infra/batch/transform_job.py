"""The state machine that runs one transform job to its end.

    read the request ─▶ ┌ read the model's name ─▶ create the job ─▶ manifest ─▶ poll ┐ ─▶ manifest ─▶ notify ─▶ end
                        └────── wait for instances, or for the next attempt ◀─────────┘

The request is `{"input": "s3://…"}`, optionally with `output`, `content_type`, `split`, `join_source`, `input_filter`,
`output_filter` and `served_model`, which is one of the stage's model repository, as `NAME` or `NAME/VERSION`. An input
that ends in `/` is a prefix, any other is exactly one object. The execution's name makes the job's name, so two
executions of one name, which Step Functions refuses, would be one job.

Why it polls instead of the `.sync` integration: `.sync` needs `events:PutRule` and `events:PutTargets` on a rule of
EventBridge that Step Functions shares among all machines of the account, and it shows nothing of a job while it runs.
Polling needs `sagemaker:DescribeTransformJob` on our own jobs only. It costs three state transitions a poll, and an
execution that is stopped by hand does not stop its job.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tidegate.inference import settings as server
from tidegate.infra.batch.content_types import IN_LINES
from tidegate.infra.stage.names import BATCH_INPUT_PREFIX, BATCH_MANIFESTS_PREFIX, BATCH_OUTPUT_PREFIX
from tidegate.infra.workflows.states import (
    ANY_ERROR,
    Definition,
    State,
    call,
    caught,
    choose,
    compute,
    computed,
    fail,
    machine,
    never_retried,
    retried,
    succeed,
    wait,
)

# What says to the server which model of its repository answers requests that name none.
(_SERVED_MODEL,) = server.variables_of("default_model")
# Of TransformJobName, in the API reference.
_LONGEST_JOB_NAME = 63
# An execution has at most 25,000 events, and a poll is nine of them: with waits that grow to five minutes a week of
# polling stays below. Source: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
_TIMEOUT_S = 7 * 24 * 3600
# Waits between two looks at a job: the first, by how much each is longer, the longest.
_POLL_FIRST_S, _POLL_STEP_S, _POLL_LONGEST_S = 15, 15, 300
# Waits for instances of the account: the first, doubled each time up to the longest, for about a day.
_QUEUE_FIRST_S, _QUEUE_LONGEST_S, _TRIES_FOR_INSTANCES = 60, 900, 96
# Before the second attempt; doubled before each further one.
_RETRY_FIRST_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """What is the same for all jobs of a stage."""

    # Of the jobs' names.
    name_prefix: str
    instance_type: str
    instance_count: int
    # By the ending of an object's name, and of whatever has no ending among them.
    content_types: Mapping[str, str]
    default_content_type: str
    # None: what the container reports at /execution-parameters. A payload of 0 is sent in chunks, without a limit.
    max_payload_mib: int | None
    max_concurrent: int | None
    # Of DataProcessing.
    join_source: str
    input_filter: str
    output_filter: str
    # Further attempts of a job that failed for another reason than its input.
    retries: int
    # May be placeholders (`${Key}`). None: the keys of S3 and of SageMaker.
    output_key_arn: str | None
    volume_key_arn: str | None
    # Of every job; what budgets and bills know the stage by. Text only, no tokens.
    tags: Mapping[str, str]


def definition(settings: JobSettings) -> Definition:
    """The machine. It expects `Bucket`, `ModelNameParameter` and `Topic` to be put in."""
    created = {
        "pause": _POLL_FIRST_S,
        "seen": {"TransformJobStatus": "InProgress", "CreationTime": computed("$now()")},
    }
    gave_up = [caught(ANY_ERROR, then="GiveUp", assign={"error": computed("$states.errorOutput")})]
    return machine(
        "Runs one SageMaker transform job: retries it, writes its manifest beside its output, tells who asked to know",
        {
            "ReadRequest": compute(_request(settings), then="CheckInput"),
            "CheckInput": choose(("$job.ours", "OneObjectOrPrefix"), otherwise="RefuseInput"),
            "RefuseInput": fail("InputRefused", "'input is not an address in the bucket ${Bucket}: ' & $job.input"),
            "OneObjectOrPrefix": choose(("$job.one", "NameTheObject"), otherwise="ReadModelName"),
            # As an S3Prefix, a.csv would take a.csv.bak along.
            "NameTheObject": call(
                "aws-sdk:s3:putObject",
                {
                    "Bucket": "${Bucket}",
                    "Key": computed("$job.list_key"),
                    "ContentType": "application/json",
                    "Body": computed("[{'prefix': 's3://${Bucket}/' & $job.directory}, $job.file]"),
                },
                then="ReadModelName",
                retry=_PATIENTLY,
                catch=gave_up,
            ),
            # Every attempt reads it anew: an update of the endpoint replaces the model by one of another name.
            "ReadModelName": call(
                "aws-sdk:ssm:getParameter",
                {"Name": "${ModelNameParameter}"},
                then="CreateJob",
                assign={"model": computed("$states.result.Parameter.Value")},
                retry=_PATIENTLY,
                catch=gave_up,
            ),
            "CreateJob": call(
                "aws-sdk:sagemaker:createTransformJob",
                _job_arguments(settings),
                then="AnnounceJob",
                assign=created,
                retry=[never_retried(_NAME_TAKEN, _NO_INSTANCE_LEFT), *_PATIENTLY],
                catch=[
                    # The answer to an earlier try was lost. The name is ours alone, so it is our job.
                    caught(_NAME_TAKEN, then="AnnounceJob", assign=created),
                    caught(
                        _NO_INSTANCE_LEFT,
                        then="IsItWorthWaiting",
                        assign={"error": computed("$states.errorOutput"), "queued": computed("$queued + 1")},
                    ),
                    *gave_up,
                ],
            ),
            # The account's instances are all taken, as they are when a hundred files are dropped at once. Not a Retry
            # of the call: the model may be replaced while the job waits.
            "IsItWorthWaiting": choose((f"$queued <= {_TRIES_FOR_INSTANCES}", "WaitForInstances"), otherwise="GiveUp"),
            "WaitForInstances": wait(
                f"$ceil($min([{_QUEUE_FIRST_S} * $power(2, $queued - 1), {_QUEUE_LONGEST_S}]) * (0.5 + $random()))",
                then="ReadModelName",
            ),
            "AnnounceJob": _write_manifest(then="Pause"),
            "Pause": wait("$pause", then="LookAtJob"),
            "LookAtJob": call(
                "aws-sdk:sagemaker:describeTransformJob",
                {"TransformJobName": computed("$job.name & '-' & $string($attempt)")},
                then="HasItEnded",
                assign={
                    "seen": computed("$states.result"),
                    "pause": computed(f"$min([$pause + {_POLL_STEP_S}, {_POLL_LONGEST_S}])"),
                },
                retry=_PATIENTLY,
                catch=gave_up,
            ),
            "HasItEnded": choose(
                ("$seen.TransformJobStatus in ['InProgress', 'Stopping']", "Pause"),
                (
                    # Of a ClientError the input is the cause, and the next attempt would fail as well.
                    f"$seen.TransformJobStatus = 'Failed' and $attempt <= {settings.retries} and"
                    " $not($exists($seen.FailureReason) and $contains($seen.FailureReason, /^ClientError/))",
                    "PauseBeforeNextAttempt",
                ),
                otherwise="WriteManifest",
            ),
            "PauseBeforeNextAttempt": wait(
                f"$ceil({_RETRY_FIRST_S} * $power(2, $attempt - 1) * (0.5 + $random()))",
                then="NextAttempt",
            ),
            "NextAttempt": compute({"attempt": computed("$attempt + 1")}, then="ReadModelName"),
            "GiveUp": compute(
                {
                    "seen": computed(
                        "$merge([$seen, {'TransformJobStatus': 'Failed',"
                        " 'FailureReason': $error.Error & ': ' & $error.Cause}])"
                    )
                },
                then="WriteManifest",
            ),
            "WriteManifest": _write_manifest(then="Notify"),
            "Notify": call(
                "sns:publish",
                {
                    "TopicArn": "${Topic}",
                    # At most 100 printable ASCII characters; both parts are. Source: API reference, SNS Publish.
                    "Subject": computed("$substring($seen.TransformJobStatus & ': ' & $job.name, 0, 100)"),
                    "Message": computed(f"$string({_MANIFEST}, true)"),
                },
                then="HowDidItEnd",
                retry=_PATIENTLY,
                # The manifest says it too.
                catch=[caught(ANY_ERROR, then="HowDidItEnd")],
            ),
            "HowDidItEnd": choose(("$seen.TransformJobStatus = 'Completed'", "Done"), otherwise="JobFailed"),
            "Done": succeed(),
            "JobFailed": fail(
                "JobFailed",
                "$exists($seen.FailureReason) ? $seen.FailureReason : 'the job was stopped'",
            ),
        },
        timeout_s=_TIMEOUT_S,
    )


# Throttling and the short failures of a service have no name in common; what can never work fails six times in vain.
_PATIENTLY = [retried(ANY_ERROR, attempts=6, first_s=2, longest_s=60)]
_NAME_TAKEN = "SageMaker.ResourceInUseException"
_NO_INSTANCE_LEFT = "SageMaker.ResourceLimitExceededException"

_MANIFEST = """{
    'job': $job.name & '-' & $string($attempt),
    'status': $seen.TransformJobStatus,
    'attempt': $attempt,
    'model': $model = '' ? null : $model,
    'input': $job.input,
    'output': $job.output_address,
    'content_type': $job.content_type,
    'submitted_at': $exists($seen.CreationTime) ? $seen.CreationTime : null,
    'started_at': $exists($seen.TransformStartTime) ? $seen.TransformStartTime : null,
    'ended_at': $exists($seen.TransformEndTime) ? $seen.TransformEndTime : null,
    'failure_reason': $exists($seen.FailureReason) ? $seen.FailureReason : null,
    'execution': $states.context.Execution.Id
}"""


def _request(settings: JobSettings) -> dict[str, object]:
    """The request, taken apart. `$job` holds strings inside an object, as Step Functions hands them on unchanged."""
    # Two hyphens and up to two digits of the attempt stand beside it.
    room = _LONGEST_JOB_NAME - len(settings.name_prefix) - 4
    expression = f"""(
        $request := $states.input;
        $key := $substringAfter($request.input, 's3://${{Bucket}}/');
        $file := $split($key, '/')[-1];
        $one := $file != '';
        $directory := $substring($key, 0, $length($key) - $length($file));
        $below := $substring($directory, 0, {len(BATCH_INPUT_PREFIX)}) = '{BATCH_INPUT_PREFIX}'
            ? $substring($directory, {len(BATCH_INPUT_PREFIX)}) : $directory;
        $output := $exists($request.output)
            ? $substringAfter($request.output, 's3://${{Bucket}}/') : '{BATCH_OUTPUT_PREFIX}' & $below;
        $gzip := $contains($file, /[.]gz$/i);
        $plain := $gzip ? $substring($file, 0, $length($file) - 3) : $file;
        $ending := $contains($plain, '.') ? $lowercase($split($plain, '.')[-1]) : '';
        $known := $lookup({json.dumps(dict(settings.content_types))}, $ending);
        $content_type := $exists($request.content_type) ? $request.content_type
            : $exists($known) ? $known : {json.dumps(settings.default_content_type)};
        $media_type := $lowercase($trim($split($content_type, ';')[0]));
        $called := $replace($states.context.Execution.Name, /[^a-zA-Z0-9]+/, '-');
        $short := $length($called) <= {room} ? $called
            : $substring($called, 0, {room - 17}) & '-' &
              $substring($hash($states.context.Execution.Name, 'SHA-256'), 0, 16);
        {{
            'name': '{settings.name_prefix}-' & $short,
            'ours': $substring($request.input, 0, $length('s3://${{Bucket}}/')) = 's3://${{Bucket}}/',
            'one': $one,
            'input': $request.input,
            'directory': $directory,
            'file': $file,
            'list_key': '{BATCH_MANIFESTS_PREFIX}' & $short & '.json',
            'output': 's3://${{Bucket}}/' & $output,
            'output_address': 's3://${{Bucket}}/' & $output & ($one ? $file & '.out' : ''),
            'manifest_key': $output & ($one ? $file & '.job.json' : 'job.json'),
            'compression': $gzip ? 'Gzip' : 'None',
            'content_type': $content_type,
            'split': $exists($request.split) ? $request.split
                : $media_type in {json.dumps(IN_LINES)} ? 'Line' : 'None',
            'join_source': $exists($request.join_source) ? $request.join_source : {json.dumps(settings.join_source)},
            'input_filter': $exists($request.input_filter) ? $request.input_filter
                : {json.dumps(settings.input_filter)},
            'output_filter': $exists($request.output_filter) ? $request.output_filter
                : {json.dumps(settings.output_filter)},
            'environment': $exists($request.served_model) ? {{ '{_SERVED_MODEL}': $request.served_model }} : {{}}
        }}
    )"""
    return {
        "job": computed(expression),
        "attempt": 1,
        "queued": 0,
        "model": "",
        "seen": {"TransformJobStatus": "NotCreated"},
    }


def _job_arguments(settings: JobSettings) -> dict[str, object]:
    arguments: dict[str, object] = {
        "TransformJobName": computed("$job.name & '-' & $string($attempt)"),
        "ModelName": computed("$model"),
        "Environment": computed("$job.environment"),
        "TransformInput": {
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": computed("$job.one ? 'ManifestFile' : 'S3Prefix'"),
                    "S3Uri": computed("$job.one ? 's3://${Bucket}/' & $job.list_key : $job.input"),
                }
            },
            "ContentType": computed("$job.content_type"),
            "CompressionType": computed("$job.compression"),
            "SplitType": computed("$job.split"),
        },
        "TransformOutput": {
            "S3OutputPath": computed("$job.output"),
            # Records come back as they went in, as lines and joins need them; */* lets the model choose.
            "Accept": computed(
                "$job.split = 'Line' or $job.join_source = 'Input' or $job.output_filter != '$'"
                " ? $job.content_type : '*/*'"
            ),
            "AssembleWith": computed("$job.split = 'Line' ? 'Line' : 'None'"),
        }
        | ({"KmsKeyId": settings.output_key_arn} if settings.output_key_arn else {}),
        # Without any of them these are what the service takes anyway (None, and twice the whole record).
        "DataProcessing": {
            "InputFilter": computed("$job.input_filter"),
            "JoinSource": computed("$job.join_source"),
            "OutputFilter": computed("$job.output_filter"),
        },
        "TransformResources": {
            "InstanceType": settings.instance_type,
            "InstanceCount": settings.instance_count,
        }
        | ({"VolumeKmsKeyId": settings.volume_key_arn} if settings.volume_key_arn else {}),
        "Tags": [{"Key": key, "Value": value} for key, value in settings.tags.items()],
    }
    if settings.max_payload_mib is not None:
        arguments["MaxPayloadInMB"] = settings.max_payload_mib
    if settings.max_concurrent is not None:
        arguments["MaxConcurrentTransforms"] = settings.max_concurrent
    return arguments


def _write_manifest(*, then: str) -> State:
    return call(
        "aws-sdk:s3:putObject",
        {
            "Bucket": "${Bucket}",
            "Key": computed("$job.manifest_key"),
            "ContentType": "application/json",
            "Body": computed(_MANIFEST),
        },
        then=then,
        retry=_PATIENTLY,
        # The job itself and the message about its end are worth more than the file.
        catch=[caught(ANY_ERROR, then=then)],
    )
