"""The web server behind the page: pictures in, answers out; for this machine alone unless told otherwise."""

import logging
import socket
import threading
import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from pipeline.data import pictures
from pipeline.errors import InputError, PipelineError
from pipeline.inference import digitize
from pipeline.inference.reading import Reading, are_characters, read_picture, text
from pipeline.inference.segments import reading_order
from pipeline.metrics.catalog import SCORE_THRESHOLD
from pipeline.playground.corrections import Corrections
from pipeline.registry.loading import RegisteredModel

logger = logging.getLogger(__name__)

# Boxes line by line in reading order, the images that a model saw of them, and the boxes of marks that it passed over.
Read = tuple[list[list[dict]], list[int], np.ndarray]

PAGE = Path(__file__).with_name("page")
# None of these can a page from elsewhere send without asking first.
TYPES = ("image/png", "image/jpeg", "image/webp", "image/bmp", "image/tiff", "image/heic", "application/octet-stream")
MAX_BYTES = 20_000_000
MAX_CONNECTIONS = 32
ANYWHERE = ("0.0.0.0", "::")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def create(models: Sequence[RegisteredModel], corrections: Corrections, *, hosts: Sequence[str]) -> FastAPI:
    """The page and what it asks.

    Args:
        models: answer in this order.
        corrections: where corrected digits are added.
        hosts: names by which this server may be called; others are refused, so that no page from elsewhere can have
            its own name lead here.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    # One picture at a time: more would only share the cores, and each takes memory.
    busy = threading.Lock()

    @app.middleware("http")
    async def add_headers(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers.update(HEADERS)
        return response

    # FastAPI's own faults, and those that Starlette finds before it, as a page that is not there.
    @app.exception_handler(StarletteHTTPException)
    async def explain(request: Request, error: StarletteHTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def explain_parameters(request: Request, error: RequestValidationError) -> JSONResponse:
        fault = error.errors()[0]
        return JSONResponse({"error": f"The request's '{fault['loc'][-1]}' is wrong: {fault['msg']}."}, 422)

    @app.exception_handler(OSError)
    async def explain_files(request: Request, error: OSError) -> JSONResponse:
        return JSONResponse({"error": f"{error.strerror or error}: {error.filename or corrections.folder}."}, 500)

    @app.get("/api/models")
    def about() -> dict[str, Any]:
        return {
            "models": [describe(model) for model in models],
            "classes": corrections.classes,
            "folder": str(corrections.folder),
        }

    @app.post("/api/answer")
    async def answer(request: Request) -> dict[str, Any]:
        content = await read_body(request)

        def work() -> dict[str, Any]:
            with busy:
                return answer_all(models, content)

        return await in_threadpool(work)

    @app.post("/api/corrections")
    async def correct(request: Request, label: str) -> dict[str, Any]:
        if label not in corrections.classes:
            raise HTTPException(422, f"There is no class '{label}': choose one of {', '.join(corrections.classes)}.")
        content = await read_body(request)

        def work() -> dict[str, Any]:
            with busy:
                ink = digitize.segment_ink(digitize.read(content, name="This file"), name="This picture")
                image = digitize.normalize_digit(ink, corrections.shape).image
            images = corrections.add(image, label)
            return {"images": images, "folder": str(corrections.folder), "seen": pictures.data_uri(image)}

        return await in_threadpool(work)

    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


async def read_body(request: Request) -> bytes:
    """The body of a request of this page's own, if it is a picture of a bounded size."""
    origin = request.headers.get("origin")
    if origin and urlsplit(origin).netloc != request.headers["host"]:
        raise HTTPException(403, "This playground answers its own page only.")
    if request.headers.get("content-type", "").split(";")[0] not in TYPES:
        raise HTTPException(415, "This is no PNG, JPEG, WebP, BMP or TIFF picture.")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BYTES:
            raise HTTPException(413, f"This picture has more than {MAX_BYTES // 1_000_000} MB: shrink it first.")
    return bytes(content)


async def in_threadpool(work: Any) -> Any:
    """Run something that takes a while, and answer a picture's faults as such."""
    try:
        return await run_in_threadpool(work)
    except InputError as error:
        raise HTTPException(422, str(error)) from error


def describe(model: RegisteredModel) -> dict[str, Any]:
    """What the page shows of a model."""
    return {"name": model.label, "architecture": model.architecture, "task": model.task, "classes": model.classes}


