"""OpenAI's images API, with OpenAI's own client for Node.js."""

import json
import os
import subprocess
from pathlib import Path

from tests.gateway.conftest import Running
from tests.node_packages import node_package

PROGRAM = """
const OpenAI = require("openai");
(async () => {
  const client = new OpenAI({ baseURL: process.env.ADDRESS + "/v1", apiKey: "none", maxRetries: 0 });
  const small = { prompt: "a red cat", size: "64x64", steps: 100 };
  const drawn = await client.images.generate({ ...small, n: 2 });
  const png = Buffer.from(drawn.data[0].b64_json, "base64");
  const stream = await client.images.generate({ ...small, stream: true, partial_images: 2 });
  const events = [];
  for await (const event of stream) events.push(event.type);
  const image = await OpenAI.toFile(png, "cat.png", { type: "image/png" });
  const edited = await client.images.edit({ image, prompt: "a blue cat", size: "64x64" });
  const models = [];
  for await (const model of client.models.list()) models.push(model.id);
  let refused;
  try { await client.images.generate({ prompt: "a cat", size: "7 by 7" }); } catch (error) { refused = error; }
  console.log(JSON.stringify({
    pictures: drawn.data.length, png: png.subarray(1, 4).toString(), events, edited: edited.data.length, models,
    refused: [refused.constructor.name, refused.status, refused.param, refused.code],
  }));
})();
"""


def test_the_client_for_node(served: Running, tmp_path: Path) -> None:
    (tmp_path / "ask.js").write_text(PROGRAM)
    modules = node_package("openai", "7")
    done = subprocess.run(
        ["node", "ask.js"], env={"ADDRESS": served.address, "NODE_PATH": str(modules), "PATH": os.environ["PATH"]},
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    partial = "image_generation.partial_image"
    assert json.loads(done.stdout) == {
        "pictures": 2,
        "png": "PNG",
        "events": [partial, partial, "image_generation.completed"],
        "edited": 1,
        "models": ["doodle"],
        "refused": ["BadRequestError", 400, "size", "invalid_request"],
    }
