import pytest

from stablediffusiond import samplers
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.samplers import Sampler, find


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Euler a", "Euler a"), ("k_euler_a", "Euler a"), ("k_euler_ancestral", "Euler a"), ("EULER_ANCESTRAL", "Euler a"),
        ("EulerAncestralDiscreteScheduler", "Euler a"), ("DPM++ 2M", "DPM++ 2M"), ("dpmpp_2m", "DPM++ 2M"),
        ("k_dpmpp_2m", "DPM++ 2M"), ("DPMSolverMultistepScheduler", "DPM++ 2M"), ("PNDM", "PLMS"), ("plms", "PLMS"),
        ("DDIMScheduler", "DDIM"), ("k_dpm_2_a", "DPM2 a"), ("dpm_2", "DPM2"), ("k_lms", "LMS"), ("uni_pc", "UniPC"),
        ("k_heun", "Heun"), ("DPMSolverSinglestepScheduler", "DPM++ 2S"), ("lcm", "LCM"), ("DDPM", "DDPM"), ("deis", "DEIS"),
    ],
)  # fmt: skip
def test_three_worlds_of_names_meet(spelling: str, name: str) -> None:
    assert find(spelling) == Sampler(name)


@pytest.mark.parametrize("spelling", ["DPM++ 2M Karras", "k_dpmpp_2m_ka", "dpmpp_2m_karras"])
def test_the_schedule_may_be_the_last_word(spelling: str) -> None:
    assert find(spelling) == Sampler("DPM++ 2M", "Karras")


def test_the_schedule_may_stand_beside_the_sampler() -> None:
    assert find("Euler", "exponential") == Sampler("Euler", "Exponential")
    assert find("Euler", "Automatic") == Sampler("Euler")


def test_automatic_leaves_the_choice_to_the_model() -> None:
    assert find("Automatic") is None


@pytest.mark.parametrize("name", samplers.NAMES)
def test_a_sampler_reads_its_own_name(name: str) -> None:
    assert find(str(Sampler(name))) == Sampler(name)


def test_a_sampler_without_that_schedule_says_so() -> None:
    with pytest.raises(InvalidRequest, match="DDIM has no Karras schedule"):
        find("DDIM Karras")


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InvalidRequest, match="did you mean 'Euler'"):
        find("Eular")
    with pytest.raises(InvalidRequest, match="unknown schedule"):
        find("Euler", "zigzag")
