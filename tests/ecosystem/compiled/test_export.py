"""Forms that need a compiler or OpenVINO: built by export, and what they ask of a server."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.ecosystem.environments import REPOSITORY, python_of
from tests.training_hooks.artifacts import manifest_of, mismatches
from tests.training_hooks.export.archives import archive, network
from tidegate.inference.worker.formats import aot_inductor
from tidegate.training_hooks import Example, export

pytestmark = pytest.mark.timeout(1800)  # the environment is made first, and a compiler takes a minute


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ here")
def test_a_compiled_package_names_the_instruction_sets_that_it_was_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built for machines of several kinds, it answers as the network does on a batch that was never tried."""
    model_dir = archive(tmp_path, "Wide", torch.rand(1, 8))
    done = export(model_dir, to="aoti", batch_sizes=[2], threads=1, processor="x86-64-v3", force=True)
    (form,) = done.kept
    assert not mismatches(model_dir)
    assert {"avx2", "fma"} <= set(form["requires"]["processor"])
    assert not any(flag.startswith("avx512") for flag in form["requires"]["processor"])
    assert form["requires"]["torch"] == ".".join(torch.__version__.split(".")[:2])
    below = tmp_path / "temporary"
    below.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(below))
    run = aot_inductor.opened(model_dir / form["file"], torch.device("cpu"))
    assert list(below.iterdir()) == []  # the library is mapped by then
    given = torch.rand(5, 8)
    (answer,) = run([given])
    assert np.allclose(answer, network("Wide")(given).detach().numpy(), atol=1e-5)


def test_openvino_is_a_form_where_it_is_installed(tmp_path: Path) -> None:
    """In float32; its two files are listed."""
    python = str(python_of("openvino", sees_ours=True))
    model_dir = archive(tmp_path, "Wide", Example(request=torch.rand(1, 8)))
    command = [python, "-m", "training_hooks", "export", str(model_dir), "--to", "openvino", "--threads", "1"]
    done = subprocess.run(
        [*command, "--force", "--json"], cwd=REPOSITORY, check=False, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kept"] == ["openvino"]
    (form,) = manifest_of(model_dir)["forms"]
    assert not mismatches(model_dir)
    assert {"forms/openvino/model.xml", "forms/openvino/model.bin"} <= set(manifest_of(model_dir)["files"])
    assert form["requires"]["packages"] == {"openvino": ">=2026.4.1"}
