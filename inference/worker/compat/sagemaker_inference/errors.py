"""What user scripts raise to choose a status themselves, and what the codecs raise."""

from __future__ import annotations


class UnsupportedFormatError(Exception):
    """A media type that cannot be read or written: 415 where `input_fn` lets it out, 406 from `output_fn`."""

    def __init__(self, content_type: object) -> None:
        super().__init__(f"The type '{content_type}' is not supported")


class BaseInferenceToolkitError(Exception):
    """An error whose `status_code` and `message` the client sees; `phrase` is kept for scripts that read it."""

    def __init__(self, status_code: int, message: str, phrase: str) -> None:
        super().__init__(status_code, message, phrase)
        self.status_code = status_code
        self.message = message
        self.phrase = phrase


class GenericInferenceToolkitError(BaseInferenceToolkitError):
    """The same, with a message and a phrase of its own where none are given."""

    def __init__(self, status_code: int, message: str | None = None, phrase: str | None = None) -> None:
        text = message or "Invalid Request"
        super().__init__(status_code, text, phrase or text)
