"""Whether the kernel has killed a process of this container because its memory was at its limit."""

from __future__ import annotations

import re
from pathlib import Path

CONTROL_GROUP = Path("/sys/fs/cgroup")


def memory_ran_out(control_group: Path = CONTROL_GROUP) -> bool:
    """As the container's control group says, in both versions; False where it says nothing."""
    for name in ("memory.events", "memory/memory.oom_control"):
        try:
            text = (control_group / name).read_text(encoding="utf-8")
        except OSError:
            continue
        found = re.search(r"^oom_kill (\d+)$", text, flags=re.MULTILINE)
        return found is not None and int(found[1]) > 0
    return False
