"""Requests as no client sends them by intention: damaged, contradictory, endless, or with bodies that lie.

`malformed(seed, number)` is always the same bytes, so that a finding can be repeated.
"""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable

import numpy as np
from PIL import Image

from tests.raw_websocket import frame, opening

_INFER = "/v2/models/model/infer"
PATHS = (
    *("/ping", "/invocations", "/models/model/invoke", "/execution-parameters", "/metrics"),
    *("/invocations-bidirectional-stream", "/v1/chat/completions", "/models/model/v1/chat/completions"),
    *("/v2", "/v2/health/ready", "/v2/models/model", _INFER, "/v2/repository/index"),
)
METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "PRI", "X" * 40, "")
TYPES = (
    "application/json",
    "application/jsonlines",
    "text/csv",
    "application/x-npy",
    "application/x-npz",
    "image/png",
    "image/jpeg",
    "application/octet-stream",
    "text/csv; charset=utf-16",
    "application/json; charset=utf-7",
    "application/json; charset=nonsense",
    "application/json; charset=rot13",
    "application/json; charset=",
    "text/csv; charset=idna",
    "text/csv; charset=\x00",
    ";",
    "*/*",
    "",
)
ACCEPTS = ("*/*", "application/json", "text/csv;q=0", "image/png", "a/b;q=x, */*;q=0.1", ",,,", "q=1", "application/*")

_CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
_TENSORS = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
_HEADER_NAMES = (
    *("content-length", "transfer-encoding", "expect", "upgrade", "connection", "accept", "content-type", "te"),
    *(
        "inference-header-content-length",
        "x-amzn-sagemaker-inference-id",
        "x-amzn-sagemaker-custom-attributes",
        "http2-settings",
        "a b",
        "",
        "é",
        "x\0",
    ),
)
_HEADER_VALUES = (
    *("", "1", "-1", "0x10", "chunked", "100-continue", "websocket", "h2c", "close", "keep-alive, upgrade", "identity"),
    *("\x00", "\x7f", "\r\n folded", "é", "\ud83d", *ACCEPTS, *TYPES),
)


def malformed(seed: int, number: int) -> bytes:
    """The bytes of one hostile connection."""
    source = random.Random(f"{seed}-{number}")  # noqa: S311 - it is to be repeatable
    make = source.choice(
        (
            _damaged,
            _damaged,
            _odd_head,
            _lying_framing,
            _lying_body,
            _lying_body,
            _chunks,
            _garbage,
            _websocket,
            _lying_tensors,
        )
    )
    return make(source)


