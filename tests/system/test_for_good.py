"""`sudo ./install.sh` and what the README says after it, on a machine with a real systemd.

The tests run in their order, on one machine, from the installation to the end of it.
"""

import json
import re
from collections.abc import Iterator

import pytest
from PIL import Image

from tests.end_to_end.test_readme import CHECKOUT, blocks
from tests.project.test_demo import clone
from tests.system.machine import Machine

pytestmark = pytest.mark.system

OPERATIONS = (CHECKOUT / "docs/operations.md").read_text("utf-8")
CLIENT = 'sg stablediffusion -c "stablediffusion_client {}"'
SERVICES = ("stablediffusiond.service", "stablediffusion_responsed.service")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with Machine(tmp_path_factory.mktemp("machine")) as made:
        clone(made.path("/home/alice/stablediffusiond"))
        made.run("sudo chown -R alice stablediffusiond")
        yield made


def client(machine: Machine, arguments: str) -> str:
    return machine.run(CLIENT.format(arguments))


def picture(machine: Machine, name: str) -> bytes:
    return machine.path(f"/home/alice/{name}").read_bytes()


def process_of(machine: Machine, service: str) -> int:
    return int(machine.run(f"systemctl show -P MainPID {service}"))


def test_the_commands_of_the_readme(machine: Machine) -> None:
    [(_, text)] = blocks("systemd")
    shown = machine.run(f"cd stablediffusiond; {text}")
    assert shown.count("Active: active (running)") == 2
    assert " done: 1 pictures" in shown
    with Image.open(machine.path("/home/alice/stablediffusiond/cat.png")) as drawn:
        assert drawn.size == (128, 128)


def test_a_second_run_keeps_settings_and_passwords(machine: Machine) -> None:
    machine.root(
        "echo '# mine' >> /etc/stablediffusiond/settings.toml; sed -i /drain_seconds/d /etc/stablediffusiond/settings.toml"
    )
    before = machine.path("/etc/stablediffusiond/broker-url").read_text()
    said = machine.run("cd stablediffusiond; sudo ./install.sh")
    assert "new since then, and at its default: [engine] drain_seconds" in said
    assert "# mine" in machine.path("/etc/stablediffusiond/settings.toml").read_text()
    assert machine.path("/etc/stablediffusiond/broker-url").read_text() == before
    client(machine, "'a red cat' --seed 42 -o again.png")
    assert picture(machine, "again.png") == picture(machine, "stablediffusiond/cat.png")


def test_only_the_group_may_use_it(machine: Machine) -> None:
    machine.root("useradd bob")
    said = machine.root("! runuser -u bob -- stablediffusion_client cat")
    assert "ask to be taken into the group stablediffusion" in said
    assert "PLAIN login refused" not in said


def test_the_group_has_a_socket_of_its_own(machine: Machine) -> None:
    path = "/run/stablediffusiond/responses.sock"
    assert machine.run(f"stat -c '%U %G %a' {path}") == "root stablediffusion 660\n"
    by_it = f"env STABLEDIFFUSIOND_RESPONSES__SOCKET={path}"
    machine.run(f"sg stablediffusion -c \"{by_it} stablediffusion_client 'a red cat' --seed 42 -o by-file.png\"")
    assert picture(machine, "by-file.png") == picture(machine, "again.png")
    url = "STABLEDIFFUSIOND_BROKER__URL=amqp://nobody@localhost/"
    assert "Permission denied; ask to be taken into the group" in machine.root(
        f"cd /tmp; ! runuser -u bob -- {by_it} {url} stablediffusion_client cat"
    )


def test_a_token_that_the_operations_manual_sets_up_is_asked_for(machine: Machine) -> None:
    [command] = re.findall(r"^    (openssl rand .*)$", OPERATIONS, re.MULTILINE)
    token_file = "/etc/stablediffusiond/response-token"
    settings = "/etc/stablediffusiond/settings.toml"
    machine.root(
        f"{command}; sed -i 's|^# token_file = .*|token_file = \"{token_file}\"|' {settings}; systemctl reload {SERVICES[1]}"
    )
    try:
        assert "unauthorized" in machine.run("timeout 20 nc localhost 50007")
        client(machine, "'a red cat' --seed 42 -o with-token.png")
        assert picture(machine, "with-token.png") == picture(machine, "again.png")
        machine.root(f"systemctl restart {SERVICES[0]}")
        secret = machine.path(token_file).read_text().strip()
        assert secret not in machine.root("journalctl --no-pager; ps -ef")
    finally:
        machine.root(f"sed -i 's|^token_file = |# &|' {settings}; systemctl reload {SERVICES[1]}")


