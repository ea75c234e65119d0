"""The NCO service: `python -m controller.service --state DIR [--grace S]`.

One asyncio loop runs all of it: the control channel, the link to the Ryu application, the REST
API, and the orchestrator between them. It keeps nothing that a `kill -9` could lose.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path

import uvloop
from fastapi import FastAPI

from controller.artifacts import ArtifactStore
from controller.build import Builder
from controller.build_farm import BuildFarm
from controller.ca import load_signer
from controller.challenge_source import ChallengeSource
from controller.cib import Cib, read_all
from controller.config import (
    KERNEL_TAP,
    ConfigError,
    NcoConfig,
    StateFolder,
    find_state,
    split_endpoint,
)
from controller.control import ControlLimits, ControlServer
from controller.database import Database
from controller.errors import Unavailable
from controller.history import History
from controller.metrics_server import serve_metrics
from controller.modules import ModuleLibrary
from controller.monitoring import Monitoring
from controller.orchestrator import Orchestrator
from controller.planning_rest import enforce, planning_router
from controller.policy_store import PolicyStore
from controller.rest import make_app, serve_by_tls, serve_locally
from controller.rest_labels import label_routes
from controller.runner import Runner
from controller.switch_server import SwitchServer
from controller.trust import Trust
from wire.identity import IdentityError

log = logging.getLogger(__name__)

DEFAULT_GRACE = 30.0


@contextlib.contextmanager
def only_instance(state: StateFolder) -> Iterator[None]:
    """Hold the state folder's lock; raises ConfigError where another service has it."""
    state.run.mkdir(mode=0o700, exist_ok=True)
    state.run.chmod(0o700)
    with state.lock.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read(20).strip() or "unknown"
            raise ConfigError(
                f"{state.path} is served already, by the process {holder}: stop that one first, "
                "or use another state folder"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


async def serve(state: StateFolder, config: NcoConfig, grace: float) -> None:
    """Run until a signal asks to end, or no application has been connected for `grace` seconds.

    Raises ConfigError, IdentityError and OSError where it cannot begin.
    """
    signer = load_signer(state)
    with contextlib.closing(Database(state.database_url(config))) as database:
        cib = Cib(await database.read(read_all))
        artifacts = ArtifactStore(cib, database, state.artifacts, signer)
        builder = Builder(config.modules, KERNEL_TAP, config.build_timeout)
        farm = BuildFarm(builder, artifacts)
        runner = Runner(farm, database)
        policies = await PolicyStore.load(database)
        orchestrator = Orchestrator(
            cib,
            ModuleLibrary(config.modules),
            artifacts,
            History(time.time),
            control=split_endpoint(config.control),
            linger=config.linger,
            clock=time.monotonic,
            changed=runner.wake,
            lacking=builder.lacking,
            policy=lambda: policies.policy,
        )
        enforce(orchestrator, policies)
        switches = SwitchServer(orchestrator.steering)
        monitoring = await Monitoring.begin(
            database, orchestrator, switches, farm, config.retention
        )

        def cut(host: str, reason: str) -> bool:
            return control.cut(host, reason)  # which needs `trust` first

        source = ChallengeSource(
            orchestrator, lambda: policies.policy, config.challenge_every or None
        )
        trust = Trust(state, config, database, artifacts=artifacts, source=source, cut=cut)
        control = ControlServer(
            monitoring.agents,
            trust,
            lambda: trust.control_context,
            ControlLimits(heartbeat=config.heartbeat),
        )
        await trust.start()
        address, port = control.start(*split_endpoint(config.listen))
        listen = f"{address}:{port}"
        app = make_app(orchestrator, switches, trust, config.control, listen)
        app.include_router(planning_router(orchestrator, policies, farm))
        app.include_router(label_routes(orchestrator))
        app.include_router(monitoring.router())
        trust.audit.observers.append(monitoring.monitor.audited)
        trust.challenges.observers.append(monitoring.challenged)
        trust.rotation.observers.append(monitoring.monitor.authorities_watched)
        runner.observers.append(monitoring.metrics.settled)
        log.info("ready pid=%d state=%s listen=%s grace=%g", os.getpid(), state.path, listen, grace)
        await until_first_ends(
            runner.run(orchestrator, settled=switches.push),
            control.run(),
            database.lost(),
            switches.run(state.switches_socket),
            serve_locally(app, state.rest_socket),
            trust.run(),
            *_for_tokens(app, trust),
            monitoring.run(),
            serve_metrics(monitoring.metrics.registry, config.metrics),
            _asked_to_end(),
            _deserted(switches, grace),
        )


def _for_tokens(app: FastAPI, trust: Trust) -> list[Coroutine[None, None, None]]:
    """Return what serves callers by TLS, if the settings want it."""
    if trust.rest_listener is None:
        return []
    return [
        serve_by_tls(
            app, trust.rest_listener, trust.open_context, trust.authenticate(), trust.refused
        )
    ]


async def until_first_ends(*jobs: Coroutine[None, None, None]) -> None:
    """Run all jobs; when one ends, end the others, and raise what any of them raised."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _asked_to_end() -> None:
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    await asked.wait()
    log.info("ending: asked to by a signal")


async def _deserted(switches: SwitchServer, grace: float) -> None:
    await switches.deserted(grace)
    log.warning("ending: no Ryu application was connected for %g s (--grace)", grace)


def _allow_many_connections() -> None:
    """Take as many open files as we may: each agent has one, and the usual limit is for 1,000."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _collect_seldom() -> None:
    """Look for cycles among new objects when there are 100,000 of them, not 700.

    So most of what is made for a push is gone before it is looked at: else a tenth of a rotation's
    CPU went into that. All that is known of ten thousand agents, where a look takes a second in
    which nobody is served, is looked at when there are ten million more objects.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)


def main() -> int:
    """Run as a program; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m controller.service", description=__doc__)
    parser.add_argument(
        "--state", type=Path, help="state folder (default: L45_STATE, /var/lib/l45)"
    )
    parser.add_argument(
        "--grace",
        type=float,
        default=DEFAULT_GRACE,
        help="leave when no Ryu application was connected for so many seconds; 0: never",
    )
    parser.add_argument(
        "--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR")
    )
    arguments = parser.parse_args()
    logging.basicConfig(
        level=arguments.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    os.umask(0o077)
    _allow_many_connections()
    _collect_seldom()
    state = find_state(arguments.state)
    try:
        config = state.load_config()
        with only_instance(state):
            # asyncio's own loop keeps 290 KB for an idle TLS connection, uvloop 37.
            uvloop.run(serve(state, config, arguments.grace))
    except (ConfigError, IdentityError) as error:
        log.error("the service cannot run: %s", error)
        return os.EX_CONFIG  # somebody has to mend it: starting again would not help
    except (OSError, Unavailable) as error:
        log.error("the service cannot run: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
