from collections import Counter
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from stablediffusiond.client.events import Image, from_frame
from stablediffusiond.client.reply_buffer import ReplyBuffer
from stablediffusiond.frames import Frame
from stablediffusiond.messages.replies import Done

JOBS = ("one", "two")
replies = st.tuples(st.sampled_from(JOBS), st.integers(0, 3))
steps = st.lists(replies | st.sampled_from(JOBS), max_size=30)  #: a reply comes, or somebody reads a job


def picture(job: str, index: int) -> Image:
    facts = {"id": job, "index": index, "count": 4, "job_type": "txt2img", "prompt": "", "negative_prompt": ""}
    numbers = {"seed": 0, "width": 8, "height": 8, "steps": 1, "guidance_scale": "1", "eta": "0"}
    event = from_frame(Frame({"type": "image", **facts, **numbers, "sampler": "DDIM", "model": "doodle"}, b""))
    assert isinstance(event, Image)
    return event


@given(steps)
def test_whatever_comes_each_picture_is_read_once_in_order_and_each_delivery_acked_once(
    steps: list[tuple[str, int] | str],
) -> None:
    replies, acks, deliveries = ReplyBuffer(), Counter[int](), 0
    came: dict[str, list[int]] = {job: [] for job in JOBS}
    read: dict[str, list[int]] = {job: [] for job in JOBS}

    def take(job: str) -> bool:
        event = replies.take(job, None)
        if isinstance(event, Image):
            read[job].append(event.facts.index)
        return event is not None

    for job in JOBS:
        replies.open(job)
    for step in steps:
        if isinstance(step, tuple):
            deliveries += 1
            replies.put(picture(*step), partial(acks.update, [deliveries]))
            came[step[0]].append(step[1])
        elif len(read[step]) < len(set(came[step])):
            take(step)
    for job in JOBS:
        deliveries += 1
        end = Done(id=job, images=0, queued_seconds=0, engine_seconds=0, total_seconds=0)
        replies.put(end, partial(acks.update, [deliveries]))
        while take(job):
            pass
        assert read[job] == list(dict.fromkeys(came[job]))
    assert acks == Counter(range(1, deliveries + 1))
    assert len(replies) == 0


def test_an_end_that_overtakes_a_picture_waits_for_it() -> None:
    replies = ReplyBuffer()
    replies.open("one")
    end = Done(id="one", images=2, queued_seconds=0, engine_seconds=0, total_seconds=0)
    for event in (picture("one", 1), end, picture("one", 0)):
        replies.put(event, lambda: None)
    read = [replies.take("one", None) for _ in range(4)]
    assert [event.facts.index for event in read[:2] if isinstance(event, Image)] == [1, 0]
    assert read[2:] == [end, None]
