"""Which results are kept, and which go first."""

from __future__ import annotations

from random import Random

from millpond.scheduling.kept_results import REST, TRIAL, KeptResults, Stored, Token

KIB = 1024


def room(kept: KeptResults, *tables: str) -> Stored:
    return kept.stored(frozenset(tables))


def keep(kept: KeptResults, stored: Stored, key: object, result: object, size: int = 100) -> bool:
    return kept.keep(stored, 0, key, result, size, kept.token(stored.tables))


def test_a_result_is_worth_keeping_at_its_second_sight() -> None:
    kept = KeptResults(KIB, 1)
    assert not kept.wants(None, "a")
    assert not kept.wants(None, "b")
    assert kept.wants(None, "a")


def test_a_write_to_a_table_drops_what_was_read_from_it_and_nothing_else() -> None:
    kept = KeptResults(16 * KIB, 1)
    users, both = room(kept, "user"), room(kept, "user", "guild")
    guilds = room(kept, "guild")
    for stored in (users, both, guilds):
        assert keep(kept, stored, 1, "one")
    kept.touch(["user"])
    assert not users.by_shape[0]
    assert not both.by_shape[0]
    assert guilds.by_shape[0] == {1: "one"}
    assert (len(kept), kept.bytes) == (1, 100)


def test_what_was_read_before_a_write_is_not_kept_after_it() -> None:
    kept = KeptResults(16 * KIB, 1)
    stored = room(kept, "user")
    token = kept.token(stored.tables)
    kept.touch(["user"])
    assert not kept.keep(stored, 0, 1, "old", 100, token)
    token = kept.token(stored.tables)
    kept.drop_all()
    assert not kept.keep(stored, 0, 1, "old", 100, token)
    token = kept.token(stored.tables)
    kept.touch(["guild"])
    assert kept.keep(stored, 0, 1, "still good", 100, token)


def test_the_oldest_goes_when_there_is_no_room() -> None:
    kept = KeptResults(3_200, 1)
    stored = room(kept, "user")
    for key in range(20):
        assert keep(kept, stored, key, key, 200)
    assert list(stored.by_shape[0]) == list(range(4, 20))
    assert (kept.bytes, kept.evicted) == (3_200, 4)
    assert not keep(kept, stored, "large", "x", 201), "more than a sixteenth of the room"


def test_a_statement_that_is_seldom_asked_again_is_left_alone_for_a_while() -> None:
    kept = KeptResults(KIB * KIB, 1)
    stored = room(kept, "user")
    for key in range(TRIAL - 1):
        assert keep(kept, stored, key, key)
    assert not keep(kept, stored, "next", "x")
    assert (stored.bytes, len(kept)) == (0, 0)
    assert not any(kept.wants(stored, "again") for _ in range(REST))
    assert not kept.wants(stored, "once more"), "first sight"
    assert kept.wants(stored, "once more")


def test_a_statement_that_is_often_asked_again_stays() -> None:
    kept = KeptResults(KIB * KIB, 1)
    stored = room(kept, "user")
    for key in range(3 * TRIAL):
        assert keep(kept, stored, key, key)
        stored.hits += 1


def test_a_statement_that_is_forgotten_leaves_nothing_behind() -> None:
    kept = KeptResults(KIB * KIB, 1)
    stored = room(kept, "user")
    keep(kept, stored, 1, 1)
    kept.forget(stored)
    assert (kept.bytes, len(kept)) == (0, 0)
    kept.touch(["user"])


def test_no_order_of_events_gives_a_stale_result_or_too_many_bytes() -> None:
    """Against a model: each table's content is a number; a result is the sum of those that it reads."""
    for seed in range(200):
        chance = Random(seed)
        kept = KeptResults(chance.choice((1_600, 8_000, 100_000)), 2)
        tables = dict.fromkeys("abcd", 0)
        rooms = [room(kept, *chance.sample("abcd", chance.randrange(1, 4))) for _ in range(6)]
        open_reads: list[tuple[Stored, int, int, int, Token]] = []

        def fresh(stored: Stored, key: int, tables: dict[str, int] = tables) -> int:
            return key + sum(tables[name] for name in stored.tables)

        for _ in range(400):
            match chance.randrange(6):
                case 0:
                    written = chance.sample("abcd", chance.randrange(1, 3))
                    for name in written:
                        tables[name] += 1_000
                    kept.touch(written)
                case 1 if chance.random() < 0.1:
                    tables[chance.choice("abcd")] += 1_000
                    kept.drop_all()
                case 2 | 3:
                    stored, shape, key = chance.choice(rooms), chance.randrange(2), chance.randrange(30)
                    open_reads.append((stored, shape, key, fresh(stored, key), kept.token(stored.tables)))
                case 4 if open_reads:
                    stored, shape, key, result, token = open_reads.pop(chance.randrange(len(open_reads)))
                    kept.keep(stored, shape, key, result, chance.randrange(50, 300), token)
                case _:
                    stored, shape, key = chance.choice(rooms), chance.randrange(2), chance.randrange(30)
                    found = stored.by_shape[shape].get(key)
                    stored.hits += found is not None
                    assert found in (None, fresh(stored, key)), f"stale: seed {seed}"
            assert kept.bytes <= kept._limit_bytes, f"seed {seed}"
            assert len(kept) == sum(len(results) for stored in rooms for results in stored.by_shape), f"seed {seed}"
