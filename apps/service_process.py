"""The NCO service as a child process: started when nobody answers, restarted when it dies.

It runs in a session of its own: a crash of Ryu, or Ctrl-C on Ryu's terminal, does not reach it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sys

from eventlet.green import subprocess

from controller.config import StateFolder

log = logging.getLogger(__name__)

RESTART_SECONDS = 0.5
RESTART_SECONDS_MAX = 15.0

CANNOT_RUN = os.EX_CONFIG
"""Exit status of a service that finds its settings or its credentials unusable."""


class ServiceCannotRunError(Exception):
    """The service would fail again each time: it has said why, somebody has to mend it."""


class ServiceProcess:
    """The child, if there is one; never blocks."""

    def __init__(self, state: StateFolder) -> None:
        # -P: modules come from where we are installed, never from the operator's current folder.
        self._command = [
            sys.executable,
            "-P",
            "-m",
            "controller.service",
            "--state",
            str(state.path),
        ]
        self._lock = state.lock
        self._child: subprocess.Popen[bytes] | None = None
        self._delay = RESTART_SECONDS
        self._not_before = 0.0
        self._has_answered = False

    @property
    def running(self) -> bool:
        """Whether our child runs."""
        return self._child is not None and self._child.poll() is None

    def ensure(self, now: float) -> None:
        """Nobody answers on the socket: start the service, unless it is only just coming up.

        Raises ServiceCannotRunError where it left before it answered, with the status that says so.
        """
        if self.running:
            return
        if self._child:
            if self._child.returncode == CANNOT_RUN and not self._has_answered:
                raise ServiceCannotRunError("the service cannot run, and said why above")
            self._failed(f"ended with status {self._child.returncode}", now)
            self._child = None
        if now >= self._not_before:
            if self._held():
                self._failed("of before has not left yet, and does not answer", now)
            else:
                self._start(now)

    def answered(self) -> None:
        """Take note that it answers: the next failure is the first one again."""
        self._delay = RESTART_SECONDS
        self._has_answered = True

    def ask_to_end(self, peer: int | None) -> None:
        """Ask the service to end: the one we speak to (`peer`, its pid), else our child."""
        child = self._child.pid if self._child and self.running else None
        pid = peer or child
        if pid is None:
            return
        log.info("service asked to end pid=%d", pid)
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            log.info("service was gone already pid=%d", pid)

    def _held(self) -> bool:
        """Whether a service has the folder: a second one would find it unusable."""
        try:
            with self._lock.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _start(self, now: float) -> None:
        self._has_answered = False
        try:
            self._child = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, start_new_session=True
            )
            log.info("service started pid=%d", self._child.pid)
        except OSError as error:
            self._failed(f"cannot be started: {error}", now)

    def _failed(self, what: str, now: float) -> None:
        self._not_before = now + self._delay
        log.error("service %s; again in %.1f s", what, self._delay)
        self._delay = min(2 * self._delay, RESTART_SECONDS_MAX)
