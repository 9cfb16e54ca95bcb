"""Bodies in files, from the descriptor that a worker receives to what user code is given, and closed in the end."""

from __future__ import annotations

import contextlib
import gc
import gzip
import io
import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Union

import numpy as np
import pytest
import torch

from tests.inference.toy_models import JSON, answered, computation, refused, request
from tidegate.inference import protocol
from tidegate.inference.body_file import BodyFile
from tidegate.inference.frontend.workers.body_files import BodyFiles
from tidegate.inference.protocol import Kind, Request
from tidegate.inference.worker.channel import Channel, UnexpectedFrame
from tidegate.inference.worker.context import Context
from tidegate.inference.worker.handler import bind

if TYPE_CHECKING:
    from collections.abc import Sized as OnlyForTypeCheckers

OCTETS = "application/octet-stream"


def descriptors() -> int:
    gc.collect()  # what earlier tests have left may go at any time
    return len(list(Path("/proc/self/fd").iterdir()))


def filed(content: bytes) -> BodyFile:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return BodyFile(len(content), os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY))


def in_file(content: bytes, content_type: str = JSON, headers: bytes = b"") -> Request:
    return request(b"", content_type=content_type, headers=headers)._replace(body=filed(content))


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


# --- the file


def test_a_file_is_read_mapped_and_opened_any_number_of_times_and_leaves_no_descriptor() -> None:
    before = descriptors()
    body = filed(b"abcdef")
    assert body.open().read(3) == b"abc"
    assert body.read() == bytearray(b"abcdef")
    view = body.view()
    view[0] = ord("x")
    file = body.open()
    assert file.read() == b"abcdef"
    body.close()
    body.close()
    assert file.closed
    assert descriptors() == before


def test_what_is_mapped_stays_as_long_as_an_array_is_in_it() -> None:
    before = descriptors()
    body = filed(b"abcdef")
    array = np.frombuffer(body.view(), np.uint8)
    body.close()
    assert array.tobytes() == b"abcdef"
    del array
    assert descriptors() == before


def test_a_file_that_nobody_closed_is_closed_with_its_owner() -> None:
    before = descriptors()
    body = filed(b"abc")
    assert descriptors() == before + 1
    del body
    assert descriptors() == before


# --- what user code is given


@pytest.mark.parametrize(
    ("content_type", "content", "given"),
    [
        (JSON, b"[1]", "[1]"),
        ("text/csv; charset=latin-1", b"\xe9", "é"),
        (OCTETS, b"\xff\x00", bytearray(b"\xff\x00")),
        ("image/png", b"pixels", bytearray(b"pixels")),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_script_is_given_the_same_from_a_file_as_from_memory(content_type, content, given, packed) -> None:
    seen: list[Any] = []
    toy = computation(input_fn=lambda body, kind: seen.append((body, kind)), predict_fn=lambda *_: 1)
    headers = b"content-encoding: gzip\r\n" if packed else b""
    sent = gzip.compress(content) if packed else content
    before = descriptors()
    answered(toy, request(sent, content_type=content_type, headers=headers))
    answered(toy, in_file(sent, content_type, headers))
    assert seen[0] == seen[1]
    assert seen[1][0] == given
    assert type(seen[1][0]) is type(given)
    assert descriptors() == before


def test_the_default_input_fn_maps_an_npy_body_and_the_file_stays_as_it_is() -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    seen: list[torch.Tensor] = []

    def predict_fn(data: torch.Tensor, _: Any) -> int:
        seen.append(data)
        data += 1
        return 0

    item = in_file(npy(array), "application/x-npy")
    assert isinstance(item.body, BodyFile)
    again = BodyFile(item.body.size, os.dup(item.body.descriptor))
    answered(computation(predict_fn=predict_fn), item)
    assert np.array_equal(seen[0].numpy(), array + 1)
    assert bytes(again.view()) == npy(array)
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if "(deleted)" in line]
    address = seen[0].data_ptr()
    spans = [[int(edge, 16) for edge in line.split()[0].split("-")] for line in mapped]
    assert any(low <= address < high for low, high in spans), "the numbers are in the mapping, and in no copy"


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3)),
        np.array(5.0),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(4, dtype=">f4"),
        np.array([True, False]),
    ],
    ids=["empty", "scalar", "fortran", "big endian", "bool"],
)
@pytest.mark.parametrize("content_type", ["application/x-npy", OCTETS])
def test_any_array_comes_out_of_a_file_as_out_of_memory(array, content_type) -> None:
    toy = computation(predict_fn=lambda data, _: [str(data.dtype), list(data.shape), data.double().tolist()])
    wanted = json.loads(answered(toy, request(npy(array), content_type=content_type)).body)
    assert json.loads(answered(toy, in_file(npy(array), content_type)).body) == wanted
    assert wanted[2] == array.astype(float).tolist()