def _head(source: random.Random, method: str, path: str, headers: list[tuple[str, str]]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    version = source.choice(("HTTP/1.1",) * 8 + ("HTTP/1.0", "HTTP/2.0", "HTTP/1.10", "http/1.1", ""))
    return f"{method} {path} {version}\r\n{lines}\r\n".encode("latin-1", "replace")


def _well_formed(source: random.Random) -> bytes:
    path = source.choice(PATHS)
    rows = [[source.random() for _ in range(3)] for _ in range(source.randrange(1, 4))]
    body = json.dumps(_CHAT if "chat" in path else _TENSORS if path == _INFER else rows).encode()
    method = "POST" if any(part in path for part in ("invo", "chat", "infer", "index")) else "GET"
    headers = [("host", "x"), ("content-type", "application/json"), ("content-length", str(len(body)))]
    return _head(source, method, path, headers) + body


def _damaged(source: random.Random) -> bytes:
    """A good request, or a few on one connection, after some bytes were changed, lost, repeated or cut off."""
    data = bytearray(b"".join(_well_formed(source) for _ in range(source.choice((1, 1, 1, 2, 20)))))
    for _ in range(source.choice((1, 1, 2, 5, 40))):
        at = source.randrange(len(data) + 1)
        match source.randrange(6):
            case 0:
                data[at : at + 1] = source.randbytes(1)
            case 1:
                del data[at : at + source.choice((1, 2, 10, 100))]
            case 2:
                data[at:at] = source.choice((b"\r", b"\n", b"\r\n", b"\0", b" ", b":", b"\xff", b"\x80", b"\r\n\r\n"))
            case 3:
                data[at:at] = data[at : at + source.choice((1, 10, 100))]
            case 4:
                del data[at:]
            case 5:
                data[at : at + 4] = source.randbytes(4)
    return bytes(data)


def _odd_head(source: random.Random) -> bytes:
    """Methods, paths and headers that are odd, many or long."""
    paths = (
        *PATHS,
        "*",
        "/",
        "//ping",
        "/ping/",
        "/ping%00",
        "/%",
        "/%zz",
        "/../../etc/passwd",
        "/models/../model/invoke",
        "/models/%2e%2e/invoke",
        "/models/nobody/invoke",
        "http://x/ping",
        "x:1",
        "/ping?" + "a=b&" * 500,
        "/" + "a" * source.choice((10, 5_000, 40_000)),
        "/\xe9\xff",
        "/ping\tx",
    )
    odd = source.choice(("method", "path", "headers", "count", "length", "all"))
    headers = [("host", "x")]
    if odd in {"headers", "all"}:
        headers += [
            (source.choice(_HEADER_NAMES), source.choice(_HEADER_VALUES)) for _ in range(source.choice((1, 3, 10)))
        ]
    if odd in {"count", "all"}:
        headers += [(f"x-{n}", "1") for n in range(source.choice((50, 150, 2_000)))]
    if odd in {"length", "all"}:
        headers.append(
            (source.choice(("x-a", "X" * 300, "accept", "cookie")), "a" * source.choice((1_000, 40_000, 300_000)))
        )
    method = source.choice(METHODS) if odd in {"method", "all"} else source.choice(("GET", "POST", "HEAD"))
    path = source.choice(paths) if odd in {"path", "all"} else source.choice(PATHS)
    return _head(source, method, path, headers) + source.choice((b"", b"[[1]]", b"\0"))


def _lying_framing(source: random.Random) -> bytes:
    """A body of another length than was said, or said in several ways."""
    body = source.randbytes(source.choice((0, 1, 10, 3000)))
    lengths = [source.choice(("0", "1", "5", "999", "+3", " 3", "3 ", "3,3", "1e3", "99999999999999999999", "-0", "٣"))]
    lengths += source.choice(([], [], [lengths[0]], ["4"]))
    headers = [("host", "x"), ("content-type", source.choice(TYPES))]
    headers += [("content-length", length.encode("latin-1", "replace").decode("latin-1")) for length in lengths]
    if source.random() < 0.3:
        headers.append(
            ("transfer-encoding", source.choice(("chunked", "Chunked", "chunked, chunked", "gzip", "xchunked")))
        )
    if source.random() < 0.2:
        headers.append(("expect", source.choice(("100-continue", "200-ok"))))
    source.shuffle(headers)
    return _head(source, "POST", source.choice(PATHS), headers) + body


def _chunks(source: random.Random) -> bytes:
    """A chunked body with sizes, extensions and trailers that are wrong, endless or tiny."""
    parts = [_head(source, "POST", source.choice(PATHS), [("host", "x"), ("transfer-encoding", "chunked")])]
    for _ in range(source.choice((1, 3, 400))):
        piece = source.randbytes(source.choice((0, 1, 2, 50)))
        size = source.choice(
            (f"{len(piece):x}",) * 12 + ("", "-1", "g", "0x1", "ffffffffffffffff", f"{len(piece) + 1:x}")
        )
        extension = source.choice(("", "", "", ";a", ";a=b" * 50, ";" + "x" * 3000, " ", "\t"))
        parts.append(
            f"{size}{extension}\r\n".encode() + piece + source.choice((b"\r\n",) * 12 + (b"", b"\n", b"\r\nX"))
        )
    trailers = source.choice(
        (b"\r\n", b"", b"a: b\r\n\r\n", b"content-length: 3\r\n\r\n", b"x: " + b"y" * 50_000 + b"\r\n\r\n")
    )
    parts.append(source.choice((b"0\r\n", b"0\r\n", b"00000000\r\n", b"")) + trailers)
    return b"".join(parts)


def _websocket(source: random.Random) -> bytes:
    """An opening, now and then a damaged one, and frames that are good, damaged, out of order or none at all."""
    head = opening(source.choice(("/invocations-bidirectional-stream", "/own/path?x=1", "/ping", "/nothing")))
    if source.random() < 0.2:
        lines = head.split(b"\r\n")
        del lines[source.randrange(1, len(lines) - 2)]
        head = b"\r\n".join(lines)
    frames = b""
    for _ in range(source.choice((0, 1, 5, 40))):
        data = source.choice(
            (b"", b"text", "κόσμε".encode(), b"\xff\xfe", b"\xce", source.randbytes(300), b"x" * 70_000)
        )
        kind = source.choice((0, 1, 2, 8, 9, 10) * 3 + tuple(range(16)))
        frames += frame(
            kind,
            data[:125] if kind > 7 and source.random() < 0.8 else data,
            fin=source.random() < 0.7,
            rsv=source.choice((0,) * 9 + (1, 4)),
            masked=source.random() < 0.95,
        )
    damaged = bytearray(frames)
    for _ in range(source.choice((0, 0, 1, 5)) if damaged else 0):
        damaged[source.randrange(len(damaged))] = source.randrange(256)
    return head + bytes(damaged[: source.choice((len(damaged), source.randrange(len(damaged) + 1)))])


def _lying_body(source: random.Random) -> bytes:
    """Good HTTP around a body that is not what its type says, or says that it is larger than it is."""
    kind, body = source.choice(_BODIES)(source)
    if source.random() < 0.5 and body:
        damaged = bytearray(body)
        for _ in range(source.choice((1, 3, 30))):
            damaged[source.randrange(len(damaged))] = source.randrange(256)
        body = bytes(damaged[: source.choice((len(damaged), source.randrange(len(damaged) + 1)))])
    content_type = source.choice((kind, kind, kind, source.choice(TYPES)))
    headers = [("host", "x"), ("content-type", content_type), ("content-length", str(len(body)))]
    if source.random() < 0.3:
        headers.append(("accept", source.choice(ACCEPTS)))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1")
    path = (
        source.choice(("/invocations", "/v1/chat/completions", _INFER))
        if kind == "application/json"
        else "/invocations"
    )
    return f"POST {path} HTTP/1.1\r\n".encode() + lines + b"\r\n" + body


def _lying_tensors(source: random.Random) -> bytes:
    """A request of the open inference protocol whose parts do not agree."""
    tail = source.randbytes(source.choice((0, 1, 4, 8, 300)))
    entry: dict[str, object] = {
        "name": source.choice(("x", "", "é" * 999, 7)),
        "datatype": source.choice(("FP32", "BYTES", "BOOL", "BF16", "INT8", "FP31", None)),
        "shape": source.choice(([1], [2, 4], [0], [], [2**40, 2**40], [-1], [1] * 40, "2", [1.5])),
    }
    if source.random() < 0.6:
        size = source.choice((len(tail), len(tail), 0, -1, 2**70, "4", True))
        entry["parameters"] = source.choice(({"binary_data_size": size}, {"binary_data_size": size}, [], 1))
    if source.random() < 0.5:
        entry["data"] = source.choice(([1], [[1, 2]], ["a"], [True], [1e300], [], "a", None, [[1], 2], [10**300]))
    inputs = source.choice(([entry], [entry], [entry, entry], [], {}, [[]]))
    outputs = source.choice(([], [], [{"name": "nothing"}], [{}], 7))
    head = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    length = source.choice((len(head), len(head), len(head), 0, 1, len(head) + len(tail) + 1, "x", "9" * 50))
    headers = [
        ("host", "x"),
        ("content-length", str(len(head + tail))),
        ("inference-header-content-length", str(length)),
    ]
    return _head(source, "POST", _INFER, headers) + head + tail


def _json(source: random.Random) -> tuple[str, bytes]:
    depth = source.choice((10, 1_000, 60_000))
    texts = (
        "",
        "null",
        "[]",
        "[[]]",
        "{}",
        '"\\ud800"',
        "[" * depth,
        "[" * depth + "]" * depth,
        '{"a":' * depth,
        "[1e999999]",
        "[-1e999999, NaN, Infinity]",
        f"[{'9' * source.choice((30, 400, 9_000))}]",
        "[[1, 2], [3]]",
        '[[1, "a"], [null, true]]',
        "[1]garbage",
        "\ufeff[1]",
        '{"instances": [[1]], "instances": 2}',
        json.dumps(_CHAT),
        json.dumps({**_CHAT, "stream": True, "stream_options": source.choice((None, [], {"include_usage": 7}))}),
        json.dumps({**_CHAT, "stream": source.choice((2, "yes", [])), "n": source.choice((0, 2, "1", None))}),
        json.dumps({"messages": source.choice((None, {}, [], [[]], "x")), "model": source.choice((7, "", "é" * 999))}),
    )
    return "application/json", source.choice(texts).encode()


def _lines(source: random.Random) -> tuple[str, bytes]:
    rows = ("[1]", "[1, 2]", "{}", "", "   ", "\x00", "[" * 5000, "1e400")
    return source.choice(("text/csv", "application/jsonlines")), "\n".join(
        source.choice((*rows, "1,2", "1,2,3", '"1,2', "a,b", "1e999,nan", "\r", "," * 2000))
        for _ in range(source.randrange(6))
    ).encode()


def _npy(source: random.Random) -> tuple[str, bytes]:
    descriptions = ("<f4", "<f8", ">i2", "|b1", "<c16", "<f2", "|O", "<U5", "|V8", "<M8[s]", "|S3", "", "<f999", "<u8")
    shapes = (
        "(2,)",
        "(0,)",
        "()",
        "(-1,)",
        "(10**12,)",
        "(1000000000000,)",
        "(2,",
        "(" + "1," * 200 + ")",
        "('a',)",
        "(2, 2)",
    )
    header = (
        f"{{'descr': '{source.choice(descriptions)}', 'fortran_order': {source.choice(('False', 'True', '0'))}, "
        f"'shape': {source.choice(shapes)}, }}"
    )
    if source.random() < 0.2:
        header = source.choice(("", "{}", "__import__('os').abort()", "[" * 3000, "{'shape': (1,)}", "\x00" * 50))
    size = source.choice((len(header), len(header), 0, 0xFFFF))
    version = source.choice((b"\x01\x00", b"\x01\x00", b"\x09\x09"))
    prefix = b"\x93NUMPY" + version + size.to_bytes(2, "little")
    return "application/x-npy", prefix + header.encode() + source.randbytes(source.choice((0, 8, 64)))


def _npz(source: random.Random) -> tuple[str, bytes]:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", source.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name in source.sample(("a.npy", "b", "../c.npy", "a/b.npy", "x" * 300, "é.npy"), source.randrange(4)):
            archive.writestr(name, source.choice((_npy(source)[1], b"", b"\0" * 300_000)))
    return "application/x-npz", file.getvalue()


def _image(source: random.Random) -> tuple[str, bytes]:
    file = io.BytesIO()
    kind = source.choice(("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"))
    Image.new("RGB", (source.randrange(1, 9), source.randrange(1, 9)), (1, 2, 3)).save(file, kind)
    data = bytearray(file.getvalue())
    if source.random() < 0.3:  # dimensions that the file does not have
        at = source.randrange(min(len(data), 30))
        data[at : at + 4] = b"\xff\xff\xff\x7f"
    return f"image/{kind.lower()}", bytes(data)


def _array(source: random.Random) -> tuple[str, bytes]:
    file = io.BytesIO()
    np.save(
        file,
        np.zeros(source.choice(((), (0,), (1, 0), (3, 2), (1,) * 32)), source.choice(("f4", "?", "c8", "u8", "f2"))),
    )
    return "application/x-npy", file.getvalue()


_BODIES: tuple[Callable[[random.Random], tuple[str, bytes]], ...] = (_json, _lines, _npy, _npz, _image, _array)


def _garbage(source: random.Random) -> bytes:
    """No HTTP at all."""
    return source.choice(
        (
            source.randbytes(source.choice((1, 10, 5_000, 100_000))),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + source.randbytes(500),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + source.randbytes(50),
            b"\r\n" * source.choice((1, 1_000, 20_000)),
            b"\0" * 5_000,
            b"GET " * 3_000,
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"a" * 70_000,
        )
    )
