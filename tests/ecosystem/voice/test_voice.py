"""examples/voice with its real model, from PyPI, and speech of Debian's espeak-ng: its functions by themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.ecosystem.voice.speech import QUIET, RATE_HZ, TOLERANCE_S, seconds, spoken
from tests.examples.loading import loaded
from tests.examples.voice import CODE_DIR, pieces

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def handler() -> Iterator[ModuleType]:
    with loaded(CODE_DIR) as module:
        yield module


@pytest.fixture(scope="module")
def context(handler: ModuleType, archive: Path) -> SimpleNamespace:
    return SimpleNamespace(model=handler.model_fn(str(archive)))


def answers(handler: ModuleType, context: Any, audio: bytes) -> list[dict[str, Any]]:
    """What a connection gets that sends 20 ms at a time."""
    return [json.loads(each) for each in handler.stream_fn(iter([*pieces(audio, 640), "end"]), context)]


def test_speech_begins_and_ends_where_it_was_put(handler: ModuleType, context: SimpleNamespace) -> None:
    """Two words in silence: two pairs of events, near the truth, and none in between."""
    first, second = spoken("Elephants"), spoken("Remember")
    events = answers(handler, context, QUIET + first + QUIET + second + QUIET)
    begins = [seconds(QUIET), 2 * seconds(QUIET) + seconds(first)]
    ends = [begins[0] + seconds(first), begins[1] + seconds(second)]
    assert [each["event"] for each in events] == [*["speech_start", "speech_end"] * 2, "audio_end"]
    found = [each["at_s"] for each in events[:-1]]
    assert found == pytest.approx([begins[0], ends[0], begins[1], ends[1]], abs=TOLERANCE_S)
    assert events[-1]["at_s"] == pytest.approx(ends[1] + seconds(QUIET), abs=0.01)


@pytest.mark.parametrize("kind", ["silence", "noise", "tone"])
def test_what_is_no_speech_is_not_taken_for_it(handler: ModuleType, context: SimpleNamespace, kind: str) -> None:
    """Three seconds of something loud; a test of loudness would fail here."""
    moments = np.arange(3 * RATE_HZ) / RATE_HZ
    sound = {
        "silence": np.zeros_like(moments),
        "noise": np.random.default_rng(0).standard_normal(len(moments)) * 800,
        "tone": np.sin(moments * 2 * np.pi * 440) * 8000,
    }[kind]
    assert answers(handler, context, sound.astype("<i2").tobytes()) == [{"event": "audio_end", "at_s": 3.0}]


def test_a_second_connection_begins_anew(handler: ModuleType, context: SimpleNamespace) -> None:
    """The network's state belongs to a connection: beside one that speaks, and after it, silence is silence."""
    speech = QUIET + spoken("Elephants") + QUIET
    alone = answers(handler, context, speech)
    speaking = handler.stream_fn(iter([*pieces(speech, 640), "end"]), context)
    beside = [json.loads(next(speaking))]
    assert answers(handler, context, QUIET) == [{"event": "audio_end", "at_s": 1.0}]
    beside += map(json.loads, speaking)
    assert beside == alone
