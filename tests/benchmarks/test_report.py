"""The report, from records."""

from __future__ import annotations

from benchmarks.grid import Failure
from benchmarks.report import Results, markdown, table
from tests.benchmarks.records import cell, trial


def results(**values: object) -> Results:
    return Results(command="python -m benchmarks serving", machine={"CPU": "two cores"}, settings={}, **values)  # type: ignore[arg-type]


def test_goals_and_ratios_come_before_absolute_figures() -> None:
    text = markdown(results(cells=[cell("tidegate", per_s=200.0), cell("mosec", per_s=100.0)]))
    assert text.index("## Goals") < text.index("over each peer") < text.index("## W0")
    assert "2.00 x" in text


def test_a_figure_that_was_taken_in_noise_is_marked() -> None:
    text = markdown(results(cells=[cell("tidegate", per_s=200.0), cell("mosec", per_s=100.0, foreign_cores=0.9)]))
    assert "~100 ·" in text
    assert "~200 ·" not in text


def test_the_control_says_how_large_a_difference_means_nothing() -> None:
    cells = [cell("tidegate", per_s=90.0), cell("tidegate again", per_s=100.0)]
    assert "go from 0.90 to 0.90" in markdown(results(cells=cells))


def test_a_server_that_could_not_be_measured_is_named_with_its_error() -> None:
    text = markdown(results(failures=[Failure(label="litserve", part="install", error="no such | release\nat all")]))
    assert "| litserve | install | no such / release at all |" in text


def test_the_best_shape_is_the_fastest_one_of_each_column() -> None:
    cells = [cell(f"mosec {shape}", per_s=rate) for shape, rate in (("2x1 b8", 30.0), ("1x2 b1", 40.0))]
    shaped = [
        cells[0],
        type(cells[1])(**{name: getattr(cells[1], name) for name in cells[1].__slots__} | {"shape": "1x2 b1"}),
    ]
    assert "| mosec | 40.0 (1x2 b1) |" in markdown(results(shape_cells=shaped))


def test_a_trial_shows_its_values_and_leaves_out_what_another_did_not_have() -> None:
    text = markdown(results(trials=[trial("kill", failed=0, outcomes={"200": 7}), trial("kill", "mosec", failed=2)]))
    assert "| tidegate | 0 | 200: 7 |" in text
    assert "| mosec | 2 |  |" in text


def test_a_table_has_a_line_for_each_row() -> None:
    assert table(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
