"""Programs that are none of ours: Debian's amqp-tools, nc, and Node.js with amqplib."""

import io
import json
import shlex
import uuid
from pathlib import Path

import pytest
from PIL import Image

from tests.end_to_end.conftest import Service
from tests.node_packages import node_package


@pytest.fixture
def mine(service: Service) -> str:
    """A queue that only one test reads."""
    name = f"mine-{uuid.uuid4().hex[:8]}"
    service.shell(f'amqp-declare-queue --url "$URL" -q {name} -d')
    return name


def size(png: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(png)).size


def test_amqp_publish_asks_and_amqp_consume_gets_the_picture(service: Service, tmp_path: Path) -> None:
    service.shell(
        """
        amqp-publish --url "$URL" -r "$REQUESTS" -b '{"prompt": "a red cat", "steps": 5}'
        amqp-consume --url "$URL" -q "$RESULTS" -c 1 cat > cat.png
        amqp-consume --url "$URL" -q "$RESULTS" -c 1 cat > done.json
        """,
        tmp_path,
    )
    assert size((tmp_path / "cat.png").read_bytes()) == (128, 128)
    assert json.loads((tmp_path / "done.json").read_text())["images"] == 1


def test_amqp_get_takes_a_result_that_waits(service: Service, tmp_path: Path) -> None:
    client = service.shell('stablediffusion_client \'{"prompt": "a red cat", "steps": 5, "id": "amqp-get"}\'')
    assert client == "amqp-get\n"
    service.requestd.wait_log("job amqp-get done")
    service.shell(
        """
        amqp-get --url "$URL" -q "$RESULTS" > cat.png
        amqp-get --url "$URL" -q "$RESULTS" > done.json
        """,
        tmp_path,
    )
    assert size((tmp_path / "cat.png").read_bytes()) == (128, 128)
    assert json.loads((tmp_path / "done.json").read_text())["id"] == "amqp-get"


def test_nc_reads_the_picture_from_the_socket(service: Service, tmp_path: Path) -> None:
    service.shell(
        """
        amqp-publish --url "$URL" -r "$REQUESTS" -b '{"prompt": "a red cat", "steps": 5}'
        timeout 30 nc localhost "$PORT" | head -1 | jq -r .data | base64 -d > cat.png
        """,
        tmp_path,
    )
    assert size((tmp_path / "cat.png").read_bytes()) == (128, 128)


NODE_PROGRAM = """
const amqp = require("amqplib");
(async () => {
  const connection = await amqp.connect(process.env.URL);
  const channel = await connection.createConfirmChannel();
  const { queue } = await channel.assertQueue("", { exclusive: true });
  const got = [];
  await channel.consume(queue, async (message) => {
    const { type, correlationId, messageId, headers } = message.properties;
    const png = message.content.subarray(1, 4).toString() === "PNG";
    got.push({ type, correlationId, messageId, png, seed: headers.seed, scale: headers.guidance_scale });
    channel.ack(message);
    if (type === "done" || type === "failed") {
      console.log(JSON.stringify(got));
      await connection.close();
    }
  });
  const body = Buffer.from(JSON.stringify({ prompt: "a red cat", seed: process.env.SEED, steps: 5, n: 2 }));
  channel.sendToQueue(process.env.REQUESTS, body, { replyTo: queue, correlationId: "from-node", messageId: "node-1" });
  await channel.waitForConfirms();
})();
"""


@pytest.fixture(scope="session")
def node_modules() -> Path:
    return node_package("amqplib", "0.10")


@pytest.mark.parametrize("seeds", [[7, 8], [2**53 - 1, str(2**53)], [str(2**63 - 1), str(2**63)]], ids=str)
def test_a_node_program_asks_and_gets_with_reply_to_and_correlation_id(
    service: Service, node_modules: Path, tmp_path: Path, seeds: list[object]
) -> None:
    (tmp_path / "ask.js").write_text(NODE_PROGRAM)
    environment = f"SEED={seeds[0]} NODE_PATH={shlex.quote(str(node_modules))}"
    got = json.loads(service.shell(f"{environment} node ask.js", tmp_path))
    assert [reply["type"] for reply in got] == ["image", "image", "done"]
    assert [reply["messageId"] for reply in got] == ["node-1/0", "node-1/1", "node-1/done"]
    assert {reply["correlationId"] for reply in got} == {"from-node"}
    assert [(reply["png"], reply["seed"], reply["scale"]) for reply in got[:2]] == [
        (True, seed, "7.5") for seed in seeds
    ]


def test_a_reply_queue_that_is_gone_loses_no_picture(service: Service, tmp_path: Path) -> None:
    body = '{"prompt": "a red cat", "steps": 3, "id": "gone"}'
    service.shell(f"""amqp-publish --url "$URL" -r "$REQUESTS" -t nobody-{service.topology.results} -b '{body}'""")
    service.requestd.wait_log("job gone done")
    service.wait_depths(lambda depths: depths[service.topology.unroutable] == 2)
    service.shell(f'amqp-get --url "$URL" -q {service.topology.unroutable} > kept.png', tmp_path)
    assert size((tmp_path / "kept.png").read_bytes()) == (128, 128)
    service.shell(f'amqp-get --url "$URL" -q {service.topology.unroutable} > /dev/null')


def test_poison_is_answered_and_kept(service: Service, mine: str, tmp_path: Path) -> None:
    service.shell(
        f"""
        amqp-publish --url "$URL" -r "$REQUESTS" -t {mine} -b 'this is no JSON'
        amqp-consume --url "$URL" -q {mine} -c 1 cat > failed.json
        amqp-consume --url "$URL" -q {service.topology.dead} -c 1 cat > dead
        """,
        tmp_path,
    )
    error = json.loads((tmp_path / "failed.json").read_text())["error"]
    assert error["code"] == "invalid_request"
    assert "not JSON" in error["message"]
    assert (tmp_path / "dead").read_text() == "this is no JSON"


def test_a_request_that_cannot_be_drawn_is_answered_with_its_field(service: Service, mine: str, tmp_path: Path) -> None:
    service.shell(
        f"""
        amqp-publish --url "$URL" -r "$REQUESTS" -t {mine} -b '{{"prompt": "cat", "stepz": 3}}'
        amqp-consume --url "$URL" -q {mine} -c 1 cat > failed.json
        """,
        tmp_path,
    )
    error = json.loads((tmp_path / "failed.json").read_text())["error"]
    assert (error["code"], error["field"]) == ("invalid_request", "stepz")
    service.wait_depths(lambda depths: depths[service.topology.dead] == 0)
