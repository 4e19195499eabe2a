"""`sudo ./install.sh --with-gateway`, on a machine with a real systemd."""

import io
import json

import pytest
from PIL import Image

from tests.system.installation import Installation

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

GATEWAY = "stablediffusion_gateway.service"
BODY = '{"prompt": "a red cat", "seed": 42, "id": "cat"}'
_ASK = "import sys, urllib.request as u; r = u.Request(sys.argv[1], sys.argv[2].encode() if sys.argv[2:] else None); "
ASK = f"python3 -c '{_ASK}sys.stdout.buffer.write(u.urlopen(r, timeout=60).read())'"
HERE = "http://127.0.0.1:50008"


def test_it_is_there_only_if_it_was_asked_for(installed: Installation) -> None:
    installed.machine.run(f"! systemctl is-enabled {GATEWAY}; ! timeout 20 nc -z 127.0.0.1 50008")
    assert "http://localhost:50008" in installed.install("--with-gateway")
    installed.machine.run(f"systemctl is-active {GATEWAY}")


def test_a_picture_through_it_is_the_client_s(installed: Installation) -> None:
    installed.machine.run(f"{ASK} {HERE}/jobs '{BODY}'; {ASK} {HERE}/jobs/cat/events | grep -q '^event: done'")
    installed.machine.run(f"{ASK} {HERE}/jobs/cat/images/0 > by-http.png")
    pictures = [installed.picture("by-http.png"), installed.first_red_cat]
    by_http, by_client = (Image.open(io.BytesIO(each)) for each in pictures)
    assert by_http.tobytes() == by_client.tobytes()
    health = json.loads(installed.machine.run(f"{ASK} {HERE}/healthz"))
    assert health == {"healthy": True, "troubles": []}


def test_its_store_is_its_own_and_outlives_it(installed: Installation) -> None:
    assert installed.machine.root("ls /var/lib/stablediffusion_gateway/jobs").split() == ["cat"]
    installed.machine.run("! ls /var/lib/stablediffusion_gateway/")
    before = installed.process_of(GATEWAY)
    assert "http://localhost:50008" in installed.install()  # an upgrade keeps what there is
    assert installed.process_of(GATEWAY) != before
    installed.machine.run(f"{ASK} {HERE}/jobs/cat/images/0 > again.png")
    assert installed.picture("again.png") == installed.picture("by-http.png")
