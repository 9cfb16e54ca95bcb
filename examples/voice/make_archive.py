"""Make the archive of the speech detector: no training, the model comes out of a package.

    python examples/voice/make_archive.py

Silero VAD (https://github.com/snakers4/silero-vad, MIT licence) is in the wheel that requirements.txt pins by its hash;
pip fetches it, and nothing of it is installed. The archive holds the model and its licence, the code, and half a second
of silence as the example that the server answers before it takes traffic. It is written below build/voice/.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tidegate.training_hooks import Example, save_directory

HERE = Path(__file__).parent
MODEL = "silero_vad/data/silero_vad.jit"
SILENCE = bytes(16_000)


def main() -> None:
    """Fetch the wheel if none is given, and write the model directory."""
    parser = argparse.ArgumentParser(description="Make the archive of the speech detector.")
    parser.add_argument("--wheel", type=Path, help="of silero-vad; fetched by pip if omitted")
    parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR", "build/voice/model"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="voice-") as scratch:
        wheel = options.wheel or fetched(Path(scratch))
        model = Path(scratch) / "model"
        model.mkdir()
        with zipfile.ZipFile(wheel) as files:
            (licence,) = (name for name in files.namelist() if name.endswith(".dist-info/licenses/LICENSE"))
            (model / "model.pt").write_bytes(files.read(MODEL))
            (model / "LICENSE.silero-vad").write_bytes(files.read(licence))
        directory = save_directory(
            model,
            model_dir=options.model_dir,
            name="silero-vad",
            code_dir=HERE / "code",
            example=Example(request=SILENCE, content_type="application/octet-stream", accept="application/json"),
            batching=False,  # a recording has a state of its own from window to window
        )
    print(f"saved to {directory}")


def fetched(folder: Path) -> Path:
    """Have pip fetch the pinned wheel into `folder`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--require-hashes", "--dest", str(folder), "--requirement", str(HERE / "requirements.txt")]
    print("fetching silero-vad ...", flush=True)
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


if __name__ == "__main__":
    main()
