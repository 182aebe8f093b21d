"""One job beside the loop: never two, never waited for, and its failure counted."""

import threading

import redis

from aggregator.aside import Aside


def test_a_job_is_begun_and_another_refused_until_it_has_ended():
    gate, ran = threading.Event(), []
    aside = Aside("test")
    assert aside.offer(lambda: (gate.wait(20), ran.append(1)))
    assert aside.busy
    assert not aside.offer(lambda: ran.append(2))
    gate.set()
    aside.close()
    assert (ran, aside.busy, aside.done, aside.failed) == ([1], False, 1, 0)
    assert aside.offer(lambda: ran.append(3))
    aside.close()
    assert (ran, aside.done) == ([1, 3], 2)


def test_a_store_that_is_away_fails_the_job_and_nothing_else():
    def away():
        raise redis.ConnectionError("gone")

    aside = Aside("test")
    aside.close()
    assert aside.offer(away)
    aside.close()
    assert (aside.done, aside.failed, aside.busy) == (0, 1, False)
