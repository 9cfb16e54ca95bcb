"""`python -m benchmarks.repository`: what a model repository promises, measured. See `CASES`."""

from __future__ import annotations

import sys

from benchmarks.repository.command import main

if __name__ == "__main__":
    sys.exit(main())
