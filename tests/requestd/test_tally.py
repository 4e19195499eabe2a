from stablediffusiond.requestd.tally import Tally


def test_the_rate_is_that_of_the_last_minute() -> None:
    now = [0.0]
    tally = Tally(lambda: now[0])
    for now[0] in (1.0, 2.0, 10.0):
        tally.picture_published()
    assert tally.images_per_second == 3 / 10
    now[0] = 61.5
    assert tally.images_per_second == 2 / 60
    now[0] = 1000.0
    assert (tally.images_per_second, tally.images, tally.uptime_seconds) == (0, 3, 1000)


def test_jobs_are_counted_by_how_they_ended() -> None:
    tally = Tally()
    for outcome in ("done", "done", "expired", "cancelled"):
        tally.job_ended(outcome)
    assert (tally.done, tally.failed) == (2, 2)
