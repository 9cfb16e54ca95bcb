"""docs/guides/export.md is executable, and names every form and every option."""

import re
from pathlib import Path

import pytest
import torch

from tidegate.training_hooks.__main__ import main
from tidegate.training_hooks.export.candidates import CANDIDATES

from ..artifacts import manifest_of, mismatches

PAGE = (Path(__file__).parents[3] / "docs" / "guides" / "export.md").read_text(encoding="utf-8")
CODE = """\
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.last = torch.nn.Linear(16, 4)
    def forward(self, x):
        return self.last(x)
"""


def test_the_program_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It saves a model, exports it and prints what was measured."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "net.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    torch.save(torch.nn.ModuleDict({"last": torch.nn.Linear(16, 4)}), "net.pt")
    (program, *_) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(program, {})  # noqa: S102 - the page's own
    name, ratio, difference = capsys.readouterr().out.split()
    assert (name, float(ratio) > 0, float(difference) < 1e-4) == ("onnx", True, True)
    assert [form["name"] for form in manifest_of(tmp_path / "model")["forms"]] == ["onnx"]
    assert not mismatches(tmp_path / "model")


def test_every_form_and_every_option_stands_on_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    """The command line's own help is the list."""
    missing = [name for name in CANDIDATES if f"`{name}`" not in PAGE]
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    missing += [option for option in sorted(options) if option not in PAGE]
    assert not missing, f"docs/guides/export.md does not speak of {missing}"


@pytest.mark.parametrize("given", ["-1", "0", "nan", "1e400", "soon"])
def test_a_time_that_cannot_be_waited_is_no_argument(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["export", "model", "--to", "onnx", f"--timeout-s={given}"])

    assert ended.value.code == 2
    assert f"argument --timeout-s: '{given}' is not a number of seconds above 0" in capsys.readouterr().err
