"""The pictures in the body of a request, read no further than the limits allow."""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

FORM = "multipart/form-data"


@dataclass(frozen=True)
class Limits:
    """What one request may hold."""

    max_bytes: int
    max_pictures: int


@dataclass(frozen=True)
class Upload:
    """A picture as it came: its name, and the bytes of its file."""

    name: str
    data: bytes


class RefusedError(Exception):
    """A request that is answered with this code and sentence."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.sentence = code, sentence


async def read_uploads(request: Request, limits: Limits) -> list[Upload]:
    """The pictures of a request: the files of a form, or the whole body.

    Bytes are counted while they come in: neither a wrong Content-Length nor a body without one is believed. What
    comes after a refusal is read and forgotten by the server, for a few seconds, so that the client gets to its answer.

    Raises:
        RefusedError: 413 for too much or too many, 422 for a body without a picture or that is no form, 400 where the
            client went away.
    """
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > limits.max_bytes:
        raise _too_large(limits)
    try:
        kind = request.headers.get("content-type", "").lower()
        if kind.startswith(FORM):
            return await _read_form(request, limits)
        if kind.startswith("application/json"):
            raise RefusedError(422, "the request is JSON; send a file of a form, or the bytes of a picture as body.")
        body = bytearray()  # one piece of memory, which goes back to the system as a whole
        async for chunk in _counted(request.stream(), limits):
            body += chunk
    except ClientDisconnect:
        raise RefusedError(400, "the request ended before its body was complete.") from None
    if not body:
        raise RefusedError(422, "the request has no picture; send a file of a form, or the bytes of a picture as body.")
    return [Upload("picture", bytes(body))]


async def _read_form(request: Request, limits: Limits) -> list[Upload]:
    _, options = parse_options_header(request.headers["content-type"])
    ending = b"--" + options.get(b"boundary", b"") + b"--"
    stream = _ended(_counted(request.stream(), limits), ending)
    parser = MultiPartParser(request.headers, stream, max_files=limits.max_pictures, max_fields=limits.max_pictures)
    try:
        form = await parser.parse()
    except _CutShortError:
        sentence = "the form is cut short: its last line is missing; send it again as a whole."
        raise RefusedError(422, sentence) from None
    except MultiPartException as error:
        if "Too many files" in error.message:
            sentence = f"the request has more than {limits.max_pictures} pictures; send fewer at once."
            raise RefusedError(413, sentence) from None
        raise RefusedError(422, f"the request is no form as browsers send it: {error.message}") from None
    except KeyError:  # of a form's header without a boundary
        raise RefusedError(422, "the request's Content-Type names no boundary of its form.") from None
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        uploads = [
            Upload(file.filename or f"picture {place}", await file.read()) for place, file in enumerate(files, start=1)
        ]
    finally:
        await form.close()
    if not uploads:
        raise RefusedError(422, "the form has no file; send one or several pictures as files.")
    return uploads


class _CutShortError(MultiPartException):
    """A form without the line that closes it may lack its last file. Its reader does not tell; this it understands."""


async def _ended(stream: AsyncIterator[bytes], ending: bytes) -> AsyncGenerator[bytes, None]:
    """The chunks of a stream. Raises _CutShortError at its end where `ending` has not come."""
    has_come, before = False, b""
    async for chunk in stream:
        # Where two chunks meet, and in this one.
        has_come = has_come or ending in before + chunk[: len(ending)] or ending in chunk
        before = (before + chunk)[-len(ending) :]
        yield chunk
    if not has_come:
        raise _CutShortError("cut short")


async def _counted(stream: AsyncIterator[bytes], limits: Limits) -> AsyncGenerator[bytes, None]:
    """The chunks of a stream. Raises RefusedError as soon as they are too much."""
    count = 0
    async for chunk in stream:
        count += len(chunk)
        if count > limits.max_bytes:
            raise _too_large(limits)
        yield chunk


def _too_large(limits: Limits) -> RefusedError:
    return RefusedError(
        413, f"the request is larger than {limits.max_bytes / 1e6:g} MB; send fewer or smaller pictures."
    )