def test_an_npy_body_whose_numbers_lie_at_odd_addresses_is_read_all_the_same() -> None:
    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }\n"
    body = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + np.array([1.5, 2.5]).tobytes()
    assert (len(body) - 16) % 8
    toy = computation(predict_fn=lambda data, _: data.tolist())
    assert json.loads(answered(toy, in_file(body, "application/x-npy")).body) == [1.5, 2.5]


def test_a_damaged_body_in_a_file_is_the_clients_mistake_and_leaves_no_descriptor() -> None:
    before = descriptors()
    toy = computation(model=torch.nn.Identity())
    assert refused(toy, in_file(npy(np.zeros(9))[:-1], "application/x-npy")).status == 400
    assert refused(toy, in_file(b"\xff[", JSON)).status == 400
    assert descriptors() == before


# --- scripts that take a file


def script(**functions: Any) -> ModuleType:
    module = ModuleType("script")
    module.__file__ = "code/inference.py"
    vars(module).update(functions)
    return module


def plain(input_data, content_type): ...
def binary(input_data: BinaryIO, content_type: str): ...
def binary_with_context(body: IO[bytes], content_type: str, context): ...
def optional(input_data: BinaryIO | None, content_type: str): ...
def either(input_data: Union[bytes, IO[bytes]], content_type: str): ...  # noqa: UP007 - as scripts have it
def buffered(input_data: io.BufferedReader, content_type: str): ...
def of_bytes(input_data: bytes | None, content_type: str): ...
def unknown_optional(input_data: BinaryIO | None, content_type: OnlyForTypeCheckers): ...
def of_objects(input_data, content_type): ...
def text(input_data: IO[str], content_type: str): ...
def unknown(input_data: BinaryIO, content_type: OnlyForTypeCheckers): ...


of_objects.__annotations__ = {"input_data": BinaryIO}


def whole(model, input_data: BinaryIO, content_type, accept): ...
def whole_plain(model: BinaryIO, input_data, content_type, accept): ...


@pytest.mark.parametrize(
    ("functions", "as_file"),
    [
        ({}, False),
        ({"input_fn": plain}, False),
        ({"input_fn": binary}, True),
        ({"input_fn": binary_with_context}, True),
        ({"input_fn": optional}, True),
        ({"input_fn": either}, True),
        ({"input_fn": buffered}, True),
        ({"input_fn": of_bytes}, False),
        ({"input_fn": unknown_optional}, True),
        ({"input_fn": of_objects}, True),
        ({"input_fn": text}, False),
        ({"input_fn": unknown}, True),
        ({"transform_fn": whole}, True),
        ({"transform_fn": whole_plain}, False),
    ],
)
def test_the_annotation_of_the_body_decides_whether_it_is_given_as_a_file(functions, as_file) -> None:
    assert bind(script(**functions), Context(model_name="m", manifest={}, system_properties={})).body_as_file is as_file


@pytest.mark.parametrize("make", [request, in_file], ids=["in memory", "in a file"])
@pytest.mark.parametrize("content_type", [JSON, OCTETS])
def test_a_script_that_wants_a_file_gets_one_wherever_the_body_is(make, content_type) -> None:
    before = descriptors()
    kept: list[BinaryIO] = []

    def input_fn(body: BinaryIO, kind: str) -> Any:
        kept.append(body)
        assert body.seek(0, os.SEEK_END) == 7
        with pytest.raises(io.UnsupportedOperation):
            body.write(b"x")
        body.seek(2)
        return [body.read().decode(), kind]

    toy = computation(input_fn=input_fn, predict_fn=lambda data, _: data, body_as_file=True)
    assert json.loads(answered(toy, make(b"[1,2,3]", content_type=content_type)).body) == [",2,3]", content_type]
    assert descriptors() == before, "it is closed though the script keeps it"


