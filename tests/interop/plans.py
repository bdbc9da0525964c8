"""A plan in Redis whose orchestrator is killed, and another process that finishes it; and one that is cancelled and
answered by a process that does not run it."""

import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
from checks import Checks

JOBS = [f"{level}-{place}" for level in range(4) for place in range(4)]


class Process:
    """A process whose lines are read as they come."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.lines: list[str] = []
        with open(log, "ab") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    async def until(self, enough: object, what: str) -> None:
        until = time.monotonic() + 20
        while not enough(self.lines):
            assert time.monotonic() < until, f"{what} did not come: {self.lines}"
            await anyio.sleep(0.01)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join(5)


@contextmanager
def started(command: list[str], log: Path) -> Iterator[Process]:
    process = Process(command, log)
    try:
        yield process
    finally:
        process.kill()


def complete(lines: list[str]) -> int:
    return sum(line.endswith(" complete") and not line.startswith("end ") for line in lines)


async def run(checks: Checks, program: str, redis: str, scratch: Path) -> None:
    async def survives(number: int, jobs: int) -> None:
        effects, log = scratch / f"effects-{number}", scratch / "plans.log"
        with started([program, "agent", str(effects)], log) as agent:
            await agent.until(bool, "the agent's address")
            url = agent.lines[0].split()[-1]
            with started([program, "submit", redis, url], log) as first:
                held = lambda lines: "held running" in lines and complete(lines) >= jobs
                await first.until(held, f"{jobs} complete tasks")
                # With SIGKILL.
                first.kill()
            done = {line.split()[0] for line in first.lines if line.endswith(" complete")}
            assert done and len(done) < len(JOBS), f"it was killed too late: {first.lines}"
            with started([program, "resume", redis, url], log) as second:
                await second.until(lambda lines: len([line for line in lines if line.startswith("end ")]) == 18, "the end")
                ends = dict(line.split()[1:] for line in second.lines if line.startswith("end "))
            assert {task: ends[task] for task in JOBS} == dict.fromkeys(JOBS, "complete"), ends
            # It may have been done, so it is not done again.
            assert (ends["held"], ends["after"]) == ("failed", "failed"), ends
            counted = Counter(effects.read_text().split())
            assert counted == Counter([*JOBS, "held"]), counted

    for number, jobs in enumerate([1, 5, 10]):
        name = f"a plan whose orchestrator is killed after {jobs} tasks is finished, and no task is done twice"
        await checks.check(name, lambda number=number, jobs=jobs: survives(number, jobs))

    async def reached() -> None:
        effects, log = scratch / "effects-reached", scratch / "plans.log"

        async def told(what: str, plan: str, task: str) -> str:
            done = await anyio.run_process([program, what, redis, plan, task])
            return done.stdout.decode().strip()

        with started([program, "agent", str(effects)], log) as agent:
            await agent.until(bool, "the agent's address")
            url = agent.lines[0].split()[-1]
            with started([program, "submit-small", redis, url], log) as first:
                begun = {"asked input_required", "first running", "second running"}
                await first.until(lambda lines: begun <= set(lines), "the question")
                plan = first.lines[0].split()[-1]
                assert await told("answer", plan, "asked") == "Stored"
                await first.until(lambda lines: "asked complete" in lines, "the answer's effect")
                assert await told("cancel", plan, "first") == "Stored"
                await first.until(lambda lines: "first cancelled" in lines, "the end of a cancelled task")
                assert "end first cancelled" not in first.lines, "the plan goes on"
                # With SIGKILL.
                first.kill()
            while await told("cancel", plan, "second") != "Waiting":
                await anyio.sleep(0.5)
            with started([program, "resume", redis, url], log) as second:
                await second.until(lambda lines: "end second cancelled" in lines, "the end of the plan")
                ends = dict(line.split()[1:] for line in second.lines if line.startswith("end "))
            assert ends == {"asked": "complete", "first": "cancelled", "second": "cancelled"}, ends
            counted = Counter(effects.read_text().split())
            assert counted == Counter(["asked", "first", "second"]), counted

    await checks.check("a plan is answered and cancelled by processes that do not run it", reached)
