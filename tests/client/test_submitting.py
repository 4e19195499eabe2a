import base64
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pika
import PIL.Image
import pytest
from pydantic import SecretStr

from stablediffusiond.client import Client
from stablediffusiond.errors import (
    BrokerAway,
    BrokerLost,
    BrokerRefused,
    InvalidRequest,
    Nacked,
    QueueMissing,
    ResponsesAway,
)
from stablediffusiond.messages.request import Request
from stablediffusiond.settings import BrokerSettings, Settings
from tests.client.fake_daemons import FakeDaemons
from tests.client.fake_responses import FakeResponses


def elsewhere(settings: Settings, url: str) -> Settings:
    """The same service, with the broker at ``url``."""
    return settings.model_copy(update={"broker": BrokerSettings(url=SecretStr(url))})


def test_a_job_carries_all_that_its_replies_need(client: Client, daemons: FakeDaemons) -> None:
    job = client.submit(prompt="a red cat", seed=42, count=2)
    request = daemons.take()
    sent = request.properties
    assert job.id == sent.message_id == sent.correlation_id == request.fields["id"]
    assert sent.reply_to == client.queue
    assert sent.reply_to.startswith(f"{daemons.topology.results}.")
    assert sent.content_type == "application/json"
    assert sent.delivery_mode == 2
    assert sent.timestamp is not None
    assert abs(datetime.fromtimestamp(sent.timestamp, UTC) - datetime.now(UTC)) < timedelta(seconds=30)
    assert Request.from_fields(request.fields)[0] == job.request


def test_the_response_daemon_listens_before_the_job_is_sent(
    client: Client, daemons: FakeDaemons, responses: FakeResponses
) -> None:
    responses.refusal = b'{"type":"error","code":"full","message":"too many clients"}\n'
    with pytest.raises(ResponsesAway, match="too many clients"):
        client.submit(prompt="cat")
    assert daemons.waiting() == 0
    responses.refusal = None
    client.submit(prompt="cat")
    listen = responses.listens.get_nowait()
    assert (listen["queue"], listen["encoding"], listen["ack"]) == (client.queue, "binary", "manual")
    assert listen["progress"] is False


def test_all_jobs_of_a_client_share_one_connection_to_the_response_daemon(
    client: Client, daemons: FakeDaemons, responses: FakeResponses
) -> None:
    for _ in range(3):
        client.submit(prompt="cat")
    assert responses.listens.qsize() == 1


@pytest.mark.parametrize("priority", ["low", "normal", "high"])
def test_a_priority_is_a_queue(client: Client, daemons: FakeDaemons, priority: str) -> None:
    job = client.submit(prompt="cat", priority=priority)
    queue = daemons.topology.requests if priority == "normal" else f"{daemons.topology.requests}.{priority}"
    assert daemons.take(queue).id == job.id


def test_fields_may_be_spelt_as_elsewhere_and_ignored_ones_are_told(client: Client, daemons: FakeDaemons) -> None:
    job = client.submit(prompt="cat", num_inference_steps="20", cfg_scale=3, C=4)
    assert (job.request.steps, job.request.guidance_scale) == (20, 3.0)
    assert job.warnings == ["'C' is accepted and ignored"]


def test_a_request_made_before_may_be_submitted(client: Client, daemons: FakeDaemons) -> None:
    request, _ = Request.from_fields({"prompt": "cat", "id": "mine"})
    assert client.submit(request).id == "mine"
    with pytest.raises(InvalidRequest, match="not both"):
        client.submit(request, seed=1)


def test_a_picture_travels_as_base64(client: Client, daemons: FakeDaemons) -> None:
    client.submit(prompt="cat", image=b"\x89PNG and so on")
    assert daemons.take().fields["image"] == "iVBORyBhbmQgc28gb24="


def test_a_picture_may_be_a_path_a_file_or_what_was_drawn(client: Client, daemons: FakeDaemons, tmp_path: Path) -> None:
    picture = PIL.Image.new("RGB", (40, 30), "red")
    picture.save(tmp_path / "cat.png")
    data = (tmp_path / "cat.png").read_bytes()
    with (tmp_path / "cat.png").open("rb") as file:
        for image in (tmp_path / "cat.png", str(tmp_path / "cat.png"), file):
            client.enqueue(prompt="cat", image=image)
            assert base64.b64decode(daemons.take().fields["image"]) == data
    for given in (picture, [picture]):
        named: dict[str, Any] = {"init_images" if isinstance(given, list) else "image": given}
        client.submit(prompt="cat", **named)
        arrived = PIL.Image.open(io.BytesIO(base64.b64decode(daemons.take().fields["image"])))
        assert arrived.tobytes() == picture.tobytes()


@pytest.mark.parametrize("name", ["image", "init_img", "init_images", "mask"])
def test_a_body_that_others_wrote_opens_no_files(client: Client, tmp_path: Path, name: str) -> None:
    path = str(tmp_path / "cat.png")
    PIL.Image.new("RGB", (40, 30), "red").save(path)
    with pytest.raises(InvalidRequest):
        client.submit({"prompt": "cat", name: [path] if name == "init_images" else path})


