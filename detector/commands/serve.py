"""Serve a trained model: a page to drop pictures on, and an API, on this machine."""

from __future__ import annotations

import argparse
import importlib.util
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detector import command
from detector.errors import UserError
from detector.printing import log_to_screen, printable

if TYPE_CHECKING:
    from fastapi import FastAPI

    from detector.inference.predictor import Predictor

EXTRA = ("fastapi", "uvicorn", "python_multipart")

EXAMPLES = """examples:
  {program} --weights output/mine/model_best.safetensors
      then open http://127.0.0.1:8000
  curl -F image=@a.jpg -F image=@b.jpg 'http://127.0.0.1:8000/v1/detect?score_threshold=0.7'
  curl --data-binary @a.jpg http://127.0.0.1:8000/v1/detect
  {program} --weights R101-C4-3x --host 0.0.0.0 --port 80 --device cuda
      for other machines too: there is no password, so only behind something that asks for one

Answers: 200; 413 too large; 422 no picture; 503 the queue is full (Retry-After); 504 took too long. /healthz, /metrics
(Prometheus) and /openapi.json are there too. SIGTERM and Ctrl-C finish what has begun. Needs `faster-rcnn[serve]`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    from detector.commands.predict import PUBLISHED_DEFAULT

    parser.add_argument(
        "--weights",
        action="append",
        help="a .safetensors of ours, a published name, or another framework's file with its --config (default: the "
        f"newest finished run under output/, else {PUBLISHED_DEFAULT}); given several times, they detect together",
    )
    parser.add_argument("--config", help="config of another framework's weights")
    parser.add_argument("--boxes-only", action="store_true", help="of a Mask or Keypoint R-CNN, its box branch")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets other machines in (%(default)s)"
    )
    parser.add_argument("--port", type=command.whole, default=8000, help="0: any that is free (%(default)s)")
    parser.add_argument(
        "--queue",
        type=command.whole,
        default=64,
        help="requests that may wait; beyond, 503 is answered (%(default)s)",
    )
    parser.add_argument(
        "--timeout", type=float, default=30.0, help="seconds that a request may take, then 504 (%(default)s)"
    )
    parser.add_argument(
        "--max-megabytes", type=float, default=20.0, help="of a request, beyond which 413 is answered (%(default)s)"
    )
    parser.add_argument("--max-pictures", type=command.positive, default=16, help="of a request (%(default)s)")
    parser.add_argument(
        "--score-threshold", type=command.fraction, default=0.5, help="where a request names none (%(default)s)"
    )
    command.add_network_arguments(parser)
    command.add_augment_argument(parser)
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings of the weights' config to change")


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes, and finish what has begun."""
    check_arguments(args)

    from detector.commands.predict import choose_weights, describe, leave_on_signals
    from detector.inference.asked import check_asked

    check_asked(args.weights or (), args.config, args.settings, not args.plain, args.precision, args.compile)
    with listen(args.host, args.port) as listening, leave_on_signals():
        from detector.inference.load import load

        log_to_screen()
        weights, why = args.weights, ""
        if not weights:
            chosen, why = choose_weights(Path("output"))
            weights = [chosen]
        print(f"weights    {', '.join(map(printable, weights))}{why}", flush=True)
        how = (not args.plain, args.precision, args.compile, args.boxes_only)
        predictor = load(weights, args.config, args.device, args.settings, *how)
        batch_size = args.batch_size or predictor.default_batch_size
        print(f"model      {describe(predictor)}")
        print(f"device     {predictor.device}, {predictor.precision}, up to {batch_size} at a time")
        serve(make(args, predictor, batch_size, weights), listening)
    return 0


def check_arguments(args: argparse.Namespace) -> None:
    """Raise UserError for limits that admit nothing, and where what serving needs is not installed."""
    if not 0 < args.timeout < float("inf"):
        raise UserError(f"--timeout {args.timeout:g}: choose more than 0 seconds.")
    if not 0 < args.max_megabytes < float("inf"):
        raise UserError(f"--max-megabytes {args.max_megabytes:g}: choose more than 0.")
    if args.port > 65535:
        raise UserError(f"--port {args.port}: choose at most 65535.")
    missing = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"serving needs {missing[0]}, which is not installed; run `pip install 'faster-rcnn[serve]'`.")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, taken before the weights are loaded. Raises UserError where it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:  # of a name that no machine can have
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--host {host}: {reason}; choose an address of this machine.") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise UserError(
            f"{host}:{port}: cannot be listened on ({error.strerror or error}); choose another --port or --host."
        ) from None
    return listening


def make(args: argparse.Namespace, predictor: Predictor, batch_size: int, weights: Sequence[str]) -> FastAPI:
    """The application with the limits of the command line, its network warmed up."""
    import numpy as np

    from detector.serving.application import ServerLimits, make_application
    from detector.serving.bodies import Limits

    augment = args.augment or None
    predictor.predict(
        np.zeros((480, 640, 3), np.uint8), augment=augment
    )  # the first picture takes longer, so nobody waits for it
    limits = ServerLimits(
        request=Limits(round(args.max_megabytes * 1e6), args.max_pictures),
        queue=args.queue,
        seconds=args.timeout,
        max_pixels=predictor.config.input.max_pixels,
        score_threshold=args.score_threshold,
    )
    title = ", ".join(Path(one).name for one in weights)  # and no path of this machine
    return make_application(predictor, limits, batch_size, title, augment)


def serve(application: FastAPI, listening: socket.socket) -> None:
    """Answer requests until SIGTERM or SIGINT, then finish those that have begun."""
    import uvicorn

    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"listening  http://{shown}:{port}\n", flush=True)
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning", access_log=False))
    server.run(sockets=[listening])
