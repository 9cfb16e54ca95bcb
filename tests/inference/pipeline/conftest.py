"""Every test of this folder ends with no thread of a pipeline left."""

from tests.inference.pipeline.threads import no_thread_is_left

__all__ = ["no_thread_is_left"]
