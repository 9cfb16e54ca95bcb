"""Hyperparameter tuning jobs through plain boto3, and the rules by which they choose."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud import training
from tests.local_cloud.conftest import Account, await_true
from tidegate.local_cloud.sagemaker.jobs.tuning_ranges import drawn, grid, size

SCORES = """
import argparse
parser = argparse.ArgumentParser()
for name in ("depth", "rate", "kind", "base"):
    parser.add_argument(f"--{name}", default="0")
given = parser.parse_args()
if given.kind == "broken":
    raise SystemExit("broken")
print(f"score={float(given.base) + float(given.depth)};", flush=True)
"""
pytestmark = pytest.mark.timeout(1200)  # each wait has its own limit

METRICS = [{"Name": "score", "Regex": "score=([0-9.]+);"}]


def start(account: Account, config: dict[str, Any], script: str = SCORES, **members: Any) -> str:
    """Starts a job and returns its name; `config` is put over that of a random search."""
    asked = training.request(account, script, AlgorithmSpecification={"MetricDefinitions": METRICS})
    name = account.name("tuning")
    resources = members.pop("resources", {"ResourceConfig": asked["ResourceConfig"]})
    definition = {
        "StaticHyperParameters": asked["HyperParameters"] | members.pop("StaticHyperParameters", {}),
        **{member: asked[member] for member in ("AlgorithmSpecification", "RoleArn", "OutputDataConfig")},
        **resources,
        "StoppingCondition": asked["StoppingCondition"],
    }
    account.sagemaker.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name,
        HyperParameterTuningJobConfig={
            "Strategy": "Random",
            "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "score"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 2, "MaxParallelTrainingJobs": 2},
            "ParameterRanges": {"IntegerParameterRanges": [{"Name": "depth", "MinValue": "1", "MaxValue": "100"}]},
            **config,
        },
        TrainingJobDefinition=definition,
        **members,
    )
    return name


def described(account: Account, name: str) -> dict[str, Any]:
    description: dict[str, Any] = account.sagemaker.describe_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name
    )
    return description


def ended(account: Account, name: str) -> dict[str, Any]:
    description: dict[str, Any] = {}

    def is_over() -> bool:
        description.clear()
        description.update(described(account, name))
        return description["HyperParameterTuningJobStatus"] not in ("InProgress", "Stopping")

    await_true(is_over, f"tuning job {name} ends", timeout_s=training.LIMIT_S)
    return description


def trials(account: Account, name: str, **members: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = account.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name, **members
    )["TrainingJobSummaries"]
    return found


def test_a_random_search_finds_its_best_training_job_by_the_final_metric(account: Account) -> None:
    name = start(
        account, {"RandomSeed": 7}, StaticHyperParameters={"base": "0.5"}, Tags=[{"Key": "team", "Value": "blue"}]
    )
    job = ended(account, name)
    assert job["HyperParameterTuningJobStatus"] == "Completed", job
    found = trials(account, name, SortBy="FinalObjectiveMetricValue", SortOrder="Descending")
    values = [item["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for item in found]
    assert values == sorted(values, reverse=True)
    assert values == [float(item["TunedHyperParameters"]["depth"]) + 0.5 for item in found]
    best = job["BestTrainingJob"]
    assert best["TrainingJobName"] == found[0]["TrainingJobName"]
    assert best["TrainingJobName"].startswith(f"{name}-00")
    assert job["TrainingJobStatusCounters"]["Completed"] == 2
    assert job["ObjectiveStatusCounters"] == {"Succeeded": 2, "Pending": 0, "Failed": 0}
    child = training.described(account, best["TrainingJobName"])
    assert child["TuningJobArn"] == job["HyperParameterTuningJobArn"]
    assert child["HyperParameters"]["_tuning_objective_metric"] == "score"
    assert account.sagemaker.list_tags(ResourceArn=job["HyperParameterTuningJobArn"])["Tags"][0]["Value"] == "blue"
    listed = account.sagemaker.list_hyper_parameter_tuning_jobs(NameContains=name)["HyperParameterTuningJobSummaries"]
    assert name in [item["HyperParameterTuningJobName"] for item in listed]


def test_a_grid_tries_every_combination_and_a_job_that_fails_is_no_candidate(account: Account) -> None:
    ranges = [{"Name": "depth", "Values": ["3", "2"]}, {"Name": "kind", "Values": ["good", "broken"]}]
    name = start(
        account,
        {
            "Strategy": "Grid",
            "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "score"},
            "ResourceLimits": {"MaxParallelTrainingJobs": 1},
            "ParameterRanges": {"CategoricalParameterRanges": ranges},
        },
        resources={
            "HyperParameterTuningResourceConfig": {
                "AllocationStrategy": "Prioritized",
                "InstanceConfigs": [
                    {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 5},
                    {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 5},
                ],
            }
        },
    )
    job = ended(account, name)
    assert job["HyperParameterTuningJobStatus"] == "Completed", job
    assert job["BestTrainingJob"]["TunedHyperParameters"] == {"depth": "2", "kind": "good"}
    child = training.described(account, job["BestTrainingJob"]["TrainingJobName"])
    assert child["ResourceConfig"] == {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 5}
    assert job["TrainingJobStatusCounters"]["NonRetryableError"] == 2
    tried = [tuple(item["TunedHyperParameters"].values()) for item in trials(account, name, SortBy="Name")]
    assert tried == [("3", "good"), ("3", "broken"), ("2", "good"), ("2", "broken")]


def test_a_target_that_is_reached_ends_the_search(account: Account) -> None:
    limits = {"MaxNumberOfTrainingJobs": 50, "MaxParallelTrainingJobs": 1}
    criteria = {"TargetObjectiveMetricValue": 1.0}
    name = start(account, {"ResourceLimits": limits, "TuningJobCompletionCriteria": criteria})
    job = ended(account, name)
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert len(trials(account, name)) == 1


def test_a_search_that_is_stopped_stops_its_training_job(account: Account) -> None:
    name = start(account, {}, script="import time\nwhile True: time.sleep(0.05)\n")
    await_true(lambda: bool(trials(account, name)), "the first training job is there")
    account.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    job = ended(account, name)
    assert job["HyperParameterTuningJobStatus"] == "Stopped"
    assert [item["TrainingJobStatus"] for item in trials(account, name)] == ["Stopped"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("raise SystemExit(1)", "All training jobs failed."),
        ("print('no score')", "ClientError: no training job has written the objective metric score"),
    ],
)
def test_a_search_without_a_best_training_job_says_why(account: Account, script: str, reason: str) -> None:
    job = ended(account, start(account, {}, script=script))
    assert job["HyperParameterTuningJobStatus"] == "Failed"
    assert job["FailureReason"].startswith(reason)
    assert "BestTrainingJob" not in job


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            {"HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "other"}},
            "A metric is required for this hyperparameter tuning job objective. Provide a metric in the metric"
            " definitions.",
        ),
        (
            {"ParameterRanges": {"IntegerParameterRanges": [{"Name": "depth", "MinValue": "1", "MaxValue": "x"}]}},
            "MinValue and MaxValue of depth must be whole numbers; they are 1 and x.",
        ),
        (
            {"Strategy": "Grid"},
            "The strategy Grid takes CategoricalParameterRanges only, and depth is in IntegerParameterRanges.",
        ),
        ({"ResourceLimits": {"MaxParallelTrainingJobs": 1}}, "The strategy Random needs MaxNumberOfTrainingJobs."),
        (
            {
                "ParameterRanges": {
                    "CategoricalParameterRanges": [{"Name": "sagemaker_program", "Values": ["a.py", "b.py"]}]
                }
            },
            "These hyperparameters are static and have a range as well: sagemaker_program.",
        ),
        (
            {"Strategy": "Hyperband"},
            "The local cloud does not have the strategy Hyperband"
            " (HyperParameterTuningJobConfig.Strategy=Hyperband of CreateHyperParameterTuningJob).",
        ),
    ],
)
def test_a_search_that_contradicts_itself_is_refused(account: Account, config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ClientError) as caught:
        start(account, config)
    assert caught.value.response["Error"] == {"Code": "ValidationException", "Message": sentence}


def test_draws_stay_in_their_ranges_and_are_the_same_for_the_same_seed() -> None:
    ranges = {
        "IntegerParameterRanges": [
            {"Name": "depth", "MinValue": "-3", "MaxValue": "3"},
            {"Name": "width", "MinValue": "1", "MaxValue": "1000", "ScalingType": "Logarithmic"},
        ],
        "ContinuousParameterRanges": [
            {"Name": "rate", "MinValue": "0.0001", "MaxValue": "1", "ScalingType": "Logarithmic"},
            {"Name": "momentum", "MinValue": "0.5", "MaxValue": "0.999", "ScalingType": "ReverseLogarithmic"},
        ],
        "CategoricalParameterRanges": [{"Name": "kind", "Values": ["a", "b"]}],
    }
    found = list(drawn(ranges, seed=3, count=300))
    assert found == list(drawn(ranges, seed=3, count=300))
    assert found != list(drawn(ranges, seed=4, count=300))
    assert {int(item["depth"]) for item in found} == set(range(-3, 4))
    assert {item["kind"] for item in found} == {"a", "b"}
    assert all(1 <= int(item["width"]) <= 1000 for item in found)
    # On a logarithmic scale half of the draws lie below the geometric middle.
    assert 100 < sum(float(item["rate"]) < 0.01 for item in found) < 200
    assert 100 < sum(1 - float(item["momentum"]) < (0.5 * 0.001) ** 0.5 for item in found) < 200


def test_a_grid_has_every_combination_once() -> None:
    ranges = {"CategoricalParameterRanges": [{"Name": "a", "Values": ["1", "2"]}, {"Name": "b", "Values": ["x"]}]}
    assert list(grid(ranges)) == [{"a": "1", "b": "x"}, {"a": "2", "b": "x"}]
    assert size(ranges) == 2
    many = [{"Name": str(number), "Values": [str(value) for value in range(30)]} for number in range(30)]
    assert size({"CategoricalParameterRanges": many}) == 30**30, "nobody waits until they are counted"
