"""`sudo ./install.sh` and what the README says after it, on a machine with a real systemd."""

from pathlib import Path

from PIL import Image

from tests.end_to_end.test_readme import blocks
from tests.house.test_demo import clone
from tests.system.machine import Machine


def test_the_commands_for_good_and_back(tmp_path: Path) -> None:
    [(_, text)] = blocks("systemd")
    with Machine(tmp_path) as machine:
        clone(machine.path("/home/alice/stablediffusiond"))
        machine.run("sudo chown -R alice stablediffusiond")
        shown = machine.run(f"cd stablediffusiond; {text}")
        assert shown.count("Active: active (running)") == 2
        assert "done" in shown
        with Image.open(machine.path("/home/alice/stablediffusiond/cat.png")) as picture:
            assert picture.size == (128, 128)

        # A second run keeps the settings, and ends with the same services running.
        machine.run(
            "echo '# mine' | sudo tee -a /etc/stablediffusiond/settings.toml; cd stablediffusiond; sudo ./install.sh"
        )
        assert "# mine" in machine.path("/etc/stablediffusiond/settings.toml").read_text()
        machine.run("stablediffusion_client 'a red cat' --seed 42 -o again.png")
        names = ("stablediffusiond/cat.png", "again.png")
        first, again = (machine.path(f"/home/alice/{name}").read_bytes() for name in names)
        assert first == again

        machine.run("cd stablediffusiond; sudo ./install.sh uninstall")
        for gone in (
            "systemctl cat stablediffusiond",
            "ls /opt/stablediffusiond",
            "id stablediffusiond",
            "stablediffusion_client",
        ):
            machine.run(f"! {gone}")
        assert machine.path("/etc/stablediffusiond/settings.toml").exists()
