"""Pictures are measured beside a control of the same round, and the page says whether the goal is reached."""

from __future__ import annotations

from benchmarks import images


def test_a_ratio_is_formed_within_a_round_and_its_median_counts() -> None:
    times = {"control": [1.0, 2.0, 4.0], "ours": [2.0, 2.0, 12.0]}
    control, ours = images.judge(times, "control")
    assert (control.ratio, ours.ratio, ours.milliseconds) == (1.0, 2.0, 2000.0)


def test_everything_is_done_once_in_each_round_and_once_before() -> None:
    calls: list[str] = []
    times = images.measure({name: lambda name=name: calls.append(name) for name in "abc"}, 4)
    assert sorted(calls) == sorted("abc" * 5)
    assert {len(each) for each in times.values()} == {4}


def test_what_is_measured_runs_and_agrees_about_the_labels() -> None:
    for work in (images.palette_work(), images.file_work()):
        for each in work.values():
            each()


def test_the_page_says_whether_the_goal_is_reached() -> None:
    for seconds, verdict in ((1.9, "1.90 x, reached"), (2.1, "2.10 x, not reached")):
        measured = images.judge({images.CONTROL: [1.0], 'labels "error"': [seconds]}, images.CONTROL)
        assert verdict in images.report({"CPU": "one", "Java": "none"}, measured, measured)
