"""The worker's end of the socket to the frontend."""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
from array import array
from collections import deque
from collections.abc import Callable

from tidegate.inference import protocol
from tidegate.inference.begun_page import BegunPage
from tidegate.inference.body_file import BodyFile
from tidegate.inference.protocol import Compute, Event, FrameReader, Kind, Payload
from tidegate.inference.worker.leaving import leave

RECEIVE_BYTES = 1 << 18
_MESSAGE_BYTES = 64
_TURN_S = 0.01
"""How long whoever reads frames waits at one time while another thread reads."""
_TIMEVAL = struct.Struct("ll")
_DESCRIPTOR_BYTES = struct.calcsize("i")
_MOST_DESCRIPTORS = 2


class HungUp(Exception):
    """The frontend has closed its end."""


class UnexpectedFrame(Exception):
    """A frame that a worker does not expect: the other end is of another version, or the stream is damaged."""


class Channel:
    """Frames out and in. Only the process that made it may send: a fork of user code may come back here."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._reader = FrameReader()
        self._frames: deque[tuple[int, Payload]] = deque()
        self._files: socket.socket | None = None
        """Where the descriptors of bodies in files come, apart from the frames."""
        self.begun_page: BegunPage | None = None
        """Where the frontend reads what was begun of that which came; None where there is no such page."""
        self._pid = os.getpid()
        self._sending = threading.Lock()
        self._receiving = threading.Lock()
        self.taker: Callable[[int, Payload], bool] = _nobody
        """Is shown each frame that comes in, and takes those that are for nobody else."""

    def limit_waits(self, seconds: float) -> None:
        """Have `receive` return after so long although nothing has come.

        The kernel keeps the time: to ask whether something comes before each frame would cost a call for every one.
        """
        self._socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(int(seconds), int(seconds % 1 * 1e6))
        )

    def send(self, *events: Event) -> None:
        """Send the frames of `events` together. Raises `HungUp`."""
        if events:
            self.send_frame(b"".join(map(protocol.event_frame, events)))

    def send_frame(self, data: bytes) -> None:
        """Send what is a frame already, from any thread. Raises `HungUp`."""
        if os.getpid() != self._pid:
            leave(0)  # without running what the worker's own end would run
        try:
            with self._sending:
                self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise HungUp from None

    def receive(self, *, wait: bool) -> bool:
        """Take in what has come, and wait for a frame where there is none; False where the frontend has hung up."""
        while not self._frames:
            if self._receiving.acquire(timeout=_TURN_S if wait else 0.0):
                try:
                    if self._frames:
                        break  # another thread has read it, while this one waited for its turn
                    return self._take_in(wait=wait)
                finally:
                    self._receiving.release()
            if not wait:
                break  # another thread reads, and what it finds is there the next time
        return True

    def listen(self, timeout_s: float) -> bool:
        """Wait for something to come, in a thread that waits for what the taker takes.

        False at once where another thread reads. Raises `HungUp`.
        """
        if not self._receiving.acquire(blocking=False):
            return False
        try:
            arrivals = select.poll()
            arrivals.register(self._socket, select.POLLIN)
            if arrivals.poll(timeout_s * 1000) and not self._take_in(wait=False):
                raise HungUp
        finally:
            self._receiving.release()
        return True

    def _take_in(self, *, wait: bool) -> bool:
        while True:
            try:
                data = self._receive(0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            except ConnectionResetError:
                return False
            if not data:
                return False
            self._frames.extend(each for each in self._reader.feed(data) if not self.taker(*each))
            if self._frames or not wait:
                return True

    def next_frame(self, *expected: Kind) -> tuple[Kind, Payload] | None:
        """The next frame that has been received, which must be of one of these kinds. Raises `UnexpectedFrame`."""
        if not self._frames:
            return None
        number, payload = self._frames.popleft()
        for kind in expected:
            if kind == number:
                return kind, payload
        names = ", ".join(kind.name for kind in expected)
        raise UnexpectedFrame(f"a frame of the kind {number} came where {names} may come")

    def compute(self, payload: Payload) -> Compute:
        """What a COMPUTE payload says, with the files of bodies that are in one. Raises `UnexpectedFrame`."""
        found = protocol.parse_compute(payload)
        for at, request in enumerate(found.requests):
            if isinstance(request.body, BodyFile):
                found.requests[at] = request._replace(
                    body=BodyFile(request.body.size, self._take_descriptor(request.id))
                )
        return found

    def fileno(self) -> int:
        """The socket, which is readable when something has come."""
        return self._socket.fileno()

    def _receive(self, flags: int) -> bytes:
        if self._files is not None:
            return self._socket.recv(RECEIVE_BYTES, flags)
        data, descriptors = _with_descriptors(self._socket, RECEIVE_BYTES, flags)
        if descriptors:
            self._files = socket.socket(fileno=descriptors[0])
        for page in descriptors[1:]:
            self.begun_page = BegunPage(page)
            os.close(page)
        return data

    def _take_descriptor(self, request_id: int) -> int:
        if self._files is None:
            raise UnexpectedFrame("a request has its body in a file, and there is no socket to take it from")
        message, descriptors = _with_descriptors(self._files, _MESSAGE_BYTES)
        if not descriptors or protocol.parse_id(message) != request_id:
            raise UnexpectedFrame(f"the file of the request {request_id} did not come in its turn")
        return descriptors[0]


def _nobody(_kind: int, _payload: Payload) -> bool:
    return False


def _with_descriptors(connection: socket.socket, size: int, flags: int = 0) -> tuple[bytes, list[int]]:
    """What `socket.recv_fds` returns, which in Python 3.11 does not pass its flags on."""
    # The kernel closes it in the programs that user code starts.
    flags |= socket.MSG_CMSG_CLOEXEC
    data, ancillary, _, _ = connection.recvmsg(size, socket.CMSG_SPACE(_MOST_DESCRIPTORS * _DESCRIPTOR_BYTES), flags)
    found = array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
    return data, list(found)
