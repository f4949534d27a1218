"""The API: answers, refusals, a full queue, and that nobody gets another one's detections."""

import io
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from servers import Client, noise, save_tiny_weights

import detector
from detector.commands.serve import listen
from detector.inference.predictor import Predictor

BOUNDARY = "boundary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
LOW = "/v1/detect?score_threshold=0.2"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_tiny_weights(path)
    return detector.load(path, device="cpu")


@contextmanager
def serving(predictor: Predictor, batch_size: int = 1, augment: Any = None, **changes: Any) -> Iterator[Client]:
    """The application behind a real server in a thread of this process."""
    import uvicorn

    from detector.serving.application import ServerLimits, make_application
    from detector.serving.bodies import Limits

    words = {"queue": 16, "seconds": 60.0, "max_pixels": 200_000, "score_threshold": 0.5} | changes
    limits = ServerLimits(request=Limits(max_bytes=words.pop("max_bytes", 300_000), max_pictures=3), **words)
    application = make_application(predictor, limits, batch_size, "tiny", augment)
    client = Client()
    with listen("127.0.0.1", 0) as listening:
        client.port = listening.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(application, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield client
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def client(predictor: Predictor) -> Iterator[Client]:
    with serving(predictor) as client:
        yield client


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    return stream.getvalue()


def form(**files: bytes) -> bytes:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="{name}.png"\r\n\r\n'.encode() + data
        for name, data in files.items()
    ]
    return b"\r\n".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


def expected(predictor: Predictor, image: np.ndarray, threshold: float = 0.2) -> list[dict[str, Any]]:
    detections = predictor.predict(image, score_threshold=threshold)
    return [
        result | {"category_name": name} for result, name in zip(detections.to_coco(1), detections.names, strict=True)
    ]


def without_files(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in one.items() if key != "file_name"} for one in results]


def test_one_picture_as_the_body(client: Client, predictor: Predictor) -> None:
    image = noise(90, 120)
    code, answer, headers = client.ask("POST", LOW, png(image))
    assert code == 200
    assert answer["images"] == [{"id": 1, "file_name": "picture", "width": 120, "height": 90}]
    assert without_files(answer["detections"]) == expected(predictor, image)
    assert len(answer["detections"]) > 3
    assert headers["x-content-type-options"] == "nosniff"
    assert len(client.ask("POST", "/v1/detect", png(image))[1]["detections"]) == len(expected(predictor, image, 0.5))


def test_several_pictures_of_a_form(client: Client, predictor: Predictor) -> None:
    images = {"a": noise(90, 120), "ü b": noise(64, 64, seed=1)}
    code, answer, _ = client.ask("POST", LOW, form(**{name: png(image) for name, image in images.items()}), FORM)
    assert code == 200
    assert [one["file_name"] for one in answer["images"]] == ["a.png", "ü b.png"]
    for image_id, (name, image) in enumerate(images.items(), start=1):
        mine = [one for one in answer["detections"] if one["image_id"] == image_id]
        assert {one["file_name"] for one in mine} == {f"{name}.png"}
        assert [one["bbox"] for one in mine] == [one["bbox"] for one in expected(predictor, image)]


@pytest.mark.parametrize(
    ("path", "body", "headers", "code", "sentence"),
    [
        ("", b"hello", {}, 422, "picture: not a picture of a known format"),
        ("", b"", {}, 422, "the request has no picture"),
        ("", png(noise(80, 80))[:900], {}, 422, "picture: "),
        ("", png(np.zeros((1000, 300, 3), np.uint8)), {}, 422, "pixels"),
        ("", form(a=png(noise(80, 80)), b=b"no"), FORM, 422, "b.png: not a picture"),
        ("", form(), FORM, 422, "the form has no file"),
        ("", b"hello", {"Content-Type": "multipart/form-data"}, 422, "no form as browsers send it"),
        ("", form(a=b"1", b=b"2", c=b"3", d=b"4"), FORM, 413, "more than 3 pictures"),
        ("", bytes(300_001), {}, 413, "larger than 0.3 MB"),
        ("", form(a=bytes(300_001)), FORM, 413, "larger than 0.3 MB"),
        ("?score_threshold=2", b"x", {}, 422, "score_threshold: Input should be less than or equal to 1"),
        ("?score_threshold=cat", b"x", {}, 422, "score_threshold: "),
        ("?score_threshold=0.1&score_threshold=0.9", b"x", {}, 422, "score_threshold: is given twice"),
        ("?score_threshold=nan", b"x", {}, 422, "score_threshold: "),
        ("", b'{"image": "aGVsbG8="}', {"Content-Type": "application/json"}, 422, "the request is JSON; send"),
        ("", form(a=png(noise(80, 80)), b=png(noise(80, 80)))[:-30], FORM, 422, "the form is cut short"),
        ("?threshold=0.7", b"x", {}, 422, "threshold: there is no such word; score_threshold=… is the only one."),
    ],
)
def test_refusals(client: Client, path: str, body: bytes, headers: dict[str, str], code: int, sentence: str) -> None:
    answered, answer, _ = client.ask("POST", f"/v1/detect{path}", body, headers)
    assert answered == code
    assert sentence in answer["detail"]
    assert "\n" not in answer["detail"]


