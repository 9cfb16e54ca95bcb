"""The programs of docs/guides/handler.md."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "guides" / "handler.md").read_text(encoding="utf-8")
_PROGRAMS = re.findall(r"^```python\n(.*?)^```\n(?:```output\n(.*?)^```)?", PAGE, re.DOTALL | re.MULTILINE)

INFERENCE, TRAIN, MANY = (program for program, _ in _PROGRAMS)
"""`code/inference.py`, the script that saves it, and `predict_many`."""
PRINTED = _PROGRAMS[2][1]
"""What the last of them prints."""
