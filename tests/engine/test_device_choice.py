"""Which device and precision are chosen on machines that we do not have: what torch says of them is put in its mouth."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stablediffusiond.engine import device_choice
from stablediffusiond.engine.device_choice import choose_device, choose_dtype
from stablediffusiond.errors import DeviceAway, ModelUnavailable

UNET, TRANSFORMER = frozenset({"unet", "vae"}), frozenset({"transformer", "vae"})
CUDA = torch.device("cuda")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[Path]]:
    """A machine with a card of NVIDIA's, whose driver has made its devices; what is said otherwise is otherwise."""

    def made(
        *, plugged: bool = True, driver: bool = True, answers: bool = True, built: str | None = "12.8",
        capability: tuple[int, int] = (8, 6), kernels: tuple[str, ...] = ("sm_75", "sm_80", "sm_90", "compute_90"),
        count: int = 1,
    ) -> list[Path]:  # fmt: skip
        card = tmp_path / "pci/0000:01:00.0"
        card.mkdir(parents=True)
        (card / "vendor").write_text("0x10de\n" if plugged else "0x8086\n")
        (card / "class").write_text("0x030000\n")
        nodes = [tmp_path / "nvidiactl", tmp_path / "nvidia-uvm"]
        for node in nodes if driver else []:
            node.touch()
        monkeypatch.setattr(device_choice, "_PCI", tmp_path / "pci")
        monkeypatch.setattr(device_choice, "_NODES", tuple(nodes))
        monkeypatch.setattr(device_choice, "_DRIVER_SECONDS", 0.1)
        monkeypatch.setattr(torch.version, "cuda", built)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        said: dict[str, Any] = {
            "is_available": lambda: answers and all(node.exists() for node in nodes),
            "device_count": lambda: count,
            "get_device_capability": lambda _: capability,
            "get_device_name": lambda _: "GeForce",
            "get_arch_list": lambda: list(kernels),
        }
        for name, value in said.items():
            monkeypatch.setattr(torch.cuda, name, value)
        return nodes

    return made


def test_a_gpu_is_taken_where_there_is_one(machine: Callable[..., list[Path]]) -> None:
    machine()
    assert (choose_device("auto").torch, choose_device("auto").shortcoming) == (CUDA, None)
    assert choose_device("cuda:0").torch == torch.device("cuda:0")
    assert choose_device("cpu").torch.type == "cpu"


def test_a_machine_without_one_draws_on_the_cpu_and_says_nothing(
    machine: Callable[..., list[Path]], caplog: pytest.LogCaptureFixture
) -> None:
    machine(plugged=False, driver=False)
    assert (choose_device("auto").torch.type, choose_device("auto").shortcoming, caplog.text) == ("cpu", None, "")


def test_a_driver_that_comes_late_is_waited_for(
    machine: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = machine(driver=False)
    looked = []

    def sleep(_: float) -> None:
        looked.append(1)
        if len(looked) == 3:
            for node in nodes:
                node.touch()

    monkeypatch.setattr(device_choice, "_DRIVER_SECONDS", 60)
    monkeypatch.setattr(time, "sleep", sleep)
    assert choose_device("auto").torch == CUDA
    assert len(looked) == 3


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"driver": False}, "nvidiactl and"),
        ({"answers": False}, "its driver does not answer torch"),
        ({"built": None}, "is built without it"),
    ],
)
def test_a_card_that_cannot_be_used_is_said_at_warning_and_later(
    facts: dict[str, Any], said: str, machine: Callable[..., list[Path]], caplog: pytest.LogCaptureFixture
) -> None:
    if facts.get("built", "") is None:
        facts["answers"] = False
    machine(**facts)
    chosen = choose_device("auto")
    assert chosen.torch.type == "cpu"
    assert said in str(chosen.shortcoming)
    assert [(each.levelname, said in each.getMessage()) for each in caplog.records if each.levelname == "WARNING"] == [
        ("WARNING", True)
    ]
    with pytest.raises(DeviceAway, match=r"\[model\] device is 'cuda', and there is no CUDA here") as caught:
        choose_device("cuda")
    assert caught.value.exit_code == 70, "it may be there at the next start"


@pytest.mark.parametrize(
    ("capability", "runs"),
    [
        ((6, 1), False),
        ((7, 0), False),
        ((7, 5), True),
        ((8, 9), True),
        ((9, 0), True),
        ((10, 0), True),
        ((12, 0), True),
    ],
)
def test_a_card_that_this_torch_has_no_kernels_for_is_refused(
    capability: tuple[int, int], runs: bool, machine: Callable[..., list[Path]]
) -> None:
    machine(capability=capability)
    if runs:
        assert choose_device("auto").torch == CUDA
        return
    with pytest.raises(ModelUnavailable, match=r"built for sm_75, sm_80, .* TORCH_INDEX_URL") as caught:
        choose_device("auto")
    assert caught.value.exit_code == 78


def test_without_ptx_a_newer_generation_is_refused(machine: Callable[..., list[Path]]) -> None:
    machine(capability=(12, 0), kernels=("sm_80", "sm_90a", "sm_100f"))
    with pytest.raises(ModelUnavailable, match=r"is of compute capability 12\.0"):
        choose_device("cuda")


def test_a_number_that_no_gpu_has_is_refused(machine: Callable[..., list[Path]]) -> None:
    machine(count=2)
    with pytest.raises(ModelUnavailable, match=r"there are 2 GPUs: cuda:0 … cuda:1"):
        choose_device("cuda:2")


@pytest.mark.parametrize(
    ("device", "networks", "bfloat16", "wanted"),
    [
        ("cpu", UNET, True, torch.float32),
        ("cpu", TRANSFORMER, True, torch.float32),
        ("cuda", UNET, True, torch.float16),
        ("cuda", UNET, False, torch.float16),
        ("cuda", TRANSFORMER, True, torch.bfloat16),
        ("cuda", TRANSFORMER, False, torch.float16),
        ("mps", TRANSFORMER, True, torch.float16),
    ],
)
def test_the_precision_is_what_the_model_is_made_for_and_the_device_can(
    device: str, networks: frozenset[str], bfloat16: bool, wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_choice, "_computes_bfloat16", lambda _: bfloat16)
    assert choose_dtype("auto", torch.device(device), networks) == wanted
    assert choose_dtype("float32", torch.device(device), networks) == torch.float32


def test_a_precision_that_the_card_does_not_have_is_refused(
    machine: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine()
    monkeypatch.setattr(device_choice, "_computes_bfloat16", lambda _: False)
    with pytest.raises(ModelUnavailable, match="does not compute in bfloat16"):
        choose_dtype("bfloat16", CUDA, UNET)