def test_a_body_of_unknown_length_is_counted_while_it_comes(client: Client) -> None:
    def chunks() -> Iterator[bytes]:
        return (bytes(100_000) for _ in range(200))

    for kind in ({"Transfer-Encoding": "chunked"}, FORM | {"Transfer-Encoding": "chunked"}):
        first = [form(a=b"")[:90]] if "Content-Type" in kind else []
        body = iter([*first, *chunks()])
        code, answer, _ = client.ask("POST", "/v1/detect", body, kind, chunked=True)
        assert code == 413
        assert "larger than 0.3 MB" in answer["detail"]


def test_two_hundred_at_once_with_a_queue_of_sixteen(client: Client, predictor: Predictor) -> None:
    pictures = [noise(60 + i, 80, seed=i) for i in range(8)]
    bodies = [png(image) for image in pictures]
    right = [expected(predictor, image) for image in pictures]
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda i: client.ask("POST", LOW, bodies[i % 8]), range(200)))
    codes = Counter(code for code, _, _ in answers)
    assert set(codes) <= {200, 503}
    assert codes[200] >= 17
    for i, (code, answer, headers) in enumerate(answers):
        if code == 200:
            assert without_files(answer["detections"]) == right[i % 8]
        else:
            assert answer["detail"].startswith("the queue is full")
            assert int(headers["retry-after"]) >= 1
    assert client.ask("POST", LOW, bodies[0])[0] == 200


def test_a_full_queue_refuses_and_keeps_what_it_took(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    real, gate = predictor.predict, threading.Event()
    monkeypatch.setattr(predictor, "predict", lambda *words, **more: gate.wait(60) and real(*words, **more))
    body = png(noise(64, 64))
    with serving(predictor, queue=4) as client, ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(client.ask, "POST", LOW, body) for _ in range(12)]
        while sum(one.done() for one in answers) < 7:  # 12 − 4 − 1 in work
            time.sleep(0.01)
        assert {one.result()[0] for one in answers if one.done()} == {503}
        gate.set()
        assert Counter(one.result()[0] for one in answers) == {503: 7, 200: 5}


def test_pictures_that_wait_share_a_pass(predictor: Predictor) -> None:
    bodies = [png(noise(80, 80, seed=i)) for i in range(12)]
    with serving(predictor, batch_size=4) as client:
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda body: client.ask("POST", LOW, body), bodies))
        _, metrics, _ = client.ask("GET", "/metrics")
    alone = [expected(predictor, noise(80, 80, seed=i)) for i in range(12)]
    for (code, answer, _), one in zip(answers, alone, strict=True):
        assert code == 200
        assert [d["category_id"] for d in answer["detections"]] == [d["category_id"] for d in one]
        boxes = [[d["bbox"] for d in results] for results in (answer["detections"], one)]
        assert np.allclose(*boxes, atol=0.01)
    passes = int(
        next(line for line in metrics.splitlines() if line.startswith("detector_batch_pictures_count")).split()[1]
    )
    assert passes < 12


def test_looking_several_times(predictor: Predictor) -> None:
    image = noise(64, 80)
    with serving(predictor, augment=True) as client:
        _, answer, _ = client.ask("POST", LOW, png(image))
    twice = predictor.predict(image, score_threshold=0.2, augment=True)
    assert [one["bbox"] for one in answer["detections"]] == [one["bbox"] for one in twice.to_coco(1)]
    assert [one["bbox"] for one in expected(predictor, image)] != [one["bbox"] for one in twice.to_coco(1)]


def test_an_answer_that_takes_too_long(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    real, gate = predictor.predict, threading.Event()
    monkeypatch.setattr(predictor, "predict", lambda *words, **more: gate.wait(60) and real(*words, **more))
    with serving(predictor, seconds=1.5) as client:
        code, answer, _ = client.ask("POST", "/v1/detect", png(noise(80, 80)))
        assert (code, answer["detail"][:33]) == (504, "the answer took longer than 1.5 s")
        gate.set()
        assert client.ask("POST", "/v1/detect", png(noise(80, 80)))[0] == 200


def test_health_counts_page_and_description(client: Client) -> None:
    client.ask("POST", LOW, png(noise(64, 64)))
    code, health, _ = client.ask("GET", "/healthz")
    assert (code, health["status"], health["classes"]) == (200, "ok", ["cat", "dog", "<b>猫</b>"])
    code, metrics, headers = client.ask("GET", "/metrics")
    assert code == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'detector_requests_total{code="200"}' in metrics
    assert 'detector_request_seconds_bucket{le="+Inf"}' in metrics
    assert "detector_open_requests 0" in metrics
    code, page, headers = client.ask("GET", "/")
    assert code == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "http://" not in page
    assert "https://" not in page
    _, description, _ = client.ask("GET", "/openapi.json")
    operation = description["paths"]["/v1/detect"]["post"]
    assert set(operation["requestBody"]["content"]) == {"multipart/form-data", "application/octet-stream"}
    assert {"200", "413", "422", "503", "504"} <= set(operation["responses"])
    for path in ("/", "/metrics"):  # by HEAD, as `curl -I` and many load balancers ask
        code, nothing, headers = client.ask("HEAD", path)
        assert (code, nothing) == (200, "")
        assert int(headers["content-length"]) > 100
    assert client.ask("GET", "/docs")[0] == 404  # it would fetch scripts from elsewhere


def test_a_page_file_is_part_of_the_package() -> None:
    assert (Path(detector.__file__).parent / "serving" / "page.html").is_file()
