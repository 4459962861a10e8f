"""The workers of a model: requests wait in a queue, a thread per worker takes them, and dead workers are replaced.

A worker that dies gives its requests back. Each of them is then tried once more, by itself, so that a picture that
kills workers takes no other request with it.
"""

import asyncio
import json
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import Any

from dualvit.errors import StateError, line_of
from dualvit.serve.limits import Limits, RefusedError, Source
from dualvit.serve.metrics import Metrics
from dualvit.serve.process import Local, Process, Start
from dualvit.serve.worker import Order, Reply

IDLE = 0.5  # seconds without work, after which a worker is asked whether it is there
PONG = 10.0  # seconds in which it must say so
START = 300.0  # seconds in which a model must be open
LATEST = 30.0  # seconds between two starts of a worker that does not come up, at the most
TRIES = 2  # of a request whose worker died
MEMORY = 0.2  # share that the latest batch has in the time per picture


class Job:
    """A request that waits for its reply.

    Attributes:
        order: The picture.
        reply: A future of the server's loop.
        deadline: On the monotonic clock; nobody waits for longer.
        tries: How often a worker has taken it.
    """

    def __init__(self, order: Order, deadline: float) -> None:
        self.order, self.deadline, self.tries = order, deadline, 0
        self.loop = asyncio.get_running_loop()
        self.reply: asyncio.Future[Reply] = self.loop.create_future()
        self.left = False

    def leave(self) -> None:
        """Say that nobody waits for the reply."""
        self.left = True

    def waits(self) -> bool:
        """Whether somebody does."""
        return not self.left and time.monotonic() < self.deadline

    def finish(self, reply: Reply) -> None:
        """Give the reply, from any thread; nobody waits any more if the loop is closed."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(lambda: None if self.reply.done() else self.reply.set_result(reply))


class Pool:
    """A model: its queue and its workers.

    Attributes:
        source: What is served.
        begin: Starts a process.
        runtime: As asked, and then as the first worker has chosen it.
        generation: Counts the versions that were swapped in.
        workers: Of the version that serves.
        running: All whose threads run, those of a version that comes or goes among them.
        pace: Seconds per picture, of late; 0 before the first.
    """

    def __init__(self, source: Source, limits: Limits, metrics: Metrics, begin: Start = Local) -> None:
        self.source, self.limits, self.metrics, self.begin = source, limits, metrics, begin
        self.queue: deque[Job] = deque()
        self.changed = threading.Condition()
        self.swapping = threading.Lock()
        self.generation, self.closed, self.runtime = 1, False, source.runtime
        self.running: set[Worker] = set()
        self.pace = 0.0
        self.workers = self._made()

    def _made(self) -> list["Worker"]:
        first = Worker(self)
        return [first, *(Worker(self, first) for _ in range(1, self.source.workers))]

    def start(self) -> None:
        """Start the workers, without waiting for them."""
        for worker in self.workers:
            worker.serving.set()
            worker.start()

    def submit(self, order: Order, deadline: float) -> Job:
        """Put a request into the queue.

        One that could not be answered in time is refused at once. If it waited, pictures would be computed whose
        clients have just been told to come back, and a server with too many requests would answer hardly any.

        Raises:
            RefusedError: too many wait already, or the server is closing.
        """
        with self.changed:
            if self.closed:
                raise RefusedError(503, "the server is closing; ask another one", close=True)
            count = len(self.queue)
            wait = (count + self.source.batch) * self.pace / len(self.workers)
            if count >= self.limits.waiting or (count and wait > deadline - time.monotonic()):
                raise RefusedError(429, f"{count} requests wait for {self.source.name} already; come back")
            job = Job(order, deadline)
            self.queue.append(job)
            self.changed.notify()
        return job

    def take(self, worker: "Worker") -> list[Job]:
        """Return the requests that a worker does next, those whose clients are gone left out; none if it idles."""
        with self.changed:
            self.changed.wait_for(lambda: self.queue or worker.leaving, IDLE)
            jobs: list[Job] = []
            while self.queue and not worker.leaving and len(jobs) < self.source.batch:
                if not self.queue[0].waits():
                    self.queue.popleft()
                elif self.queue[0].tries and jobs:  # one that saw a worker die goes alone
                    break
                else:
                    jobs.append(self.queue.popleft())
                    jobs[-1].tries += 1
                    if jobs[-1].tries > 1:
                        break
            return jobs

    def keep_pace(self, seconds: float) -> None:
        """Note how long a picture took."""
        with self.changed:
            self.pace += (seconds - self.pace) * (MEMORY if self.pace else 1.0)

    def give_back(self, jobs: list[Job]) -> None:
        """Put the requests of a dead worker first in the queue; those that it had for the second time are refused."""
        with self.changed:
            for job in reversed(jobs):
                if job.tries < TRIES:
                    self.queue.appendleft(job)
                else:
                    line = "two workers ended at this picture, by a crash or by the limit of time; send another one"
                    job.finish((503, json.dumps({"error": line}).encode()))
            self.changed.notify_all()

    def ready(self) -> bool:
        """Whether all workers are up and alive."""
        return all(worker.is_up() for worker in self.workers)

    def described(self) -> dict[str, Any]:
        """Return what the server says of the model."""
        about = next((worker.about for worker in self.workers if worker.about), {})
        up = sum(worker.is_up() for worker in self.workers)
        counts = {"workers": len(self.workers), "up": up, "generation": self.generation}
        return {"name": self.source.name, **about, **counts}

    def wait_first(self) -> None:
        """Wait until a worker is up.

        Raises:
            RuntimeError: the model does not open; the message says why.
        """
        wait_all(self.workers[:1])

    def swap(self) -> None:
        """Open the model's file anew in new workers, let them take over, and end the old ones after their requests.

        Raises:
            RuntimeError: the new file does not open, and the old version serves on; or a swap is under way.
        """
        if not self.swapping.acquire(blocking=False):
            raise StateError(f"{self.source.name} is being swapped already; wait for it")
        try:
            new = self._made()
            for worker in new:
                worker.start()
            try:
                wait_all(new)
            except StateError:
                for worker in new:
                    worker.leave()
                raise
            with self.changed:
                if self.closed:
                    for worker in new:
                        worker.leave()
                    return
                old, self.workers = self.workers, new
                self.generation += 1
            for worker in new:
                worker.serving.set()
            for worker in old:
                worker.leave()
            for worker in old:
                worker.join()
        finally:
            self.swapping.release()

    def watch(self) -> None:
        """Kill workers that are at one batch for longer than allowed; their threads replace them."""
        with self.changed:
            workers = tuple(self.running)
        for worker in workers:
            worker.require_quick()

    def close(self) -> None:
        """End the workers; whoever still waits is refused."""
        with self.changed:
            self.closed = True
            jobs, workers = list(self.queue), list(self.workers)
            self.queue.clear()
        for job in jobs:
            job.finish((503, json.dumps({"error": "the server is closing; ask another one"}).encode()))
        for worker in workers:
            worker.leave()
        until = time.monotonic() + self.limits.timeout + PONG
        for worker in workers:
            worker.join(max(until - time.monotonic(), 0))
            worker.kill()  # none takes SIGTERM, so that Python would wait for it in the end


def wait_all(workers: list["Worker"]) -> None:
    """Wait until workers are up.

    Raises:
        RuntimeError: one does not come up; the message says why.
    """
    until = time.monotonic() + START
    for worker in workers:
        worker.tried.wait(max(until - time.monotonic(), 0))
        if not worker.is_up():
            raise StateError(worker.failure or f"{worker.pool.source.name} was not open after {START:.0f} s")


class Worker(threading.Thread):
    """A thread that keeps one worker process alive and hands requests to it.

    Attributes:
        pool: Whose requests it takes.
        first: The worker that chooses a runtime; this one waits for it, and takes the same.
        about: What its process said of the model; empty while none is up.
        tried: Set once a first process is up, or has failed.
        failure: Why the last process did not come up.
        serving: Set when it may take requests.
        leaving: Whether it ends after the requests that it has.
    """

    def __init__(self, pool: Pool, first: "Worker | None" = None) -> None:
        super().__init__(name=pool.source.name, daemon=True)
        self.pool, self.first, self.about, self.failure = pool, first, dict[str, Any](), ""
        self.tried, self.serving, self.leaving = threading.Event(), threading.Event(), False
        self.process: Process | None = None
        self.busy_until: float | None = None

    def run(self) -> None:
        """Start processes and serve by them, until `leave`."""
        with self.pool.changed:
            self.pool.running.add(self)
        try:
            self._run()
        finally:
            with self.pool.changed:
                self.pool.running.discard(self)

    def _run(self) -> None:
        wait, starts = IDLE, 0
        while not self.leaving:
            if starts:
                self.pool.metrics.restarts.labels(self.pool.source.name).inc()
            starts += 1
            if self._open():
                wait = IDLE
                self.tried.set()
                self._serve()
                self._end()
                continue
            self._end()
            self.tried.set()
            until = time.monotonic() + wait
            while time.monotonic() < until and not self.leaving:
                time.sleep(0.05)
            wait = min(2 * wait, LATEST)

    def _open(self) -> bool:
        """Start a process, and wait for its model."""
        if self.first is not None:
            self.first.tried.wait(START)
        try:
            said = self._start()
        except Exception as error:  # too many files or processes, or what forks them was killed: it is tried again
            said = {"fault": f"no process for {self.pool.source.name}: {line_of(error, 200)}"}
        self.busy_until = None
        self.failure = said.get("fault", "")
        self.about = said.get("about", {})
        self.pool.runtime = self.about.get("runtime", self.pool.runtime)  # all workers, and those after them, agree
        return bool(self.about)

    def _start(self) -> dict[str, Any]:
        """Start a process, and return its first message."""
        process = self.pool.begin(replace(self.pool.source, runtime=self.pool.runtime), self.pool.limits.max_pixels)
        self.busy_until = time.monotonic() + START
        self.process = process
        if self.leaving:  # `leave` has found no process
            process.kill()
        try:
            return process.begin()
        except OSError:
            return {"fault": f"the worker of {self.pool.source.name} ended while it opened the model"}

    def _serve(self) -> None:
        while not self.leaving:
            if not self.serving.wait(IDLE):
                continue
            jobs = self.pool.take(self)
            start = time.monotonic()
            try:
                answers = self._ask(jobs)
                if jobs:  # before the first client knows: what it sends next is judged by it
                    self.pool.keep_pace((time.monotonic() - start) / len(jobs))
                for job, reply in zip(jobs, answers, strict=True):
                    job.finish(reply)
            except Exception:  # it is dead, was too slow, or says what nobody understands
                self.about = {}
                self.pool.give_back(jobs)
                return

    def _ask(self, jobs: list[Job]) -> list[Reply]:
        """Send requests to the process and return its replies; without requests, ask whether it is there."""
        limit = self.pool.limits.timeout if jobs else PONG
        self.busy_until = time.monotonic() + limit
        try:
            assert self.process is not None
            answers = self.process.ask([job.order for job in jobs] if jobs else None)
        finally:
            self.busy_until = None
        if jobs:
            self.pool.metrics.batches.labels(self.pool.source.name).observe(len(jobs))
        return answers or []

    def _end(self) -> None:
        self.about = {}
        process, self.process = self.process, None
        if process is not None:
            process.end()

    def is_up(self) -> bool:
        """Whether the process has its model open and is alive."""
        process = self.process
        return bool(self.about) and process is not None and process.is_alive()

    def require_quick(self) -> None:
        """Kill the process if it takes longer than it may."""
        until = self.busy_until
        if until is not None and time.monotonic() > until:
            self.kill()

    def kill(self) -> None:
        """Kill the process, if there is one."""
        process = self.process
        if process is not None:
            process.kill()

    def leave(self) -> None:
        """Let the thread end, after the requests that it has."""
        self.leaving = True
        self.serving.set()
        if not self.about:  # nobody waits for a process that is not up yet
            self.kill()
        with self.pool.changed:
            self.pool.changed.notify_all()
