import logging

from stablediffusiond.log_limit import LogLimit


def logged(limit: LogLimit, wording: str, *arguments: object) -> str | None:
    record = logging.LogRecord("x", logging.WARNING, __file__, 1, wording, arguments, None)
    return record.getMessage() if limit.filter(record) else None


def test_a_flood_of_one_wording_is_counted_and_others_are_logged_on() -> None:
    seconds = [0.0]
    limit = LogLimit(3, lambda: seconds[0])
    lines = [logged(limit, "%s is turned away", number) for number in range(100)]
    assert lines == ["0 is turned away", "1 is turned away", "2 is turned away", *[None] * 97]
    assert logged(limit, "something else") == "something else"
    seconds[0] = 10.0
    assert logged(limit, "%s is turned away", 7) == "7 is turned away (and 97 times before)"
    assert logged(limit, "%s is turned away", 8) == "8 is turned away"
    seconds[0] = 20.0
    assert logged(limit, "%s is turned away", 9) == "9 is turned away"
