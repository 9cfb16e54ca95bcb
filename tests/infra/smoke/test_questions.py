"""What follows from what was seen, and what a report says of it: no account is asked here."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.infra.conftest import ROOT
from tests.infra.state_machines import ACCOUNT, REGION
from tidegate.infra.configuration import ConfigurationError
from tidegate.infra.configuration.hosting import RealtimeHosting
from tidegate.infra.smoke import archives, report
from tidegate.infra.smoke.plan import Plan, plan
from tidegate.infra.smoke.questions import QUESTIONS, START, Question, Verdict, judged, unsettled
from tidegate.infra.smoke.seen import Seen, Standing
from tidegate.infra.stage import stage_file

BY_NAME = {question.name: question for question in QUESTIONS}


def standing(**changes: Any) -> Standing:
    """An endpoint that serves what it had before."""
    own = {"status": "InService", "config": "config-1", "why": "", "changed": "t1", "instances": 1, "scalable": 0}
    return Standing(**own | changes)


def seen(**changes: Any) -> Seen:
    """An update that went well."""
    own = {
        "what": "an update",
        "seconds": 1.0,
        "stack": "UPDATE_COMPLETE",
        "refused": None,
        "failures": (),
        "wanted_config": "config-2",
        "wanted_model": "model-2",
        "before": standing(),
        "after": standing(config="config-2"),
        "config_from_before_is_there": False,
        "answers": {"one": 5},
    }
    return Seen(**own | changes)


BACK = seen(stack="UPDATE_ROLLBACK_COMPLETE", after=standing(why="it did not start"), failures=("Endpoint: no ping",))
ON_COPIES = standing(component_status="InService", component_model="model-1", component_why="")
COPIED = seen(before=ON_COPIES, after=dataclasses.replace(ON_COPIES, component_model="model-2"))
COPY_BACK = seen(stack="UPDATE_ROLLBACK_COMPLETE", before=ON_COPIES, after=ON_COPIES)


@pytest.mark.parametrize(
    ("name", "saw", "verdict", "words"),
    [
        (
            "broken-model",
            (BACK,),
            Verdict.HOLDS,
            "The stack is UPDATE_ROLLBACK_COMPLETE; the endpoint is InService and serves the configuration from before."
            " None of 5 requests failed. Reasons given: 'Endpoint: no ping'; 'it did not start'.",
        ),
        ("broken-model", (seen(),), Verdict.DOES_NOT_HOLD, "serves the configuration that the template names"),
        (
            "broken-model",
            (dataclasses.replace(BACK, answers={"one": 5, "ModelError": 2, "ValidationError": 1}),),
            Verdict.DOES_NOT_HOLD,
            "Of 8 requests 3 failed (2 x ModelError, 1 x ValidationError).",
        ),
        (
            "broken-model",
            (seen(stack="UPDATE_COMPLETE", after=None),),
            Verdict.DOES_NOT_HOLD,
            "The stack is UPDATE_COMPLETE, and there is no endpoint.",
        ),
        (
            "alarm-rollback",
            (seen(), seen(after=standing(why="an alarm"), config_from_before_is_there=True)),
            Verdict.ANSWERED,
            "The stack is UPDATE_COMPLETE; the endpoint is InService and serves the configuration from before. The "
            "configuration from before is still there.",
        ),
        ("alarm-rollback", (seen(), BACK), Verdict.ANSWERED, "The configuration from before was deleted."),
        (
            "rollout-only",
            (seen(wanted_config="config-1", after=standing(changed="t2")), seen(wanted_config="config-1")),
            Verdict.HOLDS,
            "Its time of change is changed.",
        ),
        (
            "rollout-only",
            (seen(refused="No updates are to be performed", stack="CREATE_COMPLETE"), seen()),
            Verdict.DOES_NOT_HOLD,
            "CloudFormation refused 'an update': No updates are to be performed. Added: The stack is CREATE_COMPLETE;",
        ),
        (
            "scaling-removed",
            (seen(), seen(before=standing(instances=2), after=standing(instances=1))),
            Verdict.ANSWERED,
            "Instances: 2 before, 1 after. Targets that are still scaled: 0.",
        ),
        ("component-update", (COPIED, COPY_BACK), Verdict.HOLDS, "runs the model that the template names"),
        (
            "component-update",
            (COPIED, dataclasses.replace(COPIED, stack="UPDATE_COMPLETE")),
            Verdict.DOES_NOT_HOLD,
            "A model that does not load: The stack is UPDATE_COMPLETE; the component is InService",
        ),
    ],
)
def test_the_verdict_follows_from_what_was_seen(name: str, saw: tuple[Seen, ...], verdict: Verdict, words: str) -> None:
    answer = judged(BY_NAME[name], saw)

    assert (answer.verdict, answer.seen) == (verdict, saw)
    assert words in answer.sentence


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    path = tmp_path / "dev.toml"
    path.write_text(
        '[image]\ntag = "1.4.0"\n[tags]\nteam = "a"\n[hosting]\nmode = "async"\n[retention]\nkeep_data = true\n',
        encoding="utf-8",
    )
    return path


def planned(path: Path, **changes: Any) -> Plan:
    own = {"run": "abcdef", "account": ACCOUNT, "region": REGION, "instance_type": None}
    return plan(stage_file.read(path), **own | changes)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_every_deploy_of_a_question_is_a_stage_that_keeps_nothing_and_bears_the_name_of_the_run(
    question: Question, stage: Path
) -> None:
    for instance_type in (None, "ml.g6.xlarge"):
        run = planned(stage, instance_type=instance_type)
        for move in (START, *question.moves):
            made = run.of(question.mode, move)
            assert made.name in ("sabcdefr", "sabcdefc")
            assert (made.account, made.region, made.bootstrapped) == (ACCOUNT, REGION, False)
            assert not made.retention.keep_data
            assert made.tags == {"team": "a", "tidegate-smoke": "abcdef"}
            assert made.image is not None
            assert made.image.model_dump() == {"uri": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/tidegate-dev:1.4.0"}


def test_a_run_is_in_the_subnets_of_the_stage_and_on_a_processor_that_its_image_is_for(stage: Path) -> None:
    pools = "".join(f'[[hosting.instance_pools]]\ninstance_type = "ml.{size}"\n' for size in ("m8g.large", "c8g.large"))
    network = 'vpc = "vpc-0a1b2c3d"\nsubnets = ["subnet-0a1b2c3d"]\nsecurity_groups = ["sg-0a1b2c3d"]\n'
    stage.write_text(f"{stage.read_text(encoding='utf-8')}{pools}[network]\n{network}", encoding="utf-8")

    made = planned(stage).of("realtime", START)

    assert isinstance(made.hosting, RealtimeHosting)
    assert made.hosting.instance_type == "ml.m8g.large"
    assert made.network == stage_file.read(stage).network


def test_what_is_made_and_that_it_costs_money_is_said_beforehand(stage: Path) -> None:
    said = planned(stage).announcement(QUESTIONS)

    for made in (
        "the stack tidegate-sabcdefr-storage",
        f"tidegate-sabcdefr-data-{ACCOUNT}-{REGION} and tidegate-sabcdefr-logs-{ACCOUNT}-{REGION}",
        "the stack tidegate-sabcdefr-endpoint: a realtime endpoint tidegate-sabcdefr",
        "the stack tidegate-sabcdefc-endpoint: a component endpoint tidegate-sabcdefc",
        "At most 4 instances ml.m5.large run at one time",
        "AWS charges for them",
    ):
        assert made in said
    assert "component" not in planned(stage).announcement(QUESTIONS[:1])


def test_a_stage_whose_image_no_other_could_run_is_refused(stage: Path) -> None:
    text = stage.read_text(encoding="utf-8")
    stage.write_text(text.replace('tag = "1.4.0"', 'build = "."'), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="names no image by tag, digest or uri, and the run needs one"):
        planned(stage)

    stage.write_text(f'account = "210987654321"\n{text}', encoding="utf-8")
    with pytest.raises(ConfigurationError, match=f"of account {ACCOUNT}, and stage dev is in 210987654321"):
        planned(stage)


LIKE_PATHS = "/aws/sagemaker/Endpoints/x and /opt/ml/model/code"


def test_the_report_tells_all_and_no_account_nor_paths_of_this_machine(stage: Path, tmp_path: Path) -> None:
    run = planned(stage)
    telling = dataclasses.replace(BACK, failures=(f"Endpoint: arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/x | y",))
    answers = {
        "broken-model": judged(BY_NAME["broken-model"], [telling]),
        "alarm-rollback": unsettled(BY_NAME["alarm-rollback"], f"see '{tmp_path}/logs/server.log' of {LIKE_PATHS}"),
    }
    path = tmp_path / "smoke.md"
    began = "2026-11-30T12:00:00+00:00"
    report.write(path, report.content(run, answers, began=began, is_local=True, left=[f"bucket of {ACCOUNT}"]))
    text, found = path.read_text(encoding="utf-8"), json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))

    assert ACCOUNT not in text + json.dumps(found)
    assert "settles nothing about AWS" in text
    assert "| left behind | bucket of ACCOUNT |" in text
    assert "| [broken-model](#broken-model) | holds |" in text
    assert "- **not settled**: see '.../server.log' of /aws" in text
    assert [each["verdict"] for each in found["questions"]] == ["holds", "not settled"]
    (once,) = found["questions"][0]["seen"]
    assert (once["stack"], once["before"]["config"]) == ("UPDATE_ROLLBACK_COMPLETE", "config-1")
    assert once["failures"] == [f"Endpoint: arn:aws:sagemaker:{REGION}:ACCOUNT:endpoint/x | y"]

    assert str(tmp_path) not in json.dumps(found)
    assert found["questions"][1]["answer"] == f"see '.../server.log' of {LIKE_PATHS}"

    in_aws = report.markdown(report.content(run, answers, began=began, is_local=False, left=None))
    assert "settles nothing" not in in_aws
    assert "| left behind | not known yet |" in in_aws


def test_every_model_of_the_run_is_used_and_the_pages_have_every_question() -> None:
    used = {move.archive for question in QUESTIONS for move in (START, *question.moves)}
    assert used == set(archives.NAMES)
    for page in ("docs/hosting.md", "docs/pipeline.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for question in QUESTIONS:
            assert f"| `{question.name}`" in text
    for question in QUESTIONS:
        file, _, anchor = question.page.partition("#")
        headings = [line.lstrip("# ").lower() for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
        assert anchor in {heading.replace(",", "").replace(" ", "-") for heading in headings}