def answer_all(models: Sequence[RegisteredModel], content: bytes) -> dict[str, Any]:
    """What every model says of a picture, and in what time.

    Raises:
        InputError: it is no picture, or shows no ink.
    """
    started = time.perf_counter()
    picture = digitize.read(content, name="This file")
    readings: dict[tuple, Reading] = {}
    found = []
    for model in models:
        kind = (model.shape, are_characters(model.classes))
        if kind not in readings:
            readings[kind] = read_picture(picture, model.shape, name="This picture", characters=kind[1])
        found.append(answer_one(model, readings[kind]))
    return {"answers": found, "milliseconds": 1000 * (time.perf_counter() - started)}


def answer_one(model: RegisteredModel, reading: Reading) -> dict[str, Any]:
    """What one model says of a picture.

    Returns:
        label, share of each class, time in ms, what it saw, whether it is unsure, the boxes of several digits or of a
        detector in reading order, and those of marks that were passed over.
    """
    started = time.perf_counter()
    found = model.answer(np.stack([one.image for one in reading.framed]))
    milliseconds = 1000 * (time.perf_counter() - started)
    detects = model.task == "detection"
    lines, seen, left_out = (detections if detects else digits)(model, reading, found)
    marks = [mark for line in lines for mark in line]
    shares = np.exp(model.log_probabilities(found if detects else found[seen[:1]]))[0]
    return {
        **describe(model),
        "label": text([[mark["label"] for mark in line] for line in lines]) or "nothing",
        "shares": shares[: len(model.classes)].astype(float).tolist(),
        "unsure": bool(len(left_out)) or any(mark["score"] < model.calibration.sure_from for mark in marks),
        "left_out": left_out.tolist(),
        "milliseconds": milliseconds,
        "seen": pictures.data_uri(np.hstack([reading.framed[at].image for at in seen])),
        **({"boxes": marks} if detects or len(marks) > 1 else {}),
    }


def detections(model: RegisteredModel, reading: Reading, found: np.ndarray) -> Read:
    """The boxes of a detector."""
    rows = found[0]
    rows = rows[(rows[:, 5] >= 0) & (rows[:, 4] >= SCORE_THRESHOLD)].astype(float)
    boxes = reading.framed[0].to_picture(rows[:, :4])
    marks = [
        {"box": box, "label": model.classes[int(label)], "score": score}
        for box, score, label in zip(boxes.tolist(), *rows[:, 4:].T.tolist(), strict=True)
    ]
    return [[marks[at] for at in line] for line in reading_order(boxes)], [0], reading.small


def digits(model: RegisteredModel, reading: Reading, found: np.ndarray) -> Read:
    """The digits that a classifier reads."""
    log_probabilities = model.log_probabilities(found)
    best, scores = log_probabilities.argmax(1), np.exp(log_probabilities.max(1))
    lines, passed_over = reading.choose(log_probabilities.max(1))
    boxes = reading.boxes.tolist()
    marks = [
        [{"box": boxes[at], "label": model.classes[best[at]], "score": float(scores[at])} for at in line]
        for line in lines
    ]
    return marks, [at for line in lines for at in line], passed_over


def warm_up(models: Sequence[RegisteredModel]) -> None:
    """Let all answer drawings of one and of several digits: the first answers take far longer than all others."""
    for strokes in (1, 2, 3):
        paper = np.full((480, 480), 255, np.uint8)
        for x in range(80, 80 + 120 * strokes, 120):
            paper[120:360, x : x + 30] = 0
        answer_all(models, pictures.png(paper))


def own_names(host: str) -> list[str]:
    """The names by which a server that listens at `host` may be called."""
    names = ["127.0.0.1", "localhost", "[::1]", host]
    if host in ANYWHERE:
        addresses = [address for found in psutil.net_if_addrs().values() for address in found]
        names += [socket.gethostname(), *(entry.address for entry in addresses if entry.family == socket.AF_INET)]
    return names


def serve(models: Sequence[RegisteredModel], corrections: Corrections, *, host: str, port: int, browser: bool) -> None:
    """Serve the page until interrupted.

    Raises:
        InputError: the port is taken, or the host is none of this machine.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if not host:
            raise OSError(0, "no address")
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        raise InputError(
            f"Nothing can listen at {host} port {port} ({error.strerror}): choose another --port or --host."
        ) from error
    warm_up(models)
    app = create(models, corrections, hosts=own_names(host))
    shown = "127.0.0.1" if host in ANYWHERE else host
    url = f"http://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}"
    logger.info("Playground: %s (Ctrl-C ends it)", url)
    if browser:
        webbrowser.open(url)
    config = uvicorn.Config(
        app, log_level="warning", limit_concurrency=MAX_CONNECTIONS, server_header=False, timeout_keep_alive=5
    )
    server = uvicorn.Server(config)
    server.run(sockets=[listener])
    if not server.started:
        raise PipelineError(f"The playground could not start at {url}.")
