"""Standard output and error that may lose their reader: the work continues without them."""

import errno
import io
import os
import sys
from typing import Any

READER_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.EIO})
"""Errors of a write to a pipe that was closed, such as that of `head`, or to a terminal that was."""


def outlive_reader() -> None:
    """Let stdout and stderr of this process lose their reader, or the room on their disk, without an error.

    Without a reader, everything that follows is discarded, also that of libraries and of child processes. Where the
    text cannot be written for another reason, such as a full disk, it is discarded and stderr says so once. Streams
    that something else put in the place of Python's own are left alone.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            outliving = _outliving(stream)
            setattr(sys, name, outliving)
            setattr(sys, f"__{name}__", outliving)


class _Descriptor(io.FileIO):
    """The file of a standard stream, whose writes never fail."""

    said = False

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self._lose(error)
            return memoryview(data).nbytes

    def _lose(self, error: OSError) -> None:
        if error.errno in READER_GONE:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
        elif not self.said and self.fileno() == 1:
            self.said = True
            print(f"stdout cannot be written ({error.strerror}): the work continues without it.", file=sys.stderr)


def _outliving(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """The same stream as a new object; the one of Python itself where its file is no plain one (Windows' console)."""
    buffer: Any = stream.buffer
    unbuffered = isinstance(buffer, io.FileIO)  # python -u
    if not unbuffered and not isinstance(getattr(buffer, "raw", None), io.FileIO):
        return stream
    stream.flush()
    file = _Descriptor(stream.fileno(), "wb", closefd=False)
    file.name = stream.name
    return io.TextIOWrapper(
        file if unbuffered else io.BufferedWriter(file),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
