"""Open WebUI itself before the gateway: its image engine set to ours in each of the two ways, and pictures drawn.

    python3 -m venv /tmp/open-webui && /tmp/open-webui/bin/pip install open-webui      # 3 GB
    python -m benchmarks.open_webui /tmp/open-webui/bin/open-webui [--without-model]
        [--record tests/gateway/open_webui.json]

Nothing is downloaded when it starts: its settings below keep it from its embedding model. What it asks of the gateway
is printed, and with ``--record`` written into the file that ``tests/gateway/test_open_webui.py`` sends again.
"""

import argparse
import base64
import contextlib
import http.client
import http.server
import io
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from PIL import Image

from tests.gateway.conftest import running, without_model
from tests.preloaded import request_daemon
from tools.private_broker import PrivateBroker, free_port

SIZE: Final = "128x128"
STEPS: Final = 12
#: Of the HTTP of its requests, what says something.
HEADERS: Final = ("content-type", "authorization")
OFFLINE: Final = {
    "OFFLINE_MODE": "true", "HF_HUB_OFFLINE": "1", "RAG_EMBEDDING_ENGINE": "openai", "ENABLE_OLLAMA_API": "false",
    "ENABLE_OPENAI_API": "false", "ANONYMIZED_TELEMETRY": "false", "DO_NOT_TRACK": "true", "WEBUI_SECRET_KEY": "sesame",
}  # fmt: skip


class Recorder:
    """Stands between: hands each request on to ``address``, and keeps it."""

    def __init__(self, address: str) -> None:
        self.requests: list[dict[str, Any]] = []
        host = urlsplit(address).netloc
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                recorded = _recorded(self.command, self.path, dict(self.headers.items()), body)
                if recorded not in outer.requests:
                    outer.requests.append(recorded)
                connection = http.client.HTTPConnection(host, timeout=300)
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                data = answer.read()
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers["Content-Type"])
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                connection.close()

            do_GET = do_POST = handle_any  # noqa: N815 (http.server's names)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _recorded(method: str, path: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """JSON as such, a form in base64."""
    headers = {name.lower(): value for name, value in headers.items()}
    said = {name: headers[name] for name in HEADERS if name in headers}
    found: dict[str, Any] = {"method": method, "path": path, "headers": said}
    if headers.get("content-type", "").startswith("application/json"):
        return {**found, "json": json.loads(body)}
    return {**found, "base64": base64.b64encode(body).decode()} if body else found


