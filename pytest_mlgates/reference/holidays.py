"""The days on which a casino floor sees a holiday crowd, for any year."""

from __future__ import annotations

import datetime as dt

_MONDAY, _THURSDAY = 0, 3


def holidays(year: int) -> frozenset[dt.date]:
    """United States federal holidays and six further busy days of one year.

    The further days are Valentine's Day, St Patrick's Day, Easter Sunday, the day after Thanksgiving, Christmas Eve and
    New Year's Eve.
    """
    thanksgiving = _nth_weekday(year, 11, _THURSDAY, 4)
    return frozenset(
        {
            dt.date(year, 1, 1),
            _nth_weekday(year, 1, _MONDAY, 3),
            dt.date(year, 2, 14),
            _nth_weekday(year, 2, _MONDAY, 3),
            dt.date(year, 3, 17),
            easter_sunday(year),
            _last_monday_of_may(year),
            dt.date(year, 6, 19),
            dt.date(year, 7, 4),
            _nth_weekday(year, 9, _MONDAY, 1),
            _nth_weekday(year, 10, _MONDAY, 2),
            dt.date(year, 11, 11),
            thanksgiving,
            thanksgiving + dt.timedelta(days=1),
            dt.date(year, 12, 24),
            dt.date(year, 12, 25),
            dt.date(year, 12, 31),
        }
    )


def easter_sunday(year: int) -> dt.date:
    """Date of Easter in the Gregorian calendar (the anonymous algorithm in Meeus, Astronomical Algorithms, 1991, ch. 8).

    Examples
    --------
    >>> easter_sunday(2026)
    datetime.date(2026, 4, 5)
    """
    a, (b, c) = year % 19, divmod(year, 100)
    (d, e), (i, k) = divmod(b, 4), divmod(c, 4)
    g = (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    weekday = (32 + 2 * e + 2 * i - h - k) % 7
    m = (a + 11 * h + 19 * weekday) // 433
    month = (h + weekday - 7 * m + 90) // 25
    return dt.date(year, month, (h + weekday - 7 * m + 33 * month + 19) % 32)


def _nth_weekday(year: int, month: int, weekday: int, n: int) -> dt.date:
    first = dt.date(year, month, 1)
    return first + dt.timedelta(days=(weekday - first.weekday()) % 7 + 7 * (n - 1))


def _last_monday_of_may(year: int) -> dt.date:
    last = dt.date(year, 5, 31)
    return last - dt.timedelta(days=last.weekday())
