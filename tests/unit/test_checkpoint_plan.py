"""When the log is copied into the database, and by whom."""

from __future__ import annotations

from random import Random

from millpond.scheduling.checkpoint_plan import CheckpointPlan, Next


def test_a_short_log_is_left_alone() -> None:
    plan = CheckpointPlan(100)
    assert not any(plan.grew(log) for log in range(100))
    assert plan.now is Next.NOTHING


def test_a_long_log_is_copied_once_and_the_rest_is_the_writers() -> None:
    plan = CheckpointPlan(100)
    assert plan.grew(100)
    assert not plan.grew(130), "one step at a time"
    assert plan.copied(100, 100) is Next.FINISH
    assert not plan.grew(135)
    plan.ended()
    assert plan.now is Next.NOTHING


def test_a_copy_that_looks_whole_is_finished_all_the_same() -> None:
    """A batch that was begun before it goes on where the log ends."""
    plan = CheckpointPlan(100)
    plan.grew(100)
    assert plan.copied(100, 100) is Next.FINISH


def test_what_grew_by_much_while_it_was_copied_is_copied_again() -> None:
    plan = CheckpointPlan(100)
    plan.grew(5_000)
    plan.grew(5_400)
    assert plan.copied(5_000, 5_000) is Next.COPY
    plan.grew(5_450)
    assert plan.copied(5_400, 5_400) is Next.FINISH


def test_a_pinned_log_is_not_copied_again_and_again() -> None:
    plan = CheckpointPlan(100)
    plan.grew(1_000)
    assert plan.copied(1_000, 10) is Next.COPY
    assert plan.copied(1_000, 10) is Next.FINISH
    plan.ended()
    assert not plan.grew(1_049)
    assert plan.grew(1_050)


def test_after_the_log_was_begun_anew_the_usual_length_counts_again() -> None:
    plan = CheckpointPlan(100)
    plan.grew(1_000)
    plan.copied(1_000, 1_000)
    plan.ended()
    assert not plan.grew(3)
    assert plan.grew(100)


def test_a_step_that_failed_is_tried_again_when_the_log_has_grown() -> None:
    plan = CheckpointPlan(100)
    plan.grew(100)
    plan.ended()
    assert not plan.grew(149)
    assert plan.grew(150)


def test_the_log_stays_bounded_in_any_order_of_events() -> None:
    """A made-up world: commits, copies of random length, a writer that finishes; without readers that pin it."""
    for seed in range(300):
        chance = Random(seed)
        plan = CheckpointPlan(100)
        log = copied = longest = 0
        running: int | None = None
        whole = False
        for _ in range(2_000):
            if whole:
                log = copied = 0
                whole = False
            log += chance.randrange(1, 20)
            longest = max(longest, log)
            if plan.grew(log):
                running = log
            if running is not None and chance.random() < 0.3:
                copied = running
                running = log if plan.copied(running, copied) is Next.COPY else None
            if plan.now is Next.FINISH and chance.random() < 0.5:
                whole = True
                plan.ended()
        assert longest < 1_500, f"seed {seed}"
