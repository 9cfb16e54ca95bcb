"""Speech of Debian's espeak-ng. Without it a test is skipped; with REQUIRE_ESPEAK=1, as in CI, it fails."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import wave

import numpy as np
import pytest

RATE_HZ = 16_000
QUIET = bytes(2 * RATE_HZ)
"""A second of it."""
TOLERANCE_S = 0.5
"""A spoken word begins and ends softly, and espeak-ng leaves a little silence after it."""


def spoken(text: str) -> bytes:
    """The text as espeak-ng says it: 16-bit samples at 16 kHz."""
    if (program := shutil.which("espeak-ng")) is None:
        reason = "espeak-ng is not installed (apt-get install espeak-ng)"
        if os.environ.get("REQUIRE_ESPEAK") == "1":
            pytest.fail(f"REQUIRE_ESPEAK=1 is set, and {reason}")
        pytest.skip(reason)
    done = subprocess.run([program, "-v", "en", "--stdout", text], capture_output=True, check=True)
    with wave.open(io.BytesIO(done.stdout)) as file:
        rate_hz, samples = file.getframerate(), np.frombuffer(file.readframes(1 << 30), "<i2")
    moments = np.arange(int(len(samples) * RATE_HZ / rate_hz)) * rate_hz / RATE_HZ
    return np.interp(moments, np.arange(len(samples)), samples).astype("<i2").tobytes()


def seconds(data: bytes) -> float:
    return len(data) / 2 / RATE_HZ
