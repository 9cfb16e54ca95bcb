"""Bodies in the form of the Hugging Face toolkit, without transformers."""

from __future__ import annotations

import base64
import io
import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tidegate.inference.errors import BadRequest, HandlerFailed, NotAcceptable, UnsupportedMediaType
from tidegate.inference.worker.content import Reading
from tidegate.inference.worker.foreign import pipeline_bodies

READING = Reading(max_decoded_bytes=1024 * 1024)


def read(body: Any, content_type: str | None) -> Any:
    return pipeline_bodies.read(body, content_type, READING)


def wav(samples: bytes, *, width: int = 2, channels: int = 1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(channels)
        written.setsampwidth(width)
        written.setframerate(8000)
        written.writeframes(samples)
    return file.getvalue()


def test_json_is_handed_on_as_it_is() -> None:
    assert read('{"inputs": "a", "parameters": {"top_k": 1}}', "application/json; charset=utf-8") == {
        "inputs": "a",
        "parameters": {"top_k": 1},
    }


def test_csv_is_its_inputs_or_its_rows() -> None:
    assert read("inputs\na\nb\n", "text/csv") == {"inputs": ["a", "b"]}
    assert read("question,context\na,b\n", "text/csv") == {"inputs": [{"question": "a", "context": "b"}]}


@pytest.mark.parametrize("body", ["", "a,b\n1,2\n", "inputs\n", 'inputs\n"a'])
def test_csv_without_a_header_that_is_known_is_refused(body: str) -> None:
    with pytest.raises(BadRequest, match="CSV body"):
        read(body, "text/csv")


def test_a_picture_is_read_within_the_limits() -> None:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), (1, 2, 3)).save(file, format="PNG")
    picture = read(bytearray(file.getvalue()), "image/png")["inputs"]
    assert (picture.size, picture.getpixel((0, 0))) == ((3, 2), (1, 2, 3))
    large = io.BytesIO()
    Image.new("RGB", (1000, 1000)).save(large, format="PNG")
    with pytest.raises(BadRequest):
        read(bytearray(large.getvalue()), "image/png")


def test_a_sound_is_mono_between_minus_one_and_one() -> None:
    sound = read(bytearray(wav(np.array([[-32768, 0], [16384, 16384]], "<i2").tobytes(), channels=2)), "audio/wav")
    assert sound["inputs"]["sampling_rate"] == 8000
    assert sound["inputs"]["raw"].tolist() == [-0.5, 0.5]
    assert pipeline_bodies.sound_of(wav(bytes([0, 128]), width=1))["raw"].tolist() == [-1.0, 0.0]
    assert pipeline_bodies.sound_of(wav(bytes(8), width=4))["raw"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("data", [b"RIFF", b"RIFF\x00\x00\x00\x00WAVEfmt ", wav(bytes(6), width=3)])
def test_a_damaged_sound_is_the_clients_mistake(data: bytes) -> None:
    with pytest.raises(BadRequest, match="WAV file"):
        pipeline_bodies.sound_of(data)


def test_a_sound_in_json_is_strict_base64() -> None:
    text = base64.b64encode(wav(bytes(4))).decode()
    assert pipeline_bodies.sound_in_base64(f"data:audio/wav;base64,{text}")["raw"].tolist() == [0.0, 0.0]
    with pytest.raises(BadRequest, match="base64"):
        pipeline_bodies.sound_in_base64("no*base64")


def test_other_sounds_need_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnsupportedMediaType, match="send WAV"):
        pipeline_bodies.sound_of(b"fLaC")
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/ffmpeg")
    assert pipeline_bodies.sound_of(b"fLaC") == b"fLaC"


@pytest.mark.parametrize(
    "named",
    [
        "http://a.example/x.png",
        " HTTPS://a.example",
        "file:///etc/passwd",
        "s3://bucket/key",
        __file__,
        {"messages": [{"content": [{"type": "image", "url": "https://a.example"}]}]},
        ["aGVsbG8=", __file__],
    ],
)
def test_a_file_or_an_address_is_opened_for_no_client(named: Any) -> None:
    with pytest.raises(BadRequest, match="names a file or an address"):
        pipeline_bodies.demand_own_data({"inputs": named})


def test_words_and_base64_are_no_files(tmp_path: Path) -> None:
    pipeline_bodies.demand_own_data(["a cat", "a\0b", "x" * 5000, str(tmp_path), 3, None, "aGVsbG8="])


@pytest.mark.parametrize("name", ["custom_generate", "trust_remote_code", "num_workers"])
def test_what_would_run_code_is_no_parameter(name: str) -> None:
    with pytest.raises(BadRequest, match=f"'{name}' is not a client's to choose"):
        pipeline_bodies.demand_allowed({"generate_kwargs": [{name: 1}]})


def test_answers_are_the_toolkits_json_csv_and_npy() -> None:
    rows = [{"label": "ü", "score": np.float32(0.5)}]
    assert pipeline_bodies.write(rows, "application/json") == '[{"label":"ü","score":0.5}]'.encode()
    assert pipeline_bodies.write(rows, "text/csv") == "label,score\r\nü,0.5\r\n".encode()
    assert np.load(io.BytesIO(pipeline_bodies.write([np.arange(3)], "application/x-npy"))).tolist() == [[0, 1, 2]]
    (picture,) = json.loads(pipeline_bodies.write([Image.new("L", (2, 2))], "application/json"))
    assert Image.open(io.BytesIO(base64.b64decode(picture))).size == (2, 2)


def test_what_a_type_cannot_hold_is_said() -> None:
    with pytest.raises(NotAcceptable, match="no table"):
        pipeline_bodies.write([[{"a": 1}]], "text/csv")
    with pytest.raises(HandlerFailed, match="what JSON cannot hold"):
        pipeline_bodies.write([float("nan")], "application/json")
    with pytest.raises(HandlerFailed, match="a object"):
        pipeline_bodies.write([object()], "application/json")
