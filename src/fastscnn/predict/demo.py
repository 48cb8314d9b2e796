"""The server of the demo: one page, a photograph or a frame to labels, a film to a film. It answers to this machine."""

import base64
import json
import tempfile
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fastscnn.inference.segmenter import Segmenter
from fastscnn.inference.shipped import DEFAULT, shipped_folder
from fastscnn.predict.draw import Picture, occurring, overlay
from fastscnn.predict.video import rewrite
from fastscnn.utils.errors import RequestError
from fastscnn.utils.images import read_rgb
from fastscnn.utils.values import check_number, check_whole

HOST = "127.0.0.1"
LARGEST = 500_000_000
"""Bytes of the largest file that is taken."""
CHOSEN = ("backend", "device", "precision", "threads", "max_pixels", "longest_side", "trust")
"""Settings that the segmenter takes."""
PAGE = Path(__file__).with_name("demo.html")


class DemoServer(ThreadingHTTPServer):
    """The demo with its network, bound to a port of this machine.

    Args:
        settings: The composed `demo` config.

    Raises:
        RequestError: A setting is wrong, the network cannot be loaded, or the port is taken.
    """

    daemon_threads = True

    def __init__(self, settings: Mapping[str, Any]) -> None:
        check_whole("port", settings["port"], 0, 65535)
        check_number("opacity", settings["opacity"], maximum=1)
        chosen = {key: settings[key] for key in CHOSEN}
        self.segmenter = Segmenter.from_checkpoint(settings["checkpoint"] or shipped_folder(DEFAULT), **chosen)
        self.opacity = float(settings["opacity"])
        try:
            super().__init__((HOST, settings["port"]), _Handler)
        except OSError as error:
            raise RequestError(
                f"port={settings['port']} cannot be used: {error.strerror}.",
                key="port",
                fix="Set port=0 for any other.",
            ) from None
        self.url = f"http://{HOST}:{self.server_port}/"
        self.names = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    def drawn(self, image: Picture) -> Picture:
        """An image with the colours of its classes over it."""
        return overlay(image, self.segmenter(image), self.segmenter.classes, self.opacity)

    def photograph(self, file: Path) -> dict[str, Any]:
        """What the page shows of an image file."""
        image = read_rgb(file, upright=True, max_pixels=self.segmenter.max_pixels)
        start = time.perf_counter()
        labels = self.segmenter(image)
        seconds = time.perf_counter() - start
        classes = self.segmenter.classes
        found = [
            {"name": classes.names[i], "color": list(classes.colors[i]), "share": float(np.mean(labels == i))}
            for i in occurring(labels, classes)
        ]
        pictures = {"image": image, "overlay": overlay(image, labels, classes, self.opacity)}
        return {name: _jpeg(picture) for name, picture in pictures.items()} | {
            "classes": found,
            "milliseconds": 1000 * seconds,
        }

    def film(self, file: Path) -> bytes:
        """A film with the colours over every frame."""
        target = file.with_name("drawn.mp4")
        rewrite(file, {"overlay": target}, lambda frame: {"overlay": self.drawn(frame)}, self.segmenter.max_pixels)
        return target.read_bytes()


class _Handler(BaseHTTPRequestHandler):
    server: DemoServer

    def do_GET(self) -> None:
        if self._is_local():
            found = self.path == "/"
            self._answer(200 if found else 404, "text/html; charset=utf-8", PAGE.read_bytes() if found else b"")

    def do_POST(self) -> None:
        answers = {"/image": self.server.photograph, "/film": self.server.film}
        size = int(self.headers.get("Content-Length") or 0)
        if not self._is_local():
            return
        if self.path not in answers or not 0 < size <= LARGEST:
            self._answer(404 if self.path not in answers else 413, "text/plain", b"a file of 1 byte to 500 MB is taken")
            return
        try:
            with tempfile.TemporaryDirectory(prefix="fastscnn-demo-") as folder:
                file = Path(folder, "upload")
                with file.open("wb") as upload:
                    while size and (part := self.rfile.read(min(size, 1 << 20))):
                        upload.write(part)
                        size -= len(part)
                answer = answers[self.path](file)
        except Exception as error:  # whatever a decoder says of a file is the answer, and the server goes on
            self._answer(400, "text/plain; charset=utf-8", str(error).replace(str(file), "The file").encode())
            return
        if isinstance(answer, bytes):
            self._answer(200, "video/mp4", answer)
        else:
            self._answer(200, "application/json", json.dumps(answer).encode())

    def _is_local(self) -> bool:
        """Whether a page of this server asks, by this machine's own name: other pages in the browser may not."""
        origin = self.headers.get("Origin", self.server.url).removeprefix("http://").rstrip("/")
        if self.headers.get("Host") in self.server.names and origin in self.server.names:
            return True
        self._answer(403, "text/plain", b"only this machine's own page may ask")
        return False

    def _answer(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Nothing: the terminal stays quiet."""


def _jpeg(picture: Picture) -> str:
    data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