def test_transform_fn_is_given_the_file_too() -> None:
    def transform_fn(_model: Any, body: BinaryIO, _type: str, _accept: str) -> bytes:
        return body.read()

    toy = computation(transform_fn=transform_fn, body_as_file=True)
    assert answered(toy, in_file(b"abc", OCTETS)).body == b"abc"


# --- the way of a descriptor


@contextlib.contextmanager
def worker_end(connection: socket.socket) -> Iterator[Channel]:
    """A worker's channel, whose second socket nobody closes as long as the worker lives."""
    channel = Channel(connection)
    yield channel
    if channel._files is not None:
        channel._files.close()


def test_descriptors_come_beside_the_frames_and_find_their_requests() -> None:
    ours, theirs = socket.socketpair()
    files = BodyFiles()
    with ours, theirs, worker_end(theirs) as channel:
        assert files.open(ours, protocol.frame(Kind.LOAD, b"{}")) == b""
        assert channel.receive(wait=True)
        assert channel.next_frame(Kind.LOAD) == (Kind.LOAD, b"{}")
        sent = [
            Request(7, OCTETS, "", b"", filed(b"777")),
            Request(1, "", "", b"", b"in the frame"),
            Request(8, OCTETS, "", b"", filed(b"888")),
        ]
        ours.sendall(protocol.compute_frame([files.hand_over(each) for each in sent]))
        files.close()
        assert channel.receive(wait=True)
        frame = channel.next_frame(Kind.COMPUTE)
        assert frame is not None
        first, second, third = channel.compute(frame[1]).requests
        assert isinstance(first.body, BodyFile)
        assert isinstance(third.body, BodyFile)
        assert (first.body.read(), bytes(third.body.view())) == (bytearray(b"777"), b"888")
        assert isinstance(second.body, memoryview)
        assert not os.get_inheritable(first.body.descriptor)


@pytest.mark.parametrize("sent", ["no socket", "another request's", "no descriptor"])
def test_a_file_that_does_not_come_is_told_apart(sent: str) -> None:
    ours, theirs = socket.socketpair()
    files, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, files, worker_end(theirs) as channel:
        with far:
            socket.send_fds(ours, [protocol.frame(Kind.LOAD)], [] if sent == "no socket" else [far.fileno()])
        assert channel.receive(wait=True)
        channel.next_frame(Kind.LOAD)
        if sent == "another request's":
            socket.send_fds(files, [protocol.descriptor_message(6)], [files.fileno()])
        elif sent == "no descriptor":
            files.send(protocol.descriptor_message(7))
        wanted = protocol.compute_frame([Request(7, "", "", b"", BodyFile(3))])
        with pytest.raises(UnexpectedFrame):
            channel.compute(wanted[protocol.FRAME.size :])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_stream_reads_its_file_until_it_ends_and_then_it_is_closed(asynchronous: bool) -> None:
    async def read_slowly(body: BinaryIO, _model: Any) -> AsyncIterator[bytes]:
        while piece := body.read(2):
            yield piece

    def read(body: BinaryIO, _model: Any) -> Iterator[bytes]:
        try:
            while piece := body.read(2):
                yield piece
        finally:
            assert not body.closed

    before = descriptors()
    toy = computation(
        input_fn=lambda body, _: body, predict_fn=read_slowly if asynchronous else read, body_as_file=True
    )
    assert answered(toy, in_file(b"abcdef", OCTETS)).body == b"abcdef"
    toy.streams.close()  # its event loop has descriptors of its own
    assert descriptors() == before


def test_what_cannot_go_by_its_descriptor_goes_in_the_frame_and_is_closed() -> None:
    before = descriptors()
    files = BodyFiles()
    sent = files.hand_over(Request(1, OCTETS, "", b"", filed(b"abc")))
    assert sent.body == bytearray(b"abc")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert files.open(ours, b"first") == b""
        assert theirs.recv(99) == b"first"  # and the descriptor is thrown away: nobody is at the other end
        assert files.hand_over(Request(1, OCTETS, "", b"", filed(b"abc"))).body == bytearray(b"abc")
        files.close()
        files.close()
    assert descriptors() == before