def test_a_bad_request_is_refused_before_anything_is_connected(settings: Settings, free_port: int) -> None:
    nowhere = elsewhere(settings, f"amqp://guest:guest@127.0.0.1:{free_port}/%2F")
    with Client(nowhere) as client, pytest.raises(InvalidRequest, match="did you mean 'steps'") as caught:
        client.submit(prompt="cat", stps=3)
    assert caught.value.field == "stps"


def test_a_request_larger_than_the_service_takes_is_not_sent(settings: Settings, daemons: FakeDaemons) -> None:
    limits = settings.limits.model_copy(update={"max_request_bytes": 1000})
    with (
        Client(settings.model_copy(update={"limits": limits})) as client,
        pytest.raises(InvalidRequest, match="at most 1000 are taken"),
    ):
        client.submit(prompt="cat", image=bytes(1000))
    assert daemons.waiting() == 0


def test_two_jobs_under_way_have_two_ids(client: Client, daemons: FakeDaemons) -> None:
    with client.submit(prompt="cat", id="one"), pytest.raises(InvalidRequest, match="under way"):
        client.submit(prompt="dog", id="one")
    assert daemons.waiting() == 1


def test_an_id_whose_job_was_never_sent_is_free_again(settings: Settings, daemons: FakeDaemons) -> None:
    daemons.channel.queue_delete(f"{daemons.topology.requests}.low")
    with Client(settings) as client:
        with pytest.raises(QueueMissing):
            client.submit(prompt="cat", id="one", priority="low")
        assert client.submit(prompt="cat", id="one").id == "one"


def test_a_queue_that_no_daemon_ever_made_is_an_error_that_says_so(settings: Settings) -> None:
    with Client(settings) as client, pytest.raises(QueueMissing, match="start stablediffusiond once"):
        client.enqueue(prompt="cat")


def test_an_enqueued_job_has_no_reply_queue_and_needs_no_response_daemon(
    client: Client, daemons: FakeDaemons, responses: FakeResponses
) -> None:
    responses.leave()
    job_id = client.enqueue(prompt="cat")
    request = daemons.take()
    assert request.id == job_id
    assert request.properties.reply_to is None


def test_a_broker_that_is_away_is_told_at_once(settings: Settings, free_port: int) -> None:
    with (
        Client(elsewhere(settings, f"amqp://guest:guest@127.0.0.1:{free_port}/%2F")) as client,
        pytest.raises(BrokerAway, match="is RabbitMQ running there"),
    ):
        client.enqueue(prompt="cat")


def test_a_wrong_password_is_told_at_once(settings: Settings) -> None:
    url = settings.broker.url.get_secret_value().replace("guest:guest", "guest:wrong")
    with Client(elsewhere(settings, url)) as client, pytest.raises(BrokerRefused, match="wrong user or password"):
        client.enqueue(prompt="cat")


def test_a_full_queue_is_told(client: Client, daemons: FakeDaemons) -> None:
    queue = f"{daemons.topology.requests}.low"
    daemons.channel.queue_delete(queue)
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    daemons.channel.queue_declare(queue, durable=True, arguments=arguments)
    client.enqueue(prompt="cat", priority="low")
    with pytest.raises(Nacked, match="does not take messages"):
        client.enqueue(prompt="cat", priority="low")


def test_a_cancellation_reaches_every_request_daemon(client: Client, daemons: FakeDaemons) -> None:
    queues = [daemons.channel.queue_declare("", exclusive=True).method.queue for _ in range(2)]
    for queue in queues:
        daemons.channel.queue_bind(queue, daemons.topology.control)
    client.cancel("some job")
    for queue in queues:
        _, _, body = daemons.channel.basic_get(queue, auto_ack=True)
        assert body is not None
        assert json.loads(body) == {"cancel": "some job"}


def test_a_cancellation_where_no_daemon_ever_was_is_an_error(settings: Settings) -> None:
    with Client(settings) as client, pytest.raises(QueueMissing, match="no exchange"):
        client.cancel("some job")


def test_a_client_goes_on_after_an_error_that_ended_its_channel(client: Client, daemons: FakeDaemons) -> None:
    daemons.channel.exchange_delete(daemons.topology.control)
    with pytest.raises(QueueMissing):
        client.cancel("some job")
    client.enqueue(prompt="cat")
    assert daemons.waiting() == 1


def test_a_closed_client_takes_no_jobs(settings: Settings, daemons: FakeDaemons) -> None:
    client = Client(settings)
    client.submit(prompt="cat")
    client.close()
    client.close()
    with pytest.raises(BrokerLost, match="closed"):
        client.enqueue(prompt="cat")


def test_a_clients_queue_ends_with_it_once_all_its_jobs_have(settings: Settings, daemons: FakeDaemons) -> None:
    with Client(settings) as client:
        daemons.channel.queue_declare(client.queue, durable=True)
        job = client.submit(prompt="cat")
        daemons.finish(daemons.take())
        list(job.events())
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NOT_FOUND"):
        daemons.channel.queue_declare(client.queue, passive=True)


def test_a_clients_queue_stays_for_the_pictures_that_are_still_to_come(
    settings: Settings, daemons: FakeDaemons
) -> None:
    with Client(settings) as client:
        daemons.channel.queue_declare(client.queue, durable=True)
        client.submit(prompt="cat")
    daemons.channel.queue_declare(client.queue, passive=True)
    daemons.channel.queue_delete(client.queue)