def test_there_are_pages_of_the_manual(machine: Machine) -> None:
    for page in ("stablediffusiond", "stablediffusion_responsed", "stablediffusion_response_query"):
        assert machine.path(f"/usr/local/share/man/man8/{page}.8").exists()
    assert machine.path("/usr/local/share/man/man1/stablediffusion_client.1").exists()


def test_the_commands_that_it_all_began_with(machine: Machine) -> None:
    machine.root("systemctl start stablediffusiond.service; systemctl restart stablediffusion_responsed.service")
    job_id = machine.run("""sg stablediffusion "stablediffusion_client '{\\"prompt\\": \\"cat\\", \\"seed\\": 42}'" """)
    said = machine.run("timeout 60 nc localhost 50007 | head -2 | jq -r '.type, .id'").split()
    assert said == ["image", job_id.strip(), "done", job_id.strip()]


def test_members_see_how_things_are_and_operators_see_what_was_put_aside(machine: Machine) -> None:
    status = json.loads(client(machine, "status --json"))
    assert [worker["pid"] for worker in status["workers"]] == [process_of(machine, SERVICES[0])]
    assert {name: queue["messages"] for name, queue in status["queues"].items()}["dead"] == 0
    machine.root(
        "amqp-publish --url $(cat /etc/stablediffusiond/broker-url) -r stablediffusiond -t nobody -b nonsense;"
        " until stablediffusion_client dead list | grep -q 'not JSON'; do sleep 0.1; done"
    )
    assert "this is for operators: with sudo" in machine.run("! " + CLIENT.format("dead list"))
    for queue in ("dead", "unroutable"):
        assert machine.run(f"sudo stablediffusion_client dead --queue {queue} drop --all").strip()
    assert machine.run("sudo stablediffusion_client dead list") == ""


def test_no_password_is_seen(machine: Machine) -> None:
    password = machine.path("/etc/stablediffusiond/broker-url").read_text().split(":")[2].partition("@")[0]
    assert password not in machine.root("journalctl --no-pager; ps -ef; systemctl show stablediffusiond")
    listed = machine.root(
        "rabbitmqctl -q list_connections user vhost; rabbitmqctl -q list_permissions -p stablediffusiond"
    )
    assert "guest" not in listed
    assert "stablediffusiond\tstablediffusiond" in listed


def test_the_units_are_clean_and_confined(machine: Machine) -> None:
    assert machine.root(f"systemd-analyze verify --man=no {' '.join(SERVICES)} stablediffusiond@0.service") == ""
    for service, most in zip(SERVICES, (1.5, 1.0), strict=True):
        said = machine.root(f"systemd-analyze security --no-pager {service} | tail -1")
        assert float(said.rpartition(": ")[2].split()[0]) <= most, said


def test_a_jobs_story_is_found_by_its_id(machine: Machine) -> None:
    [line] = client(
        machine, '--json \'{\\"prompt\\": \\"cat\\", \\"id\\": \\"story\\", \\"steps\\": 5}\''
    ).splitlines()[:1]
    assert json.loads(line)["id"] == "story"
    machine.run("until journalctl -q JOB_ID=story | grep -q done; do sleep 0.2; done")
    story = machine.run("journalctl -q -u stablediffusiond JOB_ID=story -o cat")
    assert [word for word in ("begins", "done") if word in story] == ["begins", "done"]


def test_nobody_is_refused_while_the_response_daemon_restarts(machine: Machine) -> None:
    reader = "python3 -c \"import socket; s = socket.create_connection(('localhost', 50007)); s.close()\""
    before = process_of(machine, SERVICES[1])
    machine.root(f"systemctl restart --no-block {SERVICES[1]}; for _ in $(seq 40); do {reader}; done")
    machine.root(f"systemctl stop {SERVICES[1]}; {reader}; systemctl start {SERVICES[1]}")
    assert process_of(machine, SERVICES[1]) not in (0, before)


def test_settings_are_reread_and_bad_ones_refused(machine: Machine) -> None:
    before = process_of(machine, SERVICES[0])
    settings = "/etc/stablediffusiond/settings.toml"
    machine.root(f"sed -i 's/^max_steps = .*/max_steps = 7/' {settings}; systemctl reload {SERVICES[0]}")
    assert "at most 7" in machine.run("! " + CLIENT.format("cat --steps 8 -o x.png"))
    machine.root(f"sed -i 's/^max_steps = .*/max_steps = many/' {settings}; systemctl reload {SERVICES[0]}")
    assert "everything stays as it was" in machine.root(f"journalctl -u {SERVICES[0]} -n 5 -o cat")
    machine.root(f"sed -i 's/^max_steps = .*/max_steps = 150/' {settings}; systemctl reload {SERVICES[0]}")
    client(machine, "cat --steps 8 -o x.png")
    assert process_of(machine, SERVICES[0]) == before


