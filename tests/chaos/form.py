"""How long chaos lasts: short in the suite, long under `make chaos` (CHAOS=long).

The seed is fixed in the short form and new each time in the long one; CHAOS_SEED=… repeats a run.
"""

from __future__ import annotations

import os
import random

LONG = os.environ.get("CHAOS") == "long"
SEED = int(os.environ.get("CHAOS_SEED") or (random.SystemRandom().randrange(1 << 32) if LONG else 20260707))
CHAOS_S = float(os.environ.get("CHAOS_S") or (180.0 if LONG else 10.0))
MALFORMED_REQUESTS = 10_000 if LONG else 600
LIMIT_S = 1800 if LONG else 1200
"""When a run that does not end is given up."""
