"""The services at work, and what an operator does with them."""

import json

import pytest

from tests.system.installation import REQUESTS, RESPONSES, SETTINGS, Installation, client

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

DROP_INS = f"/run/systemd/system/{REQUESTS}.d"


def restart_with(name: str, lines: str) -> str:
    """The commands that restart the request daemon with a drop-in."""
    return (
        f"mkdir -p {DROP_INS}; printf '[Service]\\n{lines}' > {DROP_INS}/{name}.conf; systemctl daemon-reload;"
        f" systemctl restart {REQUESTS}"
    )


def test_the_commands_that_it_all_began_with(installed: Installation) -> None:
    installed.machine.root(f"systemctl start {REQUESTS}; systemctl restart {RESPONSES}")
    job_id = installed.client("""'{"prompt": "cat", "seed": 42}'""").strip()
    printed = installed.machine.run("timeout 60 nc localhost 50007 | head -2 | jq -r '.type, .id'").split()
    assert printed == ["image", job_id, "done", job_id]


def test_members_see_how_things_are_and_operators_see_the_dead_letters(installed: Installation) -> None:
    status = json.loads(installed.client("status --json"))
    assert [worker["pid"] for worker in status["workers"]] == [installed.process_of(REQUESTS)]
    assert {name: queue["messages"] for name, queue in status["queues"].items()}["dead"] == 0
    installed.machine.root(
        "amqp-publish --url $(cat /etc/stablediffusiond/broker-url) -r stablediffusiond -t nobody -b nonsense;"
        " until stablediffusion_client dead list | grep -q 'not JSON'; do sleep 0.1; done"
    )
    assert "this is for operators: with sudo" in installed.client("dead list", fails=True)
    for queue in ("dead", "unroutable"):
        assert installed.machine.run(f"sudo stablediffusion_client dead --queue {queue} drop --all").strip()
    assert installed.machine.run("sudo stablediffusion_client dead list") == ""


def test_a_jobs_story_is_found_by_its_id(installed: Installation) -> None:
    printed = installed.client("""--json '{"prompt": "cat", "id": "story", "steps": 5}'""")
    assert json.loads(printed.splitlines()[0])["id"] == "story"
    installed.machine.run("until journalctl -q JOB_ID=story | grep -q done; do sleep 0.2; done")
    log = installed.machine.run("journalctl -q -u stablediffusiond JOB_ID=story -o cat")
    assert [word for word in ("begins", "done") if word in log] == ["begins", "done"]


def test_nobody_is_refused_while_the_response_daemon_restarts(installed: Installation) -> None:
    reader = "python3 -c \"import socket; s = socket.create_connection(('localhost', 50007)); s.close()\""
    before = installed.process_of(RESPONSES)
    installed.machine.root(f"systemctl restart --no-block {RESPONSES}; for _ in $(seq 40); do {reader}; done")
    installed.machine.root(f"systemctl stop {RESPONSES}; {reader}; systemctl start {RESPONSES}")
    assert installed.process_of(RESPONSES) not in (0, before)


def test_settings_are_reread_and_bad_ones_refused(installed: Installation) -> None:
    def reload(max_steps: str) -> None:
        change = f"sed -i 's/^max_steps = .*/max_steps = {max_steps}/' {SETTINGS}"
        installed.machine.root(f"{change}; systemctl reload {REQUESTS}")

    before = installed.process_of(REQUESTS)
    reload("7")
    assert "at most 7" in installed.client("cat --steps 8 -o x.png", fails=True)
    reload("many")
    assert "everything stays as it was" in installed.machine.root(f"journalctl -u {REQUESTS} -n 5 -o cat")
    reload("150")
    installed.client("cat --steps 8 -o x.png")
    assert installed.process_of(REQUESTS) == before


def test_a_job_that_is_running_when_the_service_stops_is_drawn_after_its_start(installed: Installation) -> None:
    installed.client("'a tree' --seed 7 --steps 150 -o undisturbed.png")
    installed.machine.root(restart_with("drain", "Environment=STABLEDIFFUSIOND_ENGINE__DRAIN_SECONDS=0.01\\n"))
    installed.machine.run(
        client("'a tree' --seed 7 --steps 150 -o stopped.png")
        + f" & until sudo journalctl -u {REQUESTS} -n 3 -o cat | grep -q begins; do sleep 0.05; done;"
        + f" sudo systemctl stop {REQUESTS}; sudo systemctl start {REQUESTS}; wait"
    )
    assert installed.picture("stopped.png") == installed.picture("undisturbed.png")


def test_a_daemon_that_hangs_is_ended_and_started_again(installed: Installation) -> None:
    root = installed.machine.root
    root(restart_with("watchdog", "WatchdogSec=3\\nRestartSec=0\\n"))
    before = installed.process_of(REQUESTS)
    root(f"kill -STOP {before}; until [ $(systemctl show -P MainPID {REQUESTS}) != {before} ]; do sleep 0.2; done")
    root(f"until systemctl -q is-active {REQUESTS}; do sleep 0.2; done")
    root(f"rm -r {DROP_INS}; systemctl daemon-reload")
    assert "watchdog" in root(f"journalctl -u {REQUESTS} -o cat -n 60").lower()


def test_jobs_that_were_queued_are_drawn_after_a_reboot(installed: Installation) -> None:
    installed.machine.root(f"systemctl stop {REQUESTS}")
    asking = client("""'{"prompt": "cat"}'""")
    jobs = installed.machine.run(f"for _ in 1 2 3; do {asking}; done").split()
    installed.machine.reboot()
    # What an earlier reader had not acked when it left is delivered once more.
    ours = " ".join(f"-e {job}" for job in jobs)
    read = f"timeout 120 nc localhost 50007 | grep -m 6 -F {ours} | jq -r '.id + \" \" + .type'"
    printed = installed.machine.run(read, timeout_seconds=150)
    assert sorted(printed.splitlines()) == sorted(f"{job} {reply}" for job in jobs for reply in ("image", "done"))
