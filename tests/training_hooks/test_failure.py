"""The failure file that SageMaker shows as the reason of a failed job."""

from pathlib import Path

import pytest

from tidegate.training_hooks import container_paths, reporting_failure


def test_the_reason_comes_first(tmp_path: Path) -> None:
    """The exception stands on the first line, its traceback below, and the exception goes on."""
    with pytest.raises(KeyError), reporting_failure(tmp_path):
        raise KeyError("learning_rate")
    text = (tmp_path / "failure").read_text()
    assert text.startswith("KeyError: 'learning_rate'\n\n")
    assert "test_failure.py" in text


@pytest.mark.parametrize("length", [10, 900, 1020, 5000])
def test_the_report_fits_what_sagemaker_shows(tmp_path: Path, length: int) -> None:
    """1,024 characters are shown; the reason has precedence over the traceback."""
    with pytest.raises(RuntimeError), reporting_failure(tmp_path):
        raise RuntimeError("x" * length)
    text = (tmp_path / "failure").read_text()
    assert len(text) <= 1024
    assert text.startswith(("RuntimeError: " + "x" * length)[:1024])


def test_an_exit_status_is_a_failure(tmp_path: Path) -> None:
    """sys.exit with a status or a sentence fails the job, so it is reported."""
    with pytest.raises(SystemExit), reporting_failure(tmp_path / "a"):
        raise SystemExit(3)
    assert (tmp_path / "a" / "failure").read_text() == "exit status 3"
    with pytest.raises(SystemExit), reporting_failure(tmp_path / "b"):
        raise SystemExit("no data in the channel")
    assert (tmp_path / "b" / "failure").read_text() == "no data in the channel"


def test_normal_ends_and_interruptions_are_not_reported(tmp_path: Path) -> None:
    """Success, sys.exit(0) and Ctrl-C leave no failure file."""
    with reporting_failure(tmp_path):
        pass
    for end in (SystemExit(0), SystemExit(None), KeyboardInterrupt()):
        with pytest.raises(type(end)), reporting_failure(tmp_path):
            raise end
    assert list(tmp_path.iterdir()) == []


def test_the_place_comes_from_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM_OUTPUT_DIR, then /opt/ml/output; on a laptop nothing is written."""
    monkeypatch.delenv("SM_OUTPUT_DIR", raising=False)
    monkeypatch.setattr(container_paths, "ML_ROOT", tmp_path / "opt_ml")
    with pytest.raises(ValueError, match="first"), reporting_failure():
        raise ValueError("first")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "opt_ml").mkdir()
    with pytest.raises(ValueError, match="second"), reporting_failure():
        raise ValueError("second")
    assert (tmp_path / "opt_ml" / "output" / "failure").read_text().startswith("ValueError: second")
    monkeypatch.setenv("SM_OUTPUT_DIR", str(tmp_path / "out"))
    with pytest.raises(ValueError, match="third"), reporting_failure():
        raise ValueError("third")
    assert (tmp_path / "out" / "failure").read_text().startswith("ValueError: third")


def test_a_report_that_cannot_be_written_hides_nothing(tmp_path: Path) -> None:
    """The failure itself is what the caller sees."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="the real one"), reporting_failure(tmp_path / "file"):
        raise ValueError("the real one")