def test_a_job_that_is_running_when_the_service_stops_is_drawn_after_its_start(machine: Machine) -> None:
    client(machine, "'a tree' --seed 7 --steps 150 -o undisturbed.png")
    machine.root("mkdir -p /run/systemd/system/stablediffusiond.service.d")
    drop_in = "[Service]\\nEnvironment=STABLEDIFFUSIOND_ENGINE__DRAIN_SECONDS=0.01\\n"
    machine.root(
        f"printf '{drop_in}' > /run/systemd/system/stablediffusiond.service.d/drain.conf; systemctl daemon-reload; systemctl restart {SERVICES[0]}"
    )
    machine.run(
        CLIENT.format("'a tree' --seed 7 --steps 150 -o stopped.png")
        + f" & until sudo journalctl -u {SERVICES[0]} -n 3 -o cat | grep -q begins; do sleep 0.05; done;"
        + f" sudo systemctl stop {SERVICES[0]}; sudo systemctl start {SERVICES[0]}; wait"
    )
    assert picture(machine, "stopped.png") == picture(machine, "undisturbed.png")


def test_a_daemon_that_hangs_is_ended_and_started_again(machine: Machine) -> None:
    drop_in = "[Service]\\nWatchdogSec=3\\nRestartSec=0\\n"
    machine.root(
        f"printf '{drop_in}' > /run/systemd/system/stablediffusiond.service.d/watchdog.conf; systemctl daemon-reload; systemctl restart {SERVICES[0]}"
    )
    before = process_of(machine, SERVICES[0])
    machine.root(
        f"kill -STOP {before}; until [ $(systemctl show -P MainPID {SERVICES[0]}) != {before} ]; do sleep 0.2; done"
    )
    machine.root(
        f"until systemctl -q is-active {SERVICES[0]}; do sleep 0.2; done; rm -r /run/systemd/system/stablediffusiond.service.d; systemctl daemon-reload; systemctl restart {SERVICES[0]}"
    )
    assert "watchdog" in machine.root(f"journalctl -u {SERVICES[0]} -o cat -n 60").lower()


def test_the_broker_may_be_killed_under_both(machine: Machine) -> None:
    before = [process_of(machine, service) for service in SERVICES]
    machine.root("systemctl kill -s KILL rabbitmq-server; systemctl restart rabbitmq-server")
    client(machine, "'a red cat' --seed 42 -o after.png")
    assert picture(machine, "after.png") == picture(machine, "again.png")
    assert [process_of(machine, service) for service in SERVICES] == before


def test_jobs_that_were_queued_are_drawn_after_a_reboot(machine: Machine) -> None:
    machine.root(f"systemctl stop {SERVICES[0]}")
    machine.run("for seed in 1 2 3; do " + CLIENT.format('\'{\\"prompt\\": \\"cat\\", \\"seed\\": $seed}\'') + "; done")
    machine.reboot()
    said = machine.run("timeout 120 nc localhost 50007 | head -6 | jq -r .type", timeout_seconds=150)
    assert sorted(said.split()) == ["done"] * 3 + ["image"] * 3


def test_nothing_is_left_but_what_is_to_be_kept(machine: Machine) -> None:
    machine.run("cd stablediffusiond; sudo ./install.sh uninstall")
    for gone in (
        *(f"systemctl cat {service}" for service in SERVICES),
        "ls /opt/stablediffusiond",
        "stablediffusion_client",
    ):
        machine.run(f"! {gone}")
    assert machine.path("/etc/stablediffusiond/settings.toml").exists()
    machine.run("cd stablediffusiond; sudo ./install.sh uninstall --purge")
    for gone in (
        "id stablediffusiond",
        "getent group stablediffusion",
        "ls /etc/stablediffusiond",
        "ls /var/lib/stablediffusiond",
    ):
        machine.run(f"! {gone}")
    assert "stablediffusion" not in machine.root("rabbitmqctl -q list_users; rabbitmqctl -q list_vhosts")
    assert not list(machine.path("/usr/local/share/man").rglob("stablediffusion*"))
    kept = ("/home/", "/var/log/", "/tmp/", "/root/")
    assert [path for path in machine.written("*stablediffusi*") if not path.startswith(kept)] == []
