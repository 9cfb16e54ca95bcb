"""What the report on pipelines makes of its rounds."""

from __future__ import annotations

from benchmarks import pipeline


def test_a_speed_is_formed_within_a_round_and_its_median_is_what_counts() -> None:
    """A round in which the machine was slow is slow for all."""
    rounds = [
        {"executor": 1.0, "pipeline": 1.0},
        {"executor": 9.0, "pipeline": 10.0},
        {"executor": 2.0, "pipeline": 4.0},
    ]
    section = pipeline.waits_section({"equal": rounds}, 100)
    assert "| equal | pipeline | 4.00 | 0.90 | 0.50, 1.00 | yes |" in section
    slower = pipeline.waits_section({"equal": [{"executor": 0.89, "pipeline": 1.0}]}, 100)
    assert "| 0.89 | 0.89, 0.89 | no |" in slower


def test_memory_that_grows_is_not_flat() -> None:
    section = pipeline.memory_section(
        {"pipeline": (8.0, 1.0), "pipeline of batches": (7.9, 1.0), "executor": (1e3, 1.0)}, 9
    )
    assert "| pipeline | 8.0 MiB | 1 | no |" in section
    assert "| pipeline of batches | 7.9 MiB | 1 | yes |" in section
    assert "| executor | 1,000.0 MiB | 1 |  |" in section


def test_the_pictures_one_by_one_are_measured_once() -> None:
    section = pipeline.pictures_section([{"one by one": 20.0, "pipeline": 2.0}, {"pipeline": 4.0}], 100, 0.01)
    assert "| one by one | 20.0 | 5 | 1.0 x | 1.0, 1.0 |" in section
    assert "| pipeline | 3.0 | 33 | 7.5 x | 5.0, 10.0 |" in section
    assert "10 ms each whatever is in it" in section


def test_a_part_that_is_measured_again_takes_its_own_place() -> None:
    first = pipeline.page("", "## Waits\n\nfirst")
    both = pipeline.page(first, "## Pictures\n\npictures")
    both = pipeline.page(both, "## Memory\n\nmemory\n\nmore of it")
    again = pipeline.page(both, "## Waits\n\nsecond")
    assert again == both.replace("first", "second")
    assert again.index("## Waits") < again.index("## Memory") < again.index("more of it") < again.index("## Pictures")
