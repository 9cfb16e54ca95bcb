"""The report, from records."""

from __future__ import annotations

from benchmarks.grid import Cell, Failure, Limit
from benchmarks.report import Results, markdown, table
from tests.benchmarks.records import carried, cell, footprint, trial

OURS, OURS_BATCHED, MOSEC_BATCHED = "tidegate", "tidegate, batches of 8", "mosec, batches of 8"


def results(**values: object) -> Results:
    return Results(command="python -m benchmarks serving", machine={"CPU": "two cores"}, settings={}, **values)  # type: ignore[arg-type]


def lines(text: str, start: str) -> list[list[str]]:
    """The cells of the lines of tables that begin with `start`."""
    return [
        [each.strip() for each in line.strip("| ").split(" |")]
        for line in text.splitlines()
        if line.startswith(f"| {start} |")
    ]


def test_the_first_table_has_both_shapes_those_without_batches_first() -> None:
    cells = [cell(label, per_s=per_s) for label, per_s in ((OURS_BATCHED, 4.0), (OURS, 2.0), (MOSEC_BATCHED, 3.0))]
    limits = [Limit(work="W0", batch=8, repetition=0, per_s=9.0, cpu_us=1.0)]
    text = markdown(results(cells=[*cells, cell("fastapi", per_s=1.0)], limits=limits))
    first = text[text.index("## Requests a second") : text.index("## Goals")]
    order = ["| fastapi | 1.00 ", "| **tidegate** | 2.00 ", "| mosec, batches of 8 | 3.00 "]
    order += ["| **tidegate, batches of 8** | 4.00 ", "| bare loop, batch 8 | 9.00 "]
    places = [first.index(each) for each in order]
    assert places == sorted(places)


def test_goals_and_ratios_come_before_the_figures_of_each_work() -> None:
    text = markdown(results(cells=[cell(OURS, per_s=200.0), cell("mosec", per_s=100.0)]))
    assert text.index("## Goals") < text.index("over each peer") < text.index("## W0")
    assert "| mosec | 2.00 x |" in text


def test_ours_in_batches_stands_beside_each_server_as_it_is_fastest() -> None:
    """mosec in batches and not without; one that cannot batch as it is; not our own control."""
    cells = [cell(OURS), cell(f"{OURS}, again", per_s=50.0), cell(OURS_BATCHED, per_s=200.0)]
    cells += [cell("mosec"), cell(MOSEC_BATCHED, per_s=400.0), cell("torchserve", per_s=10.0)]
    text = markdown(results(cells=cells))
    below = text[text.index(f"| {OURS_BATCHED} over |") : text.index("The control")]
    assert below.splitlines()[2:] == ["| mosec, batches of 8 | 0.500 x |", "| torchserve | 20.0 x |", ""]
    above = text[text.index(f"| {OURS} over |") : text.index(f"| {OURS_BATCHED} over |")]
    assert "| mosec | 1.00 x |" in above
    assert MOSEC_BATCHED not in above


def test_a_figure_that_was_taken_in_noise_is_marked() -> None:
    text = markdown(results(cells=[cell(OURS, per_s=200.0), cell("mosec", per_s=100.0, foreign_cores=0.9)]))
    assert "~100 ·" in text
    assert "~200 ·" not in text


def test_the_control_says_how_large_a_difference_means_nothing() -> None:
    cells = [cell(OURS, per_s=90.0), cell(f"{OURS}, again", per_s=100.0)]
    assert "go from 0.90 to 0.90" in markdown(results(cells=cells))


def test_fewer_rounds_than_the_goals_are_about_are_no_result() -> None:
    def text(rounds: int) -> str:
        return markdown(results(cells=[cell(each, repetition=n) for each in (OURS, "mosec") for n in range(rounds)]))

    assert "Here some are of 2: a sign, no result." in text(2)
    assert "no result" not in text(3)


def test_a_goal_that_was_not_measured_says_so() -> None:
    assert lines(markdown(results()), "start to the first answer, ResNet-18")[0][-1] == "not measured"


def test_answers_are_no_errors() -> None:
    text = markdown(results(cells=[cell(OURS, outcomes={"200": 7}), cell("mosec", outcomes={"200": 7, "503": 2})]))
    text = text[text.index("## W0") :]
    assert lines(text, "tidegate (2x1 b8)")[0][-1] == "0"
    assert lines(text, "mosec (2x1 b8)")[0][-1] == "503: 2"


def test_the_limit_of_a_frontend_is_a_second_by_its_cpu() -> None:
    found = [carried(OURS, frontend_us=us, repetition=n) for n, us in enumerate((50.0, 40.0, 60.0))]
    row = lines(markdown(results(carried=found)), OURS)[0]
    assert row[:5] == [OURS, "2", "64", "50.0", "20,000"]


def test_start_and_memory_are_medians() -> None:
    found = [footprint("mosec", repetition=n, rest_mib=mib) for n, mib in enumerate((700.0, 710.0, 900.0))]
    assert lines(markdown(results(footprints=found)), "mosec")[0][3] == "710"


def test_a_server_that_could_not_be_measured_is_named_with_its_error() -> None:
    text = markdown(results(failures=[Failure(label="litserve", part="install", error="no such | release\nat all")]))
    assert "| litserve | install | no such / release at all |" in text


def test_the_best_shape_is_the_one_with_the_best_median() -> None:
    """The shapes of the grid compete; a work that no other shape was tried with is left out."""

    def of_shape(label: str, shape: str, *rates: float) -> list[Cell]:
        return [cell(label, "W2", per_s=rate, repetition=n, shape=shape) for n, rate in enumerate(rates)]

    grid = [*of_shape(MOSEC_BATCHED, "2x1 b8", 30.0, 30.0, 99.0), *of_shape("fastapi", "2x1 b1", 50.0), cell("mosec")]
    others = [*of_shape("mosec", "1x2 b1", 40.0, 40.0, 40.0), *of_shape("fastapi", "1x2 b1", 20.0)]
    text = markdown(results(cells=grid, shape_cells=others))
    below = text[text.index("## Each at its best shape") :]
    assert below.splitlines()[4:] == [
        "| server | W2 c32 |",
        "| --- | --- |",
        "| fastapi | 50.0 (2x1 b1) |",
        "| mosec | 40.0 (1x2 b1) |",
    ]


def test_a_server_that_was_measured_less_often_than_the_others_says_so() -> None:
    cells = [*(cell("mosec", repetition=n) for n in range(3)), cell("litserve")]
    text = markdown(results(cells=cells))
    assert "| litserve (1 of 3 rounds) |" in text
    assert "| mosec | 100 |" in text


def test_a_trial_shows_its_values_and_leaves_out_what_another_did_not_have() -> None:
    text = markdown(results(trials=[trial("kill", failed=0, outcomes={"200": 7}), trial("kill", "mosec", failed=2)]))
    assert "| tidegate | 0 | 200: 7 |" in text
    assert "| mosec | 2 |  |" in text


def test_a_table_has_a_line_for_each_row() -> None:
    assert table(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
