"""`[hosting.scaling]`: bounds that fit together, from the start on and at the moments of the schedule."""

from __future__ import annotations

from tidegate.infra.configuration.scaling import Action, AnyScaling, ComponentScaling, bounds
from tidegate.infra.configuration.schedule import is_rate
from tidegate.infra.validation.sentences import wrong


def check(scaling: AnyScaling) -> None:
    """Raise `ConfigurationError` for the first that Application Auto Scaling would refuse or never reach."""
    of_what = "copies" if isinstance(scaling, ComponentScaling) else "instances"
    _check_order(scaling, "hosting.scaling", of_what)
    names = [action.name for action in scaling.schedule]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise wrong("hosting.scaling.schedule.name", twice, "given twice; give each action a name of its own")
    _, most = bounds(scaling)
    for number, action in enumerate(scaling.schedule, start=1):
        key = f"hosting.scaling.schedule[{number}]"
        _check_order(action, key, of_what)
        if (high := bounds(action)[1]) > most:
            why = f"more than the most that ever run, hosting.scaling.max_{of_what} = {most}; lower it, or raise that"
            raise wrong(f"{key}.max_{of_what}", high, why)
        if action.timezone is not None and is_rate(action.when):
            why = f"without meaning for {action.when}, which goes by intervals; remove it, or write a cron expression"
            raise wrong(f"{key}.timezone", action.timezone, why)


def _check_order(of: AnyScaling | Action, key: str, of_what: str) -> None:
    low, high = bounds(of)
    if low > high:
        raise wrong(f"{key}.min_{of_what}", low, f"more than max_{of_what} = {high}; exchange the two")
