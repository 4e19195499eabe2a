from stablediffusiond.requestd.counters import Counters


def test_the_rate_is_that_of_the_last_minute() -> None:
    now = [0.0]
    counters = Counters(lambda: now[0])
    for now[0] in (1.0, 2.0, 10.0):
        counters.picture_published()
    assert counters.images_per_second == 3 / 10
    now[0] = 61.5
    assert counters.images_per_second == 2 / 60
    now[0] = 1000.0
    assert (counters.images_per_second, counters.images, counters.uptime_seconds) == (0, 3, 1000)


def test_jobs_are_counted_by_how_they_ended() -> None:
    counters = Counters()
    for outcome in ("done", "done", "expired", "cancelled"):
        counters.job_ended(outcome)
    assert (counters.done, counters.failed) == (2, 2)
