"""From audio in pieces of any size to the moments at which speech begins and ends."""

import torch

RATE_HZ = 16_000
WINDOW = 512
"""Samples that the model judges at a time: 32 ms."""
OVERLAP = 64
"""Samples of the window before that it looks at again."""
SAMPLE_BYTES = 2


class SpeechDetector:
    """One audio stream: 16-bit little-endian mono samples at 16 kHz.

    Speech begins with a window that is speech for sure, and ends with the first of `quiet_s` without any that may be:
    a word has soft places, and between two words there is a pause.
    """

    def __init__(self, model, *, sure=0.5, unsure=0.35, quiet_s=0.3):
        # The scripted model keeps one state for all its callers; the network in it takes the state as an argument.
        self._judge = model._model
        self._sure = sure
        self._unsure = unsure
        self._quiet_samples = int(quiet_s * RATE_HZ)
        self._state = torch.zeros(0)
        self._overlap = torch.zeros(1, OVERLAP)
        self._pending = bytearray()
        self._heard = 0
        self._speaking = False
        self._quiet_since = None

    @property
    def heard_s(self):
        """Seconds of audio until now."""
        return round((self._heard + len(self._pending) // SAMPLE_BYTES) / RATE_HZ, 3)

    def feed(self, audio):
        """Yield the events of some more audio; what does not fill a window waits for the next call."""
        self._pending += audio
        size = WINDOW * SAMPLE_BYTES
        while len(self._pending) >= size:
            window = bytes(self._pending[:size])
            del self._pending[:size]
            yield from self._window(window)

    def end(self):
        """Yield the last events: speech that goes on to the end of the audio ends there."""
        seconds = self.heard_s
        if self._speaking:
            self._speaking = False
            yield {"event": "speech_end", "at_s": seconds}
        yield {"event": "audio_end", "at_s": seconds}

    def _window(self, window):
        started, self._heard = self._heard, self._heard + WINDOW
        probability = self._probability(window)
        if probability >= self._sure:
            self._quiet_since = None
            if not self._speaking:
                self._speaking = True
                yield {"event": "speech_start", "at_s": round(started / RATE_HZ, 3)}
        elif self._speaking and probability < self._unsure:
            if self._quiet_since is None:
                self._quiet_since = started
            if self._heard - self._quiet_since >= self._quiet_samples:
                self._speaking = False
                yield {"event": "speech_end", "at_s": round(self._quiet_since / RATE_HZ, 3)}

    # Around one window and not around a generator: between two windows other streams run in this thread.
    @torch.inference_mode()
    def _probability(self, window):
        samples = torch.frombuffer(bytearray(window), dtype=torch.int16).to(torch.float32)[None] / 32768
        probability, self._state = self._judge(torch.cat([self._overlap, samples], dim=1), self._state)
        self._overlap = samples[:, -OVERLAP:]
        return probability.item()
