"""A voice, made up: pulses of a throat through the resonances of a mouth, so that nobody need speak."""

from collections.abc import Sequence

import numpy as np

RATE_HZ = 16_000
SYLLABLE_S = 0.22
# The resonances of a, e, i, o, u in hertz, of a man's voice (Peterson and Barney, 1952).
VOWELS_HZ = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))
WIDTHS_HZ = (80, 100, 140)


def speech(sentences_s: Sequence[float], *, pause_s: float) -> bytes:
    """Sentences of these lengths with pauses around them: 16-bit little-endian mono samples at 16 kHz."""
    chance = np.random.default_rng(7)
    quiet = np.zeros(int(pause_s * RATE_HZ))
    parts = [quiet]
    for length_s in sentences_s:
        parts += [sentence(chance, length_s), quiet]
    samples = np.concatenate(parts)
    samples = 0.6 * samples / np.abs(samples).max() + chance.normal(0, 0.0005, len(samples))
    return (samples * 32767).astype("<i2").tobytes()


def sentence(chance: np.random.Generator, length_s: float) -> np.ndarray:
    """Syllables with a pitch that falls towards the end."""
    syllables = max(1, round(length_s / SYLLABLE_S))
    pitches = np.linspace(130, 95, syllables) * chance.uniform(0.95, 1.05, syllables)
    return np.concatenate([syllable(chance, pitch) for pitch in pitches])


def syllable(chance: np.random.Generator, pitch_hz: float) -> np.ndarray:
    """A consonant's breath, then a vowel."""
    samples = int(SYLLABLE_S * RATE_HZ)
    times = np.arange(samples) / RATE_HZ
    phase = np.cumsum(pitch_hz * (1 + 0.01 * np.sin(2 * np.pi * 5 * times))) / RATE_HZ
    source = np.diff(np.floor(phase), prepend=0) + chance.normal(0, 0.01, samples)
    spectrum = np.fft.rfft(source, 2 * samples)
    frequencies = np.fft.rfftfreq(2 * samples, 1 / RATE_HZ)
    for centre, width in zip(VOWELS_HZ[chance.integers(len(VOWELS_HZ))], WIDTHS_HZ, strict=True):
        spectrum *= centre**2 / (centre**2 - frequencies**2 + 1j * frequencies * width)
    loudness = np.clip(np.sin(np.pi * np.arange(samples) / samples) * 2, 0, 1)
    return np.fft.irfft(spectrum)[:samples] * loudness
