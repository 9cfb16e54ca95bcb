"""Properties are tried without a time limit: a loaded machine is no failure."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("tidegate", deadline=None, max_examples=80)
hypothesis.settings.load_profile("tidegate")
