"""What the commands of `tidegate` that concern an account take on their command lines, for `argparse`."""

from __future__ import annotations

import argparse
import math


def seconds(text: str) -> float:
    """A time to wait, above 0 s. Raises `argparse.ArgumentTypeError` for anything else, also for `nan` and `inf`."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0; write one like 600")
    return value
