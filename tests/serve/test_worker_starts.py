"""Starts and ends of worker processes: one that does not start is tried again, and none outlives its pool."""

import asyncio
import multiprocessing
import threading
import time
from multiprocessing.context import ForkServerProcess

import pytest
from echo import echo

pytest.importorskip("fastapi", reason="needs dualvit[serve]")
pytest.importorskip("prometheus_client", reason="needs dualvit[serve]")

from dualvit.serve import pool as pools
from dualvit.serve import process
from dualvit.serve.forks import prepare
from dualvit.serve.limits import Limits, RefusedError, Source
from dualvit.serve.metrics import Metrics
from dualvit.serve.worker import Order


@pytest.fixture
def pool(monkeypatch):
    """A pool of two workers that are not started yet."""
    monkeypatch.setattr(process, "work", echo)
    prepare([])
    made = pools.Pool(Source("echo", "none", "eager", workers=2, batch=2), Limits(timeout=1.0), Metrics())
    yield made
    made.close()
    assert not [worker for worker in made.workers if worker.is_alive()]
    assert not [child for child in multiprocessing.active_children() if child.name == "echo"]


def until(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_start_that_fails_is_tried_again(pool, monkeypatch):
    """As it does if the process that forks them is killed, or there are too many open files."""
    start, faults = ForkServerProcess.start, [EOFError("unexpected EOF"), OSError(24, "Too many open files")]

    def faulty(process):
        if faults:
            raise faults.pop(0)
        start(process)

    monkeypatch.setattr(ForkServerProcess, "start", faulty)
    pool.start()
    until(pool.ready)
    assert faults == []
    assert pool.metrics.restarts.labels("echo")._value.get() >= 1


def test_an_end_while_workers_start_leaves_no_process(pool, monkeypatch):
    start, begun, go = ForkServerProcess.start, threading.Event(), threading.Event()

    def slow(process):
        begun.set()
        assert go.wait(20)
        start(process)

    monkeypatch.setattr(ForkServerProcess, "start", slow)
    pool.start()
    assert begun.wait(20)
    threading.Timer(0.2, go.set).start()
    pool.close()  # and the fixture looks for what is left


def test_an_answer_that_cannot_be_read_costs_the_process_and_no_request(pool, monkeypatch):
    asked, once = pools.Worker._ask, ["one answer too few"]

    def short(worker, jobs):
        answers = asked(worker, jobs)
        return answers[:-1] if jobs and once and once.pop() else answers

    monkeypatch.setattr(pools.Worker, "_ask", short)
    pool.start()
    until(pool.ready)

    async def ask():
        job = pool.submit(Order(b"a", 0.5), time.monotonic() + 60)
        return await asyncio.wait_for(job.reply, 60)

    assert asyncio.run(ask()) == (200, b"a")
    assert once == []


def test_a_request_that_could_not_be_answered_in_time_is_refused_at_once(pool, monkeypatch):
    keep, late = pools.Pool.keep_pace, [0.3]

    def slow(pool, seconds):
        time.sleep(late.pop() if late else 0)  # no reply overtakes the pace, by which the next request is judged
        keep(pool, seconds)

    monkeypatch.setattr(pools.Pool, "keep_pace", slow)
    pool.start()
    until(pool.ready)

    async def ask():
        first = pool.submit(Order(b"a", 0.5), time.monotonic() + 60)
        await asyncio.wait_for(first.reply, 60)
        jobs = []
        with pytest.raises(RefusedError, match=r"requests wait for echo .* come back") as refused:
            while len(jobs) < 60:
                jobs.append(pool.submit(Order(b"b", 0.5), time.monotonic() + 1.5))
        assert refused.value.status == 429
        return len(jobs), await asyncio.wait_for(asyncio.gather(*(job.reply for job in jobs)), 60)

    count, answers = asyncio.run(ask())
    assert 4 < count < 40  # a tenth of a second each, on two workers, in 1.5 s
    assert answers == [(200, b"b")] * count


def test_a_reply_to_a_loop_that_is_gone_costs_no_worker(pool):
    pool.start()
    until(pool.ready)

    async def leave():
        return pool.submit(Order(b"a", 0.5), time.monotonic() + 60)

    job = asyncio.run(leave())
    until(lambda: pool.pace)
    job.finish((200, b"a"))
    assert not job.reply.done()
    assert pool.ready()
    assert pool.metrics.restarts.labels("echo")._value.get() == 0
