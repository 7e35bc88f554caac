"""Running a student's code with limits of time and memory, in a forked child or in place."""

import contextlib
import io
import json
import linecache
import os
import random
import select
import signal
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

BYTES = 4 * 2**30  # beyond what the process has when it begins


class Ended(NamedTuple):
    """Why a piece of work did not come to its end."""
    kind: str            # name of the exception
    text: str
    line: int = 0        # of the file that was asked about, 0 if not known
    fatal: bool = False  # the child did not come back, or would not have


class TimeLimit(BaseException):
    """Not an Exception: a student's `except Exception` does not swallow it."""


def in_child(work, seconds, filename):
    """Run `work()` in a forked child: (None or why it Ended, seconds used). Nothing it does reaches this process."""
    start = time.monotonic()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            os.setpgid(0, 0)
            torch.set_num_threads(1)
            with memory(), quiet():
                ended = attempt(work, filename)
            os.write(writer, json.dumps(ended).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writer)
    answer, late = b"", False
    while not late:
        late = not select.select([reader], [], [], max(0, start + seconds - time.monotonic()))[0]
        part = b"" if late else os.read(reader, 65536)
        if not part:
            break
        answer += part
    os.close(reader)
    for end in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            end(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    used = time.monotonic() - start
    if late:
        return Ended("TimeLimit", f"not done after {seconds:.0f} s", fatal=True), used
    try:
        ended = json.loads(answer)
    except ValueError:
        how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit status {os.WEXITSTATUS(status)}"
        return Ended("ProcessEnded", f"it ended the whole process ({how}): os._exit, or memory?", fatal=True), used
    return ended and Ended(*ended), used


def in_here(work, seconds, filename):
    """Like `in_child`, in this very process: for a student at work. A limit of time only, and where there are no alarms none."""
    start = time.monotonic()

    def ring(*_):
        raise TimeLimit(f"not done after {seconds:.0f} s")

    alarm = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if alarm:
        before = signal.signal(signal.SIGALRM, ring)
        others = signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
    try:
        with fresh():
            ended = attempt(work, filename)
    except TimeLimit as error:  # rang while the last was being described
        ended = Ended("TimeLimit", str(error))
    finally:
        if alarm:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            signal.setitimer(signal.ITIMER_REAL, *others)
    return ended, time.monotonic() - start


def attempt(work, filename):
    """None, or how `work()` ended: the exception, the last line of `filename` on its way, and where in the student's code it was."""
    try:
        with fresh():
            work()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        line, where, tb = 0, "", error.__traceback__
        while tb:
            code = tb.tb_frame.f_code
            if code.co_filename == filename:
                line, where = tb.tb_lineno, ""
            elif tb.tb_frame.f_globals.get("__name__") == "__main__":
                text = linecache.getline(code.co_filename, tb.tb_lineno).strip()
                where = f" (in {code.co_name}, its line {tb.tb_lineno - code.co_firstlineno + 1}{': ' * bool(text)}{text})"
            tb = tb.tb_next
        fatal = isinstance(error, MemoryError) or "memory" in str(error) and "alloc" in str(error)
        text = "exit() was called" if isinstance(error, SystemExit) else str(error)[:2000]
        return Ended(type(error).__name__, text + where, line, fatal)


@contextlib.contextmanager
def fresh():
    """Random numbers, dtype and grad mode as in a new process; afterwards as they were."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate(), torch.get_default_dtype(), torch.is_grad_enabled()
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    torch.set_default_dtype(torch.float32), torch.set_grad_enabled(True)
    try:
        yield
    finally:
        torch.set_rng_state(states[0]), np.random.set_state(states[1]), random.setstate(states[2])
        torch.set_default_dtype(states[3]), torch.set_grad_enabled(states[4])


@contextlib.contextmanager
def memory():
    """At most BYTES more of data than now, where the system can limit that."""
    try:
        import resource
        now = int(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData")).split()[1]) * 1024
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = now + BYTES if hard == resource.RLIM_INFINITY else min(now + BYTES, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    except (ImportError, OSError, StopIteration):
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@contextlib.contextmanager
def quiet():
    """Nothing printed, nothing displayed: a forked child must not talk on its parent's sockets."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        with contextlib.suppress(ImportError):
            from IPython.utils.capture import capture_output
            stack.enter_context(capture_output())
        yield
