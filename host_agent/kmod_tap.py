"""The kernel tap's driver: the `Tap` of the agent over l45.ko's netlink family."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyroute2.netlink.exceptions import NetlinkError

from host_agent import kernel_modules
from host_agent.kernel_modules import ModuleError
from host_agent.kmod_abi import VERSION
from host_agent.kmod_code import UNKNOWN, CodeFolder
from host_agent.kmod_netlink import L45, Answer
from host_agent.kmod_records import Code, InForce
from host_agent.privileges import RUN, locked, needs_root
from host_agent.tap import Proof, TapError, TapStatus
from wire.artifact import Artifact
from wire.messages import Customization, Flow, Status, Target

logger = logging.getLogger(__name__)

CORE = "l45"
BUILT = Path(__file__).parents[1] / "build" / "kmod"
"""Where `make -C kernel_tap/kmod` puts what it builds, a folder for each kernel release."""

DRAIN = 300.0
"""Seconds until streams of what was taken away are reset that their peer has not ended.

An application that reads slowly keeps the end from coming; a rotation must not cost its connection.
"""
STOP_DRAIN = 30.0
"""The same where all is taken away by hand: the peers are not told, and until then the kernel does
not take the same set again.
"""
UNLOAD_DRAIN = 3.0
"""Seconds that streams get to end when the tap is unloaded."""


def unavailable(core: Path | None = None) -> str | None:
    """Return why this process cannot use the kernel tap on this kernel, or None.

    `core` is the l45.ko to load, where it is not the one that is installed.
    """
    if reason := needs_root() or kernel_modules.refusal():
        return reason
    if installed() or _file(core) or kernel_modules.is_installed(CORE):
        return None
    release = os.uname().release
    return (
        f"l45.ko is not there for kernel {release}: install it with DKMS (docs/kernel-tap.md), or "
        f"`make -C kernel_tap/kmod KERNEL={release}`, with that kernel's headers"
    )


def _file(core: Path | None) -> Path | None:
    """Return the l45.ko to load from a file, if there is one."""
    if core is not None:
        return core
    built = BUILT / os.uname().release / "kmod" / f"{CORE}.ko"
    return built if built.exists() else None


def installed() -> bool:
    """Whether l45.ko is in this kernel."""
    try:
        with L45():
            return True
    except (NetlinkError, OSError):
        return False


def install(run: Path = RUN, core: Path | None = None) -> None:
    """Load l45.ko; loaded already, nothing changes. Raises TapError."""
    with locked(run), _tap_errors():
        _install_locked(core)


def _install_locked(core: Path | None) -> None:
    if reason := unavailable(core):
        raise TapError(reason)
    if not installed():
        _load_core(core)
        logger.info("tap_installed tap=kmod")
    with L45() as l45:
        if (version := l45.info().version) != VERSION:
            raise TapError(
                f"the l45.ko that is loaded speaks version {version}, this agent {VERSION}: "
                "`dca tap unload`, then `dca tap load`"
            )


def _load_core(core: Path | None) -> None:
    """Load the installed one, unless another is named; one that was built here is the last."""
    if core is None and kernel_modules.is_installed(CORE):
        kernel_modules.load_installed(CORE)
    elif file := _file(core):
        kernel_modules.load(file.read_bytes())


def uninstall(run: Path = RUN) -> None:
    """Take l45.ko out of the kernel, with the code of modules and this namespace's customizations.

    Raises TapError where another namespace has customizations still: only who is in it can take
    them away.
    """
    with locked(run), _tap_errors():
        if not installed():
            return
        with L45() as l45:
            l45.apply([], drain_ms=int(1000 * UNLOAD_DRAIN))
            until = time.monotonic() + UNLOAD_DRAIN + 1
            while busy := _unload_code(run, l45):
                if time.monotonic() > until:
                    raise TapError(
                        f"customizations of other network namespaces use {', '.join(busy)}, or "
                        "streams that do not end: `dca reset` there first, or wait"
                    )
                time.sleep(0.1)
        if not kernel_modules.unload(CORE):
            raise TapError("l45.ko is in use: somebody loads a module or talks to it; try again")
    logger.info("tap_uninstalled tap=kmod")


def sweep(run: Path = RUN) -> None:
    """Unload what agents with this run folder have loaded, and no namespace uses any more."""
    with locked(run), _tap_errors():
        if installed():
            with L45() as l45:
                CodeFolder(run).sweep(l45.code())


def _unload_code(run: Path, l45: L45) -> list[str]:
    """Unload all code that can be; return what is left."""
    CodeFolder(run).sweep(l45.code())
    return [code.name for code in l45.code() if not kernel_modules.unload(code.name)]


def status() -> TapStatus:
    """Return what l45.ko holds; customizations are counted over all namespaces."""
    if not installed():
        return TapStatus(installed=False)
    with _tap_errors(), L45() as l45:
        code = l45.code()
    modules = tuple(sorted(one.module for one in code))
    return TapStatus(True, None, sum(one.users for one in code), modules)


@contextmanager
def _tap_errors() -> Iterator[None]:
    """Turn what the kernel and its tools say into TapError."""
    try:
        yield
    except NetlinkError as error:
        raise TapError(f"kmod tap: {_explained(error)}") from error
    except (ModuleError, OSError) as error:
        raise TapError(f"kmod tap: {error}") from error


def _explained(error: NetlinkError) -> str:
    words = str(error.args[1])
    if error.code == errno.EPERM:
        return f"{words}: CAP_NET_ADMIN is missing in this network namespace"
    return words


class KmodTap:
    """Customizations of the network namespace that the calling thread is in."""

    name = "kmod"
    target: Target = "kmod"

    def __init__(self, run: Path = RUN, core: Path | None = None) -> None:
        self._run = run
        self._core = core
        self._folder = CodeFolder(run)

    def start(self) -> None:
        """Load l45.ko if need be and possible; what runs already goes on."""
        with locked(self._run), _tap_errors():
            _install_locked(self._core)
        logger.info("tap_started tap=kmod")

    def has_artifact(self, digest: str) -> bool:
        """Whether the kernel module with this code is loaded."""
        with locked(self._run), _tap_errors(), L45() as l45:
            return self._folder.name(digest, l45.code()) is not None

    def load_artifact(self, artifact: Artifact) -> None:
        """Load a module's code, and keep it loaded until a set was applied; runs nothing."""
        if artifact.target != self.target:
            raise TapError(f"artifact {artifact.name} is for {artifact.target!r}, not for kmod")
        release = os.uname().release
        if artifact.kernel != release:
            raise TapError(
                f"artifact {artifact.name} is for kernel {artifact.kernel}, this host runs "
                f"{release}: the NCO has it compiled for this one when the agent connects"
            )
        with locked(self._run), _tap_errors():
            _install_locked(self._core)  # somebody may have unloaded it, to have a newer one
            with L45() as l45:
                self._folder.load(artifact, l45.code())

    def apply(self, customizations: Sequence[Customization]) -> None:
        """Make these the namespace's set, and unload what no namespace uses."""
        self._apply(customizations, DRAIN)

    def _apply(self, customizations: Sequence[Customization], drain: float) -> None:
        with locked(self._run), _tap_errors(), L45() as l45:
            code = l45.code()
            named = [(one, self._name_of(one, code)) for one in customizations]
            generation = l45.apply(named, drain_ms=int(1000 * drain))
            self._folder.release()
            freed = self._folder.sweep(l45.code())
        logger.info(
            "tap_applied tap=kmod set=%d customizations=%d freed=%d",
            *(generation, len(customizations), len(freed)),
        )

    def _name_of(self, one: Customization, loaded: Sequence[Code]) -> str:
        name = self._folder.name(one.digest, loaded)
        if name is None:
            raise TapError(f"customization {one.id}: artifact {one.digest} is not loaded")
        return name

    def customizations(self) -> list[Status]:
        """Return what is in force in this namespace; what is only drained is gone."""
        with locked(self._run), _tap_errors(), L45() as l45:
            said, digests = l45.customizations(), self._folder.digests()
            if digests:
                self._folder.sweep(l45.code())  # streams may have let go of some since the last set
        return [_status(one, digests.get(one.code, UNKNOWN)) for one in said if not one.is_draining]

    def flows(self) -> list[Flow]:
        """Return the namespace's sockets that have customizations."""
        with _tap_errors(), L45() as l45:
            return [record.message() for record in l45.flows()]

    def challenge(self, customization: str, nonce: bytes) -> Answer:
        """Let the kernel prove what runs under an id: `wire.challenge` checks its answer."""
        with _tap_errors(), L45() as l45:
            return l45.challenge(customization, nonce)

    def prove(self, customization: Customization, nonce: bytes) -> Proof:
        """Let the kernel answer a challenge."""
        said = self.challenge(customization.id, nonce)
        return Proof(said.answer, said.build_id, "kernel")

    def stop(self) -> None:
        """Take this namespace's customizations away; l45.ko stays."""
        with _tap_errors():
            if not installed():
                return
        self._apply([], STOP_DRAIN)
        logger.info("tap_stopped tap=kmod")


def _status(one: InForce, digest: str) -> Status:
    return Status(
        id=one.id,
        module=one.module,
        digest=digest,
        receive=one.is_receiving,
        send=one.is_sending,
        active=one.is_active,
        deprecated=one.is_deprecated,
        flows=one.flows,
        counters=one.counters,
    )
