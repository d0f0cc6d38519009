"""Has Millpond imported and forks a process for each order: starting Python anew would take most of the time.

    python -m tests.torture.workers.crash DESCRIPTOR

The descriptor is a socket. `run ORDERS`, with the pipe that the process writes to, is answered by its pid,
`wait PID` by how it ended (as `subprocess` says it). At the end of the socket all that is left is killed.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import json
import os
import signal
import socket
import sys
import traceback
from typing import NoReturn

from tests.torture.crash.plan import Orders
from tests.torture.workers import crash_check, crash_load, crash_rollback
from tests.torture.workers.crash_log import Said

JOBS = {"load": crash_load.run, "rollback": crash_rollback.run, "check": crash_check.run}
PR_SET_PDEATHSIG = 1


def main() -> None:
    master = socket.socket(fileno=int(sys.argv[1]))
    libc = ctypes.CDLL(None)
    gc.freeze()
    while True:
        message, descriptors, _, _ = socket.recv_fds(master, 65_536, 1)
        if not message:
            return
        what, _, argument = message.decode().partition(" ")
        if what == "run":
            pid = os.fork()
            if not pid:
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                master.close()
                _child(Orders(**json.loads(argument)), Said(descriptors[0]))
            os.close(descriptors[0])
            answer = pid
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(int(argument), 0)[1])
        master.send(str(answer).encode())


def _child(orders: Orders, said: Said) -> NoReturn:
    code = 1
    faulthandler.register(signal.SIGUSR1)  # asked where it hangs, all of its threads say so on stderr
    try:
        JOBS[orders.job](orders, said)
        code = 0
    except BaseException as exc:
        said("e", f"{orders.job}: {type(exc).__name__}: {exc}", *getattr(exc, "__notes__", ()))
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
