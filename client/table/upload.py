"""A file that appears in S3 as a whole or not at all."""

from __future__ import annotations

import io
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tidegate.client.errors import TableFailed
from tidegate.client.table.job_objects import Place

PART_BYTES = 16 * 1024 * 1024
_PARTS_OF_ONE_SIZE = 2000  # S3 takes 10,000; parts grow, so that any file that it takes fits


class Upload(io.RawIOBase):
    """Written to, then committed: only then is there an object. Left without that, what went up is aborted.

    A process that is killed leaves an upload without object: readers never see it, and the bucket's lifecycle rule for
    incomplete uploads takes it away. One part goes up while the next is written.
    """

    def __init__(self, s3: Any, place: Place) -> None:
        self._s3, self._place = s3, place
        self._buffer = bytearray()
        self._id: str | None = None
        self._parts: list[dict[str, Any]] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="upload")
        self._going: Future[dict[str, Any]] | None = None
        self._committed = self._over = False
        self.size_bytes = 0

    def writable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The bytes written so far."""
        return self.size_bytes

    def write(self, data: Any) -> int:
        """Take `data`; raises `TableFailed` when S3 refuses a part."""
        view = memoryview(data)
        if self._over:  # Arrow ends a file also when it is given up
            return view.nbytes
        self._buffer += view
        self.size_bytes += view.nbytes
        if len(self._buffer) >= PART_BYTES * (1 + len(self._parts) // _PARTS_OF_ONE_SIZE):
            self._send()
        return view.nbytes

    def commit(self) -> None:
        """Make the object. Raises `TableFailed`."""
        try:
            if self._id is None and self._going is None:
                self._s3.put_object(
                    **self._named, Body=bytes(self._buffer), ContentType="application/vnd.apache.parquet"
                )
            else:
                if self._buffer:
                    self._send()
                self._landed()
                self._s3.complete_multipart_upload(
                    **self._named, UploadId=self._id, MultipartUpload={"Parts": self._parts}
                )
        except (ClientError, BotoCoreError) as error:
            raise self._failure(error) from error
        self._committed = True

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        if self._going is not None:
            self._going.exception()
        self._pool.shutdown()
        if not self._committed and self._id is not None:
            with suppress(ClientError, BotoCoreError):  # why it failed is the error that counts
                self._s3.abort_multipart_upload(**self._named, UploadId=self._id)
        self.close()

    @property
    def _named(self) -> dict[str, str]:
        return {"Bucket": self._place.bucket, "Key": self._place.key}

    def _send(self) -> None:
        part, self._buffer = bytes(self._buffer), bytearray()
        try:
            if self._id is None:
                created = self._s3.create_multipart_upload(**self._named, ContentType="application/vnd.apache.parquet")
                self._id = created["UploadId"]
            self._landed()
        except (ClientError, BotoCoreError) as error:
            raise self._failure(error) from error
        self._going = self._pool.submit(self._upload, part, len(self._parts) + 1)

    def _upload(self, part: bytes, number: int) -> dict[str, Any]:
        answer = self._s3.upload_part(**self._named, UploadId=self._id, PartNumber=number, Body=part)
        # A checksum that botocore sent must be named when the parts are put together.
        sums = {name: value for name, value in answer.items() if name.startswith("Checksum") and name != "ChecksumType"}
        return {"PartNumber": number, "ETag": answer["ETag"], **sums}

    def _landed(self) -> None:
        if self._going is not None:
            going, self._going = self._going, None
            self._parts.append(going.result())

    def _failure(self, error: Exception) -> TableFailed:
        return TableFailed(f"{self._place.address} cannot be written: {error}")
