"""Finds metrics in lines, in a process of its own: `python metric_search.py`

A regular expression can take longer than anybody waits, and while Python tries it no other thread of the process runs.
So the expressions of a job are tried here, for a limited time of the CPU. The first line of standard input is a JSON
list of pairs, name and expression; each further line is a list of lines, and the answer to it one line: the values by
name, and the names of the expressions that took too long, which are not tried again. This is run as a file and needs
the standard library alone.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

LIMIT_S = 5.0
"""The time of the CPU for one expression and what is read at once, at most a megabyte."""
_LARGEST = 2.0**360  # MetricDatum: a Value is in the range of -2^360 to 2^360, and neither NaN nor infinite


class _TooLong(Exception):
    pass


def main() -> None:
    def too_long(*_: object) -> None:
        raise _TooLong

    # The time of the CPU and not of the clock: a busy machine is no reason to give up. `re` looks for signals.
    signal.signal(signal.SIGPROF, too_long)
    patterns = [(name, re.compile(expression)) for name, expression in json.loads(sys.stdin.readline())]
    for request in sys.stdin:
        lines = json.loads(request)
        values: dict[str, list[float]] = {}
        given_up = []
        for item in patterns:
            name, pattern = item
            found: list[float] = []
            try:
                signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
                try:
                    _search(pattern, lines, found)
                finally:
                    signal.setitimer(signal.ITIMER_PROF, 0)
            except _TooLong:
                given_up.append(item)
            if found:
                values.setdefault(name, []).extend(found)
        patterns = [item for item in patterns if item not in given_up]
        sys.stdout.write(json.dumps([values, [name for name, _ in given_up]]) + "\n")
        sys.stdout.flush()


def _search(pattern: re.Pattern[str], lines: Sequence[str], found: list[float]) -> None:
    for line in lines:
        for match in pattern.finditer(line):
            with suppress(ValueError, TypeError):
                value = float(match[1])
                if abs(value) <= _LARGEST:
                    found.append(value)


if __name__ == "__main__":
    main()
