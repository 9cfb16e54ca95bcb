"""The installed packages that this process has imported, with their versions."""

import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import metadata
from pathlib import Path


def imported_packages() -> dict[str, str]:
    """Return versions by name, sorted; only of what was imported, not of the whole environment."""
    by_module = _packages_by_module(*((place, _changed_at(place)) for place in sys.path))
    imported = {name.partition(".")[0] for name in list(sys.modules)}
    found: dict[str, str] = {}
    for module in imported:
        if module.startswith("_") or module in sys.stdlib_module_names:
            continue
        packages = sorted(set(by_module.get(module, ())))
        for package in packages:
            # Several packages may share a top-level name, as google's do: those whose own module was imported count.
            if len(packages) == 1 or _has_own_module(package):
                version = _version(package)
                if version is not None:
                    found[package] = version
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


@lru_cache(maxsize=1)
def _packages_by_module(*_: tuple[str, int]) -> Mapping[str, Sequence[str]]:
    """Which packages brought a module, by its name; looked at anew when a place of the search path has changed."""
    try:
        return metadata.packages_distributions()
    except Exception:  # what is installed may be broken in ways that a save need not care about
        return {}


def _changed_at(place: str) -> int:
    try:
        return Path(place).stat().st_mtime_ns
    except OSError:
        return 0


def _has_own_module(package: str) -> bool:
    plain = package.lower()
    return any(plain.replace("-", separator) in sys.modules for separator in (".", "_", ""))


def _version(package: str) -> str | None:
    try:
        version = metadata.version(package)
    except Exception:
        return None
    return version if isinstance(version, str) else None
