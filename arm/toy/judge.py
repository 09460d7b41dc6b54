"""The toy judge: the verifier behind the reward protocol, over HTTP on the loopback.

    python -m arm.toy.judge [--port N]        prints its address as the first line, then serves

    GET  /health  {"judge": "toy-verifier", "version": 1}
    POST /        {"task", "prompt", "meta", "image": base64 PNG, "source": base64 PNG | null}
                  -> {"outcome": "ok", "score": .75, "strict": false, "parts": {"quality": .9}, "reason": "…"}

`score` of an edit is how far it got from the source (0) to the target (1): instruction following. `preservation`, of
edits alone, is the share of the objects that should stay which still lie there. `quality` is how smooth the image is.

A request that the verifier cannot read is `unscorable`: the same request would fail again.
"""

import argparse
import base64
import binascii
import io
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from arm.toy.verifier import check_edit, check_prompt, judge, read_image

VERSION = 1
MAX_REQUEST_BYTES = 16 << 20
MAX_PIXELS = 1 << 22
NOISY = 32.0


def verdict_of(request: dict[str, Any]) -> dict[str, Any]:
    """Judge one request; the reply as plain values."""
    try:
        image, meta = _image(request["image"]), request["meta"]
        parts = {"quality": round(quality(image), 6)}
        if request["task"] == "text_to_image":
            verdict = check_prompt(image, meta)
        elif request["task"] == "edit":
            verdict = check_edit(image, _image(request["source"]), meta)
            parts["preservation"] = round(preservation(image, meta), 6)
        else:
            return _unscorable(f"unknown task {request['task']!r}")
    except (KeyError, TypeError, ValueError, OSError, binascii.Error) as error:
        return _unscorable(f"{type(error).__name__}: {error}")
    return {
        "outcome": "ok",
        "score": round(float(verdict.score), 6),
        "strict": bool(verdict.strict),
        "parts": parts,
        "reason": "; ".join(verdict.reasons),
    }


def preservation(image: NDArray[np.uint8], meta: dict[str, Any]) -> float:
    """Share of the objects in both the source and the target that still lie where they were; 1 when there are none."""
    stay = [item for item in meta["target"]["objects"] if item in meta["source"]["objects"]]
    wanted = [{"class": o["shape"], "color": o["color"], "near": (o["x"], o["y"], o["place"])} for o in stay]
    seen = read_image(image)
    return judge(seen, wanted).score * max(len(seen), len(stay)) / len(stay) if stay else 1.0


def quality(image: NDArray[np.uint8]) -> float:
    """1 for an image without noise, 0 where pixels differ from their neighbours' mean by NOISY grey levels on average."""
    grey = image.astype(np.float32).mean(2)
    around = (grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]) / 4
    return max(0.0, 1 - float(np.abs(grey[1:-1, 1:-1] - around).mean()) / NOISY)


def _unscorable(reason: str) -> dict[str, Any]:
    return {"outcome": "unscorable", "score": 0.0, "strict": False, "parts": {}, "reason": reason}


def _image(text: str) -> NDArray[np.uint8]:
    with PIL.Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["png"]) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise ValueError(f"an image of {picture.width}×{picture.height} pixels is too large")
        return np.asarray(picture.convert("RGB"))


class Handler(BaseHTTPRequestHandler):
    """Answers on connections that stay open."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Say that the judge is there."""
        if self.path == "/health":
            self._reply(200, {"judge": "toy-verifier", "version": VERSION})
        else:
            self._reply(404, {"error": "try GET /health or POST /"})

    def do_POST(self) -> None:
        """Judge one image."""
        length = int(self.headers.get("Content-Length", "0"))
        if not 0 < length <= MAX_REQUEST_BYTES:
            self.close_connection = True
            self._reply(413, {"error": f"a request has 1 to {MAX_REQUEST_BYTES} bytes"})
            return
        try:
            request = json.loads(self.rfile.read(length))
        except ValueError:
            self._reply(400, {"error": "the request is not JSON"})
            return
        self._reply(200, verdict_of(request) if isinstance(request, dict) else _unscorable("not a JSON object"))

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""

    def _reply(self, status: int, values: dict[str, Any]) -> None:
        body = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(arguments: list[str] | None = None) -> None:
    """Serve on the loopback until killed."""
    parser = argparse.ArgumentParser(prog="python -m arm.toy.judge", description="Serve the toy verifier as a judge.")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free port")
    port = parser.parse_args(arguments).port
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    _warm_up()
    server.serve_forever()


def _warm_up() -> None:
    """Read one image before the first request, so that the verifier's templates are made once, not by every thread."""
    spot = np.full((36, 36, 3), 220, np.uint8)
    spot[8:16, 8:16] = (255, 0, 0)
    read_image(spot)


if __name__ == "__main__":
    main(sys.argv[1:])
