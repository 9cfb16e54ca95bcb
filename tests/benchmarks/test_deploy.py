"""The report of the deploy benchmark: what counts towards the goal, and what each step's line says."""

from __future__ import annotations

import pytest

from benchmarks.deploy import GOAL_S, Step, _parts, markdown


def step(name: str, wall_s: float, repetition: int = 0, **parts_s: float) -> Step:
    return Step(repetition=repetition, name=name, wall_s=wall_s, cpu_s=1.0, foreign_cores=0.25, parts_s=parts_s)


@pytest.mark.parametrize(("deploy_s", "verdict"), [(GOAL_S - 6, "reached"), (GOAL_S - 4, "**missed**")])
def test_bootstrap_and_deploy_count_together_and_nothing_else_does(deploy_s: float, verdict: str) -> None:
    steps = [
        step("local cloud up", 100),
        step("cdk bootstrap", 5),
        step("cdk deploy", deploy_s),
        step("cdk destroy", 9),
    ]
    report = markdown(steps, {"cores": "2"}, "python -m benchmarks deploy")
    (line,) = [line for line in report.splitlines() if line.startswith("| bootstrap and deploy")]
    assert f"{5 + deploy_s:.1f} s" in line
    assert line.endswith(f"| {verdict} |")


def test_a_step_shows_its_median_range_and_parts() -> None:
    steps = [step("cdk deploy", wall_s, number, synthesis=wall_s / 2) for number, wall_s in enumerate((10, 30, 12))]
    report = markdown([step("cdk bootstrap", 1, number) for number in range(3)] + steps, {}, "c")
    (line,) = [line for line in report.splitlines() if line.startswith("| cdk deploy")]
    assert line == "| cdk deploy | 12.0 | 10.0 to 30.0 | 1.0 | 0.25 | synthesis 6.0 |"


def test_the_command_lines_own_times_are_read_off() -> None:
    said = "✨  Synthesis time: 6.52s\n✅ a\n✨  Deployment time: 0.13s\n✅ b\n✨  Deployment time: 2.35s\n"
    assert _parts(said) == {"synthesis": 6.52, "stacks": pytest.approx(2.48)}