def wait_healthy(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise SystemExit(f"Open WebUI ended with {process.returncode}")


def settings_of(engine: str, address: str) -> dict[str, Any]:
    """As its page, Admin Settings, Images, sends them: nothing but the address is ours."""
    shared = {"ENABLE_IMAGE_GENERATION": True, "IMAGE_GENERATION_ENGINE": engine, "IMAGE_SIZE": SIZE}
    if engine == "automatic1111":
        model = {"IMAGE_GENERATION_MODEL": "doodle", "IMAGE_STEPS": STEPS}
        return {**shared, **model, "AUTOMATIC1111_BASE_URL": address}
    base = f"{address}/v1"
    openai = {"IMAGES_OPENAI_API_BASE_URL": base, "IMAGES_OPENAI_API_KEY": "none", "IMAGE_GENERATION_MODEL": "dall-e-2"}
    edit = {"IMAGES_EDIT_OPENAI_API_BASE_URL": base, "IMAGES_EDIT_OPENAI_API_KEY": "none", "IMAGE_EDIT_SIZE": SIZE}
    return {**shared, **openai, **edit, "ENABLE_IMAGE_EDIT": True, "IMAGE_EDIT_ENGINE": "openai"}


class OpenWebUI:
    """Its first user, who may do everything."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        made = self._post("/auths/signup", {"name": "A", "email": "a@example.org", "password": "sesame-7-Open"})
        client.headers["Authorization"] = f"Bearer {made['token']}"

    def set_engine(self, engine: str, address: str) -> None:
        values = self._get("/images/config")
        self._post("/images/config/update", {**values, **settings_of(engine, address)})

    def draw(self, what: str, path: str, **fields: Any) -> bytes:
        """The picture that it has stored in the end."""
        began = time.perf_counter()
        [made] = self._post(path, fields)
        seconds = time.perf_counter() - began
        data = self._client.get(made["url"]).raise_for_status().content
        with Image.open(io.BytesIO(data)) as picture:
            print(f"{what}: {picture.format} of {picture.width} x {picture.height}, {seconds:.2f} s", flush=True)
        return data

    def _get(self, path: str) -> Any:
        return self._client.get(f"/api/v1{path}").raise_for_status().json()

    def _post(self, path: str, body: object) -> Any:
        answer = self._client.post(f"/api/v1{path}", json=body)
        if answer.status_code != 200:
            raise SystemExit(f"{path}: {answer.status_code} {answer.text}")
        return answer.json()


def draw_directly(address: str, path: str, **fields: object) -> None:
    """What Open WebUI asks for, without it."""
    began = time.perf_counter()
    httpx.post(f"{address}{path}", json=fields, timeout=300, trust_env=False).raise_for_status()
    print(f"{path} without it: {time.perf_counter() - began:.2f} s")


def drawn_with_each(client: httpx.Client, address: str) -> None:
    chat = OpenWebUI(client)
    for engine in ("automatic1111", "openai"):
        chat.set_engine(engine, address)
        names = [each["name"] for each in client.get("/api/v1/images/models").raise_for_status().json()]
        print(f"{engine}: it shows the models {names}")
        for turn in ("first", "second"):
            drawn = chat.draw(f"{engine}, {turn} picture", "/images/generations", prompt="a red cat", n=1)
    image = f"data:image/png;base64,{base64.b64encode(drawn).decode()}"
    chat.draw("openai, an edit", "/images/edit", prompt="a blue cat", image=image)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="open-webui, in an environment of its own")
    parser.add_argument("--record", type=Path, help="where its requests are written")
    parser.add_argument("--without-model", action="store_true", help="noise, a hundred steps a second: for the figures")
    chosen = parser.parse_args()
    draws = without_model if chosen.without_model else request_daemon
    with (
        tempfile.TemporaryDirectory() as folder,
        PrivateBroker() as broker,
        running(broker, Path(folder), draws=draws) as served,
    ):
        recorder = Recorder(served.address)
        try:
            with open_webui(chosen.program, Path(folder)) as client:
                version = client.get("/api/version").json()["version"]
                print(f"Open WebUI {version}", flush=True)
                drawn_with_each(client, recorder.address)
        finally:
            recorder.close()
        sides = dict.fromkeys(("width", "height"), int(SIZE.partition("x")[0]))
        draw_directly(served.address, "/sdapi/v1/txt2img", prompt="a red cat", steps=STEPS, **sides)
        draw_directly(served.address, "/v1/images/generations", prompt="a red cat", size=SIZE)
    for each in recorder.requests:
        print(each["method"], each["path"], json.dumps(each.get("json", {}))[:200])
    if chosen.record is not None:
        text = json.dumps({"version": version, "requests": recorder.requests}, indent=1, ensure_ascii=False)
        chosen.record.write_text(text + "\n")


@contextlib.contextmanager
def open_webui(program: str, folder: Path) -> Iterator[httpx.Client]:
    """It, as it is when somebody installs it, and a client that reaches it."""
    port = free_port()
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "DATA_DIR": f"{folder}/data", **OFFLINE}
    began = time.perf_counter()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "serve", "--host", "127.0.0.1", "--port", str(port)],
            env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300, trust_env=False) as client:
            wait_healthy(client, process)
            print(f"it is up after {time.perf_counter() - began:.0f} s")
            yield client
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
