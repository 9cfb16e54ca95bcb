"""The workflows of GitHub Actions that users copy, and the roles they take on: linted, and held against the project."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
ROLES = ROOT / "infra" / "github_roles.yaml"


def tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name(name), *arguments], capture_output=True, text=True, check=False
    )


def zizmor(folder: Path) -> subprocess.CompletedProcess[str]:
    """The security audit for workflows, without asking GitHub."""
    return tool("zizmor", "--offline", "--no-progress", "--persona=pedantic", "--strict-collection", folder)


def schema(*workflows: Path) -> subprocess.CompletedProcess[str]:
    """GitHub's own schema of a workflow."""
    return tool("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)


def parsed(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


def jobs() -> list[tuple[str, str, dict[str, Any]]]:
    return [(path.name, name, job) for path in WORKFLOWS for name, job in parsed(path)["jobs"].items()]


def commands() -> str:
    return "\n".join(step["run"] for _, _, job in jobs() for step in job.get("steps", ()) if "run" in step)


def test_the_workflows_pass_the_audit_and_the_schema() -> None:
    audit, form = zizmor(FOLDER), schema(*WORKFLOWS)

    assert len(WORKFLOWS) == 4
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert form.returncode == 0, form.stdout + form.stderr


@pytest.mark.parametrize(
    ("right", "wrong", "finding"),
    [
        ("actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1", "actions/checkout@v7", "unpinned-uses"),
        ("          persist-credentials: false\n", "          fetch-depth: 1\n", "artipacked"),
        ("permissions: {}", "permissions: write-all", "excessive-permissions"),
        ('-c stage="$STAGE"', '-c stage="${{ inputs.stage }}"', "template-injection"),
    ],
)
def test_the_audit_would_find_a_hole(right: str, wrong: str, finding: str, tmp_path: Path) -> None:
    copy = tmp_path / ".github" / "workflows"
    shutil.copytree(FOLDER, copy)
    path = copy / "deploy.yml"
    text = path.read_text()
    assert right in text
    path.write_text(text.replace(right, wrong))

    audit = zizmor(copy)

    assert audit.returncode != 0
    assert finding in audit.stdout


def test_the_schema_would_find_a_mistyped_key(tmp_path: Path) -> None:
    path = tmp_path / "check.yml"
    path.write_text((FOLDER / "check.yml").read_text().replace("runs-on:", "run-on:"))

    assert schema(path).returncode != 0


def test_every_action_is_pinned_by_its_commit_with_its_version_beside_it() -> None:
    used = [
        line.strip() for path in WORKFLOWS for line in path.read_text().splitlines() if re.search(r"\buses: [^.]", line)
    ]

    assert len(used) >= 8
    for line in used:
        assert re.fullmatch(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line
    pins = {tuple(re.findall(r"uses: (\S+)@(\S+)", line)[0]) for line in used}
    assert len(pins) == len({action for action, _ in pins}), "one action, one version"


def test_every_job_has_an_end_and_no_more_rights_than_it_names() -> None:
    for file, name, job in jobs():
        where = f"{file}: {name}"
        assert "uses" in job or job["timeout-minutes"] <= 120, where
        assert job["permissions"], where
    for path in WORKFLOWS:
        assert parsed(path)["permissions"] == {}


def test_only_jobs_that_become_a_role_get_an_identity_and_none_of_them_may_write() -> None:
    for file, name, job in jobs():
        uses = " ".join(step.get("uses", "") for step in job.get("steps", ()))
        becomes_a_role = "aws-actions/configure-aws-credentials" in uses
        assert ("id-token" in job["permissions"]) is becomes_a_role, f"{file}: {name}"
        writes = {right for right, kind in job["permissions"].items() if kind == "write"} - {"id-token"}
        assert not (writes and ("steps" in job and any("checkout" in s.get("uses", "") for s in job["steps"])))


def test_no_long_lived_key_is_asked_for() -> None:
    text = "\n".join(path.read_text() for path in WORKFLOWS)

    assert "secrets." not in text
    assert not re.search(r"aws[-_]secret|access[-_]key", text, re.IGNORECASE)


def test_pull_requests_of_strangers_reach_no_account() -> None:
    comparing = parsed(FOLDER / "diff.yml")["jobs"]["diff"]["if"]

    assert "github.event.pull_request.head.repo.full_name == github.repository" in comparing
    for path in WORKFLOWS:
        assert "pull_request_target" not in path.read_text()


def test_a_deployment_waits_for_the_one_before_it_and_is_never_broken_off() -> None:
    deploy = parsed(FOLDER / "deploy.yml")

    assert deploy["concurrency"]["cancel-in-progress"] is False
    assert "inputs.stage" in deploy["concurrency"]["group"]
    assert deploy["jobs"]["deploy"]["needs"] == "check"
    assert deploy["jobs"]["deploy"]["environment"], "approval is asked for by the environment"


def test_what_was_deployed_is_compared_with_what_is_served() -> None:
    steps = [step.get("run", "") for step in parsed(FOLDER / "deploy.yml")["jobs"]["deploy"]["steps"]]
    (deploying,) = (number for number, script in enumerate(steps) if "cdk deploy" in script)

    assert any('tidegate served --stage "$STAGE"' in script for script in steps[deploying + 1 :])


def test_an_image_is_judged_by_its_scan_before_its_digest_is_told() -> None:
    steps = [step.get("run", "") for step in parsed(FOLDER / "image.yml")["jobs"]["image"]["steps"]]
    at = {
        what: next(number for number, script in enumerate(steps) if what in script)
        for what in ("image push", "image scan", "GITHUB_STEP_SUMMARY")
    }

    assert list(at.values()) == sorted(at.values())
    assert "set -e" not in "".join(steps), "each step ends the job by itself"


def test_every_command_of_infra_in_the_workflows_is_taken_with_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is parsed by its own parser: what it would do then is a stage that is not there."""
    from tidegate.infra import __main__ as infra

    lines = re.findall(r"^ *tidegate ([^|\n]+)", commands(), re.MULTILINE)
    assert len(lines) == 3
    for line in lines:
        words = line.replace('"', "").replace("$FAIL_ON", "high").replace("$DIGEST", f"sha256:{'0' * 64}").split()
        monkeypatch.setattr(sys, "argv", ["infra", *["nosuch" if word == "$STAGE" else word for word in words]])
        assert infra.main() == 1, line


@pytest.mark.parametrize(("words", "status"), [([], 2), (["--help"], 0), (["-h"], 0)])
def test_without_a_command_there_is_a_list_of_them_with_what_each_is_for(
    words: list[str], status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only `cdk` wants templates, and says where to."""
    from tidegate.infra import __main__ as infra

    monkeypatch.delenv("CDK_OUTDIR", raising=False)
    monkeypatch.setattr(sys, "argv", ["infra", *words])
    assert infra.main() == status
    out, err = capsys.readouterr()
    listed = err if status else out
    for command in ("doctor", "image", "keys", "models", "schema", "served", "smoke"):
        assert re.search(rf"^  {command} +\S+ \S+", listed, re.MULTILINE)
    assert "Traceback" not in err


def test_every_make_target_stage_and_context_key_of_the_workflows_exists() -> None:
    from tidegate.infra.stage.context import KEYS

    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    stages = {path.stem for path in (ROOT / "infra" / "stages").glob("*.toml")}
    # YAML reads the key `on` as true.
    inputs = parsed(FOLDER / "deploy.yml")[True]["workflow_dispatch"]["inputs"]

    assert set(re.findall(r"make (\w+)", commands())) <= targets
    assert set(inputs["stage"]["options"]) <= stages
    pushed = parsed(FOLDER / "image.yml")[True]["workflow_dispatch"]["inputs"]
    assert pushed["stage"]["options"] == inputs["stage"]["options"]
    assert set(re.findall(r"-c (\w+)=", commands())) <= set(KEYS)
    assert set(inputs) - {"stage"} <= set(KEYS)


def test_every_script_of_the_workflows_is_one_that_bash_can_read() -> None:
    scripts = [step["run"] for _, _, job in jobs() for step in job.get("steps", ()) if "run" in step]

    assert len(scripts) >= 6
    for script in scripts:
        checked = subprocess.run(
            ["/usr/bin/env", "bash", "-n"], input=script, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stderr


class _Template(yaml.SafeLoader):
    """CloudFormation's short forms, such as `!Sub`, read as what stands behind them."""


def _behind(loader: yaml.SafeLoader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node)
    raise TypeError(node)


_Template.add_multi_constructor("!", _behind)


def roles() -> dict[str, dict[str, Any]]:
    template = yaml.load(ROLES.read_text(), _Template)  # noqa: S506 - a subclass of the safe loader
    return {
        name: resource["Properties"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::IAM::Role"
    }


def test_the_roles_pass_cfn_lint() -> None:
    lint = tool("cfn-lint", ROLES)

    assert lint.returncode == 0, lint.stdout + lint.stderr


def rights(role: str) -> dict[str, set[str]]:
    """The resources of each action of a role."""
    found: dict[str, set[str]] = {}
    for policy in roles()[role]["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            assert statement["Effect"] == "Allow"
            actions, resources = statement["Action"], statement["Resource"]
            for action in [actions] if isinstance(actions, str) else actions:
                found.setdefault(action, set()).update([resources] if isinstance(resources, str) else resources)
    return found


def test_who_deploys_changes_nothing_itself_and_sees_what_its_stage_serves() -> None:
    here = "${AWS::Region}:${AWS::AccountId}"
    name = "${Prefix}-${Environment}"
    found = rights("DeployRole")
    bootstrap = found.pop("sts:AssumeRole")

    assert len(bootstrap) == 4
    assert all(":role/cdk-${Qualifier}-" in arn and "*" not in arn for arn in bootstrap)
    assert found == {
        "ssm:GetParameter": {
            f"arn:${{AWS::Partition}}:ssm:{here}:parameter/${{Prefix}}/${{Environment}}/model-archive"
        },
        "cloudformation:DescribeStacks": {f"arn:${{AWS::Partition}}:cloudformation:{here}:stack/{name}-endpoint/*"},
        "sagemaker:DescribeEndpoint": {
            f"arn:${{AWS::Partition}}:sagemaker:{here}:endpoint/{name}",
            f"arn:${{AWS::Partition}}:sagemaker:{here}:inference-component/{name}",
        },
        "sagemaker:DescribeInferenceComponent": {
            f"arn:${{AWS::Partition}}:sagemaker:{here}:endpoint/{name}",
            f"arn:${{AWS::Partition}}:sagemaker:{here}:inference-component/{name}",
        },
    }


def test_who_pushes_an_image_reaches_the_repository_of_its_stage_and_nothing_else() -> None:
    found = rights("ImageRole")

    assert found.pop("ecr:GetAuthorizationToken") == {"*"}
    assert {"ecr:PutImage", "ecr:DescribeImages", "ecr:DescribeImageScanFindings"} <= found.keys()
    assert {arn for resources in found.values() for arn in resources} == {
        "arn:${AWS::Partition}:ecr:${AWS::Region}:${AWS::AccountId}:repository/${Prefix}-${Environment}"
    }
    assert not {action for action in found if "Delete" in action or "Policy" in action}


def test_the_rights_are_on_what_the_stages_call_their_things() -> None:
    from tidegate.infra.stage.names import Names

    names = Names(prefix="${Prefix}", stage="${Environment}")

    assert any(arn.endswith(f":parameter{names.archive_parameter}") for arn in rights("DeployRole")["ssm:GetParameter"])
    assert any(arn.endswith(f":repository/{names.repository}") for arn in rights("ImageRole")["ecr:PutImage"])
    assert any(f":stack/{names.stack('endpoint')}/" in a for a in rights("DeployRole")["cloudformation:DescribeStacks"])
    assert any(
        arn.endswith(f":endpoint/{names.endpoint}") for arn in rights("DeployRole")["sagemaker:DescribeEndpoint"]
    )


def test_only_the_repositorys_own_jobs_become_the_roles_and_only_those_of_an_environment_deploy() -> None:
    conditions = {name: role["AssumeRolePolicyDocument"]["Statement"][0]["Condition"] for name, role in roles().items()}

    for condition in conditions.values():
        assert set(condition) == {"StringEquals"}, "no pattern, which another repository might match"
        assert condition["StringEquals"]["token.actions.githubusercontent.com:aud"] == "sts.amazonaws.com"
    subjects = {
        name: condition["StringEquals"]["token.actions.githubusercontent.com:sub"]
        for name, condition in conditions.items()
    }
    assert subjects == {
        "DeployRole": "repo:${Repository}:environment:${Environment}",
        "ImageRole": "repo:${Repository}:environment:${Environment}",
        "DiffRole": "repo:${Repository}:pull_request",
    }


def test_who_compares_on_a_pull_request_can_only_read() -> None:
    found = rights("DiffRole")

    assert found.keys() == {"sts:AssumeRole", "ssm:GetParameter"}
    (assumed,) = found["sts:AssumeRole"]
    assert "-lookup-role-" in assumed
    assert found["ssm:GetParameter"] == rights("DeployRole")["ssm:GetParameter"]
