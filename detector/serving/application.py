"""The page and the API of a trained model."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from detector.datasets.pictures.read import read_image
from detector.errors import UserError, one_line
from detector.inference.augmented import Augment
from detector.inference.detections import Detections
from detector.inference.predictor import Predictor
from detector.serving.batching import Batcher
from detector.serving.bodies import FORM, Limits, RefusedError, Upload, read_uploads
from detector.serving.counts import Counts
from detector.version import __version__

DETECT = "/v1/detect"
RETRY_AFTER = "1"  # seconds that a client should wait when the queue is full

# What the page may do: run its own script, ask this server, and show pictures that the user dropped on it.
PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob: data:; connect-src 'self'"
)
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "properties": {"image": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    413: {"description": "too many bytes or pictures"},
    422: {"description": "no picture, or one that cannot be read"},
    503: {"description": "the queue is full; try again after Retry-After seconds"},
    504: {"description": "the answer took longer than the limit"},
}


_THRESHOLD = "score_threshold"  # of the query


@dataclass(frozen=True)
class ServerLimits:
    """What a server takes on.

    queue: requests that wait or are read, beside the one in work. seconds: a request takes at most. max_pixels: of a
    picture. score_threshold: where a request names none.
    """

    request: Limits
    queue: int
    seconds: float
    max_pixels: int
    score_threshold: float


class Service:
    """A predictor behind a queue, with what it counts.

    Args:
        predictor: predicts in one thread from now on.
        limits: what is taken on.
        batch_size: pictures of a pass at most.
        augment: as `Predictor.predict` takes it.
    """

    def __init__(self, predictor: Predictor, limits: ServerLimits, batch_size: int, augment: Augment = None) -> None:
        self.predictor, self.limits = predictor, limits
        self.counts = Counts()
        self.open_requests = 0
        self._decoding = 0  # pictures that are about to join the queue

        def predict(images: Any) -> list[Detections]:
            return predictor.predict(list(images), score_threshold=0.0, batch_size=batch_size, augment=augment)

        self.batcher = Batcher(predict, batch_size, self.counts.add_batch, lambda: self._decoding > 0)
        # Decoded pictures are large: only as many exist as keep the network busy.
        self._decoded = asyncio.Semaphore(2 * batch_size + 1)

    async def detect(self, uploads: list[Upload]) -> list["Detections | Unreadable"]:
        """The detections of each picture, or why it cannot be read.

        That is returned and not raised: an exception would keep the bytes of the picture until the next collection of
        garbage.
        """
        tasks = [asyncio.ensure_future(self._detect_one(upload)) for upload in uploads]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def _detect_one(self, upload: Upload) -> "Detections | Unreadable":
        async with self._decoded:
            self._decoding += 1
            try:
                image = await asyncio.to_thread(self._decode, upload)
                if isinstance(image, Unreadable):
                    return image
                answer = self.batcher.submit(image)
            finally:
                self._decoding -= 1
            return await asyncio.wrap_future(answer)

    def _decode(self, upload: Upload) -> "np.ndarray | Unreadable":
        try:
            return read_image(upload.data, self.limits.max_pixels, self.predictor.config.input.bit_depth)
        except UserError as error:
            return Unreadable(str(error).replace("the given bytes", upload.name))


@dataclass(frozen=True)
class Unreadable:
    """Why a picture cannot be read."""

    sentence: str


def make_application(
    predictor: Predictor, limits: ServerLimits, batch_size: int, title: str, augment: Augment = None
) -> FastAPI:
    """The application, which answers until it is shut down and then finishes what it has begun.

    Args:
        predictor: with its weights; used by one thread.
        limits: what is taken on.
        batch_size: pictures of a pass at most.
        title: of the page, such as the name of the weights.
        augment: as `Predictor.predict` takes it.
    """
    service = Service(predictor, limits, batch_size, augment)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.batcher.close)

    # The usual pages of documentation would fetch their scripts from elsewhere.
    application = FastAPI(title=title, version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    page = files("detector.serving").joinpath("page.html").read_text(encoding="utf-8")

    @application.get("/", include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": PAGE_POLICY})

    @application.get("/healthz")
    async def healthz() -> dict[str, Any]:
        """Whether the model is there, and which."""
        return {"status": "ok", "model": title, "device": str(predictor.device), "classes": predictor.names}

    @application.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """Counts and times, as Prometheus reads them."""
        gauges = {
            "detector_open_requests": ("Requests that wait or are in work.", float(service.open_requests)),
            "detector_queue_pictures": ("Pictures that wait for the network.", float(service.batcher.length)),
        }
        return PlainTextResponse(service.counts.text(gauges), media_type="text/plain; version=0.0.4")

    @application.post(DETECT, openapi_extra=BODY, responses=ANSWERS)
    async def detect(
        request: Request, score_threshold: Annotated[float, Query(ge=0, le=1)] = limits.score_threshold
    ) -> Response:
        """Detect objects in one picture (the body) or several (the files of a form).

        The answer has `images` (id, file_name, width, height) and `detections` in COCO's form: image_id, category_id,
        bbox [x, y, width, height] in pixels of the upright picture, score, and file_name and category_name.
        """
        return await _answer(service, request, score_threshold)

    @application.exception_handler(RequestValidationError)
    async def refuse_words(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return _refusal(422, f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}.")

    application.add_middleware(CountAnswers, counts=service.counts)
    return application


class CountAnswers:
    """Counts the answers to requests for detections by code and time, and forbids guessing at what an answer is.

    Takes HEAD, which tools ask for that only look whether a server is there, for GET; the server leaves the body out.
    """

    def __init__(self, app: ASGIApp, counts: Counts) -> None:
        self.app, self.counts = app, counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on. (ASGI's interface.)"""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        began, code = time.perf_counter(), 500

        async def send_on(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                MutableHeaders(scope=message)["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            await self.app(scope, receive, send_on)
        finally:
            if scope["path"] == DETECT:
                self.counts.add_request(code, time.perf_counter() - began)


async def _answer(service: Service, request: Request, score_threshold: float) -> Response:
    """The detections of a request's pictures, or why there are none."""
    others = [name for name in request.query_params if name != _THRESHOLD]
    if others:
        return _refusal(422, f"{one_line(others[0], limit=40)}: there is no such word; {_THRESHOLD}=… is the only one.")
    if len(request.query_params.getlist(_THRESHOLD)) > 1:
        return _refusal(422, f"{_THRESHOLD}: is given twice.")
    limits = service.limits
    if service.open_requests >= limits.queue + 1:
        return _refusal(503, "the queue is full; try again later.", {"Retry-After": RETRY_AFTER})
    service.open_requests += 1
    try:
        async with asyncio.timeout(limits.seconds):
            uploads = await read_uploads(request, limits.request)
            names = [upload.name for upload in uploads]
            answers = await service.detect(uploads)
    except TimeoutError:
        return _refusal(504, f"the answer took longer than {limits.seconds:g} s; send fewer or smaller pictures.")
    except RefusedError as error:
        return _refusal(error.code, error.sentence)
    except UserError as error:  # of the network: too little memory for this picture
        return _refusal(500, str(error))
    finally:
        service.open_requests -= 1
    detections = [one.at_least(score_threshold) for one in answers if not isinstance(one, Unreadable)]
    for one in answers:
        if isinstance(one, Unreadable):
            return _refusal(422, one.sentence)
    return JSONResponse(describe(detections, names))


def describe(detections: list[Detections], names: list[str]) -> dict[str, Any]:
    """The answer: the pictures, and their detections in COCO's form with names."""
    images, results = [], []
    for image_id, (one, name) in enumerate(zip(detections, names, strict=True), start=1):
        height, width = one.image_size
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        results += [
            result | {"file_name": name, "category_name": category_name}
            for result, category_name in zip(one.to_coco(image_id), one.names, strict=True)
        ]
    return {"images": images, "detections": results}


def _refusal(code: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": sentence}, code, headers)
