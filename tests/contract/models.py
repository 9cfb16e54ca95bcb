"""Tiny model archives, one behaviour each. None of them needs a weight file."""

ECHO = """
import json

def model_fn(model_dir):
    return None

def input_fn(input_data, content_type):
    return {"type": type(input_data).__name__, "content_type": content_type, "body": bytes(input_data, "utf-8").decode()
            if isinstance(input_data, str) else bytes(input_data).decode("latin-1")}

def predict_fn(data, model):
    return data

def output_fn(prediction, accept):
    return json.dumps({**prediction, "accept": accept})
"""
"""Answers what its input_fn was given."""

OBEDIENT = """
import asyncio, ctypes, json, os, signal, subprocess, time
from pathlib import Path

def model_fn(model_dir):
    return Path(model_dir)

def input_fn(input_data, content_type):
    return json.loads(input_data)

def predict_fn(order, model):
    calls = model / "calls"
    with calls.open("a") as file:
        file.write(f"{os.getpid()} {json.dumps(order)}\\n")
    match order:
        case {"die": signal_number, "unless": name} if not (model / name).exists():
            (model / name).touch()
            os.kill(os.getpid(), signal_number)
            time.sleep(60)
        case {"die": signal_number}:
            if "unless" not in order:
                os.kill(os.getpid(), signal_number)
                time.sleep(60)
        case {"segfault": _}:
            ctypes.string_at(0)
        case {"wait_for": name}:
            while not (model / name).exists():
                time.sleep(0.005)
        case {"spin": _}:
            while True:
                pass
        case {"raise": text}:
            raise RuntimeError(text)
        case {"exit": code}:
            raise SystemExit(code)
        case {"interrupt": _}:
            raise KeyboardInterrupt
        case {"cancel": _}:
            raise asyncio.CancelledError
        case {"fork": _}:
            if pid := os.fork():
                os.waitpid(pid, 0)
        case {"orphan": _}:
            subprocess.run(["sh", "-c", "(until [ -e release ]; do sleep 0.05; done) & echo $! > orphan"], cwd=model)
        case {"start": _}:
            child = subprocess.Popen(["sleep", "3600"])
            (model / "child").write_text(str(child.pid))
    return order

def output_fn(prediction, accept):
    return json.dumps({"done": prediction, "pid": os.getpid()})
"""
"""Does what its JSON body says: dies, spins, waits for a file, raises. Notes each call in the file `calls`."""

DOUBLE = """
import json
import torch

def model_fn(model_dir):
    return torch.nn.Identity()

def input_fn(input_data, content_type):
    return torch.tensor(json.loads(input_data), dtype=torch.float32)

def predict_fn(data, model):
    return model(data) * 2

def output_fn(prediction, accept):
    return json.dumps(prediction.tolist())
"""
"""Doubles numbers."""

TELLS_OF_ITS_BODY = """
import hashlib, json

def model_fn(model_dir):
    return None

def input_fn(input_data, content_type):
    content = input_data.encode() if isinstance(input_data, str) else input_data
    return {"type": type(input_data).__name__, "digest": hashlib.sha256(content).hexdigest()}

def predict_fn(data, model):
    return data

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""
"""Answers what it was given, by its digest."""

TAKES_A_FILE = """
from __future__ import annotations
import contextlib, hashlib, json, os, signal
from pathlib import Path
from typing import BinaryIO

def model_fn(model_dir):
    return Path(model_dir)

def input_fn(file: BinaryIO, content_type, context):
    told = {"at": file.tell(), "link": "", "size": file.seek(0, os.SEEK_END)}
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(65536):
        digest.update(piece)
        mark = context.get_request_header(0, "die-unless-there")
        if mark and not Path(mark).exists():
            Path(mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
    with contextlib.suppress(OSError):  # a small one has no descriptor
        told["link"] = os.readlink(f"/proc/self/fd/{file.fileno()}")
    return {**told, "digest": digest.hexdigest()}

def predict_fn(data, model):
    return data

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""
"""Reads its body from a file; dies once, in the middle, where a header names a file that is not there yet."""

DEFAULTS_FOR_LARGE_BODIES = """
def model_fn(model_dir):
    return lambda data: data * 2
"""

ANSWERS_AT_LENGTH = """
import json, os

def model_fn(model_dir):
    return None

def input_fn(input_data, content_type):
    return json.loads(input_data)

def predict_fn(data, model):
    return bytes([data["byte"]]) * data["size"]

def output_fn(prediction, accept):
    return prediction, "application/octet-stream"
"""
"""Answers with as many bytes as it is told."""
