"""The socket by which the descriptors of bodies in files go to one worker, beside its frames."""

from __future__ import annotations

import logging
import socket

from tidegate.inference import protocol
from tidegate.inference.body_file import BodyFile
from tidegate.inference.protocol import Request

log = logging.getLogger("tidegate.model")


class BodyFiles:
    """The frontend's end. Where it cannot be had, bodies go into the frames."""

    def __init__(self) -> None:
        self._ours: socket.socket | None = None

    def open(self, channel: socket.socket, first_frame: bytes, *further: int) -> bytes:
        """Send the worker its end with the first bytes on `channel`; returns what is left of `first_frame`.

        The descriptors `further` go with it.
        """
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:  # no descriptor is left
            return first_frame
        ours.setblocking(False)
        self._ours = ours
        with theirs:
            try:
                return first_frame[socket.send_fds(channel, [first_frame], [theirs.fileno(), *further]) :]
            except OSError:
                self.close()
                return first_frame

    def hand_over(self, request: Request) -> Request:
        """Send the file that the body of `request` is in, if it is in one; returns what its frame is made of."""
        body = request.body
        if not isinstance(body, BodyFile):
            return request
        try:
            if self._ours is None:
                return request._replace(body=body.read())
            try:
                socket.send_fds(self._ours, [protocol.descriptor_message(request.id)], [body.descriptor])
            except OSError as error:
                # Too many are on their way already. Nothing of this one is: the message is sent whole or not at all.
                log.warning("a body is sent in a frame, and not by its file", extra={"reason": str(error)})
                return request._replace(body=body.read())
            return request
        finally:
            body.close()

    def close(self) -> None:
        """Hang up."""
        if self._ours is not None:
            self._ours.close()
            self._ours = None
