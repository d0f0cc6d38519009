"""The events of the demonstration: made up, or read from a log."""

from __future__ import annotations

import gzip
from collections import Counter
from itertools import chain, islice, pairwise
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.demo.chat import GUILDS, Event, guild_of, level_of, wants_report, xp_for
from millpond.demo.feed import Feed, events_of
from millpond.demo.generated import USERS, generate
from millpond.demo.replayed import BadLog, replay
from millpond.demo.schema import user_row

LOG = (
    "date\ttime\tevent\tuser\ttext\n"
    "2004-12-25\t09:14\tmessage\tcrimsun\thello\tthere\n"
    "2004-12-25\t09:35\trename\tsid77\tsid77_\n"
    "not a line of a log\n"
    "2004-12-26\t00:00\taction\tcrimsun\tsips a coffee\n"
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "chat.tsv.gz"
    path.write_bytes(gzip.compress(LOG.encode()))
    return path


def test_a_log_is_replayed_line_by_line_and_from_the_start_again(log: Path) -> None:
    first, second, third, fourth = islice(replay(log), 4)
    assert (first.id, first.kind, first.user, first.name, first.body) == (1, "message", 1, "crimsun", "hello\tthere")
    assert (second.kind, second.user, second.body) == ("rename", 2, "sid77_")
    assert (third.kind, third.user, third.at - first.at) == ("action", 1, 53_160)
    assert (fourth.id, fourth.user, fourth.body) == (4, 1, first.body)


def test_an_unpacked_log_is_taken_too(tmp_path: Path) -> None:
    path = tmp_path / "chat.tsv"
    path.write_text(LOG)
    assert next(replay(path)).name == "crimsun"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"not gzip", "not a gzipped"),
        (gzip.compress(b"when\twho\twhat\n"), "the columns are not date, time"),
        (gzip.compress(LOG.splitlines(keepends=True)[0].encode()), "no event in it"),
        (gzip.compress(LOG.encode())[:40], "not a gzipped"),
        (gzip.compress(b"\xff\xfe\n"), "not a gzipped UTF-8"),
    ],
)
def test_what_is_no_log_is_refused_with_its_name(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "chat.tsv.gz"
    path.write_bytes(content)
    with pytest.raises(BadLog, match=f"chat.tsv.gz.*{complaint}"):
        next(replay(path))


def test_the_same_seed_makes_the_same_chat() -> None:
    def some(seed: int) -> list[Event]:
        return list(islice(generate(Random(seed)), 500))

    assert some(7) == some(7)
    assert some(7) != some(8)


def test_the_made_up_chat_has_the_shape_of_the_real_one() -> None:
    events = list(islice(generate(Random(1)), 50_000))
    assert [event.id for event in events] == list(range(1, 50_001))
    written = Counter(event.user for event in events).most_common()
    assert 0.005 < written[0][1] / len(events) < 0.03
    assert 0.0003 < written[99][1] / len(events) < 0.005
    assert 1000 < len(written) <= USERS
    lengths = sorted(len(event.body) for event in events if event.kind == "message")
    assert 35 < median(lengths) < 50
    assert 120 < lengths[int(0.95 * len(lengths))] < 220
    assert lengths[0] >= 1
    assert lengths[-1] <= 470
    kinds = Counter(event.kind for event in events)
    assert 0.015 < kinds["rename"] / len(events) < 0.03
    assert 0 < kinds["action"] < kinds["rename"]
    # Bursts: most events follow within a second, some after a pause.
    pauses = [after.at - before.at for before, after in pairwise(events)]
    assert sum(pause <= 1 for pause in pauses) > 0.8 * len(pauses)
    assert max(pauses) > 60


def test_processes_part_the_events_between_them() -> None:
    parts = [[event.id for event in islice(events_of(3, None, share, 3), 10)] for share in range(3)]
    assert sorted(chain.from_iterable(parts)) == list(range(1, 31))


@given(st.text(min_size=1))
def test_every_user_has_a_guild(name: str) -> None:
    assert 1 <= guild_of(name) <= GUILDS


def test_guilds_differ_in_size() -> None:
    sizes = Counter(guild_of(f"user {n}") for n in range(10_000))
    assert sizes.most_common()[0][1] > 4 * sizes.most_common()[-1][1]


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_levels_rise_with_experience(one: int, other: int) -> None:
    less, more = sorted((one, other))
    assert level_of(less) <= level_of(more)


@given(st.integers(0, 300))
def test_a_level_costs_what_is_said(level: int) -> None:
    needed = 50 * level * (level + 1)
    assert level_of(needed) == level
    assert level == 0 or level_of(needed - 1) == level - 1


def event(kind: str = "message", body: str = "hi", number: int = 1) -> Event:
    return Event(number, kind, guild=1, user=5, name="ada", at=1000, body=body)


def test_a_newcomer_gets_a_row_and_a_rise_is_told() -> None:
    assert user_row(event(), None, base=10) == ((10, 0, 1, "ada", 1000), 10, False)
    after, gained, rose = user_row(event(body="x" * 100), (95, 0, 9, "ada"), base=10)
    assert (after, gained, rose) == ((110, 1, 10, "ada", 1000), 15, True)


def test_a_rename_gives_a_name_and_no_experience() -> None:
    after, gained, rose = user_row(event("rename", "ada_"), (95, 0, 9, "ada"), base=10)
    assert (after, gained, rose) == ((95, 0, 10, "ada_", 1000), 0, False)
    assert xp_for(event("rename"), 10) == 0


def test_one_event_in_five_hundred_wants_the_report() -> None:
    assert sum(wants_report(event(number=n)) for n in range(1, 5001)) == 10


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_feed_ends_at_its_time_even_when_nobody_asks() -> None:
    clock = Clock()
    feed = Feed(generate(Random(1)), clock)
    feed.open_until(8.0)
    first = feed.take()
    assert first is not None
    assert first.id == 1
    clock.now = 7.0
    assert feed.end_if_late() == 1.0
    assert not feed.ended.is_set()
    clock.now = 8.5
    assert feed.end_if_late() == 0.0
    assert feed.ended.is_set()
    assert feed.take() is None
    assert feed.ended_at == 8.0


def test_a_stopped_feed_says_when_it_was_stopped() -> None:
    clock = Clock()
    feed = Feed(generate(Random(1)), clock)
    feed.open_until(8.0)
    clock.now = 3.0
    feed.stop()
    clock.now = 4.0
    feed.stop()
    assert feed.take() is None
    assert feed.ended_at == 3.0


def test_making_up_an_event_is_cheap_beside_handling_it() -> None:
    events = generate(Random(1))
    next(events)
    started = perf_counter()
    for _ in islice(events, 5000):
        pass
    # About 4 microseconds where this was written; a hundred would be felt in the figures.
    assert (perf_counter() - started) / 5000 < 100e-6
