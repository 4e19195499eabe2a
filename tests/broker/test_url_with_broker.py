"""A broker is connected to by URLs as other libraries write them."""

import pytest
from pydantic import SecretStr

from stablediffusiond.broker.connection import Connection
from stablediffusiond.errors import BrokerRefused, SettingsError
from stablediffusiond.settings import BrokerSettings
from tools.private_broker import PrivateBroker


async def test_the_broker_understands_what_was_understood(broker: PrivateBroker) -> None:
    broker.ctl("add_vhost", "team/a")
    broker.ctl("set_permissions", "--vhost", "team/a", "guest", ".*", ".*", ".*")
    at = f"127.0.0.1:{broker.port}"
    for url in (
        f"amqp://guest:guest@{at}//",
        f"pyamqp://guest@{at}//;amqp://127.0.0.1:1//",
        f"amqp://127.0.0.1:1//;amqp://{at}",
        f"amqp://{at}/team/a",
        f"amqp://{at}/team%2Fa?heartbeat=10&channel_max=5&frame_max=4096&connection_timeout=9000",
    ):
        connection = await Connection.open(BrokerSettings(url=SecretStr(url)), "test")
        await (await connection.channel()).close()
        await connection.close()
    with pytest.raises(BrokerRefused, match="no such virtual host"):
        await Connection.open(BrokerSettings(url=SecretStr(f"amqp://{at}///")), "test")


async def test_each_of_several_nodes_has_to_be_one(broker: PrivateBroker) -> None:
    """Also those behind the one that answers, which would be missed when they are needed."""
    with pytest.raises(SettingsError, match="'hartbeat'"):
        await Connection.open(BrokerSettings(url=SecretStr(f"{broker.url},amqp://other?hartbeat=5")), "test")
