"""Properties are tried without a clock: this machine may be busy, and no test here is about speed."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("tidegate", deadline=None, max_examples=80)
hypothesis.settings.load_profile("tidegate")
