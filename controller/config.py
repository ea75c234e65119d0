"""Settings of the NCO and the layout of its state folder."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from wire.identity import CONTROL_PORT, Credentials
from wire.manifest import explain

KERNEL_TAP = Path(__file__).resolve().parent.parent / "kernel_tap"
"""The module SDK of this installation."""

DEFAULT_STATE = Path("/var/lib/l45")


class ConfigError(ValueError):
    """The state folder or its settings cannot be used; the text says what to do."""


def split_endpoint(text: str, default_port: int | None = None) -> tuple[str, int]:
    """Return address and port of `ADDRESS:PORT`; the port may be left out where there is a default.

    Raises ValueError where it is neither. Port 0 is allowed: a listener then takes a free one.
    """
    address, colon, port = text.partition(":")
    if not colon and default_port is not None:
        port = str(default_port)
    try:
        if not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"{port!r} is not a port")
        return str(IPv4Address(address)), int(port)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is not ADDRESS:PORT, like 10.10.0.5:{CONTROL_PORT} ({error})"
        ) from error


def _checked_endpoint(text: str) -> str:
    split_endpoint(text)
    return text


EndpointText = Annotated[str, AfterValidator(_checked_endpoint)]


Days = Annotated[float, Field(gt=0, le=36500)]
RowCount = Annotated[int, Field(gt=0, le=10**9)]


class Retention(BaseModel):
    """What `[retention]` in `nco.toml` may say: days and rows, whichever is reached first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    events_days: Days = 30.0
    events_rows: RowCount = 200_000
    counters_days: Days = 7.0
    counters_rows: RowCount = 1_000_000
    counters_seconds: Annotated[float, Field(ge=1, le=86400)] = 60.0
    """Between two samples of a customization's counters."""
    flows_days: Days = 7.0
    flows_rows: RowCount = 200_000
    alerts_days: Days = 90.0
    """Of those that were cleared."""
    alerts_rows: RowCount = 10_000


class NcoConfig(BaseModel):
    """What `STATE/nco.toml` may say; a key that is not here is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    control: EndpointText
    """Address and port where agents reach the control channel; switches never steer it."""
    listen: EndpointText = f"0.0.0.0:{CONTROL_PORT}"
    heartbeat: Annotated[float, Field(ge=0.1, le=3600)] = 5.0
    """Seconds between heartbeats of an agent; after three without one it counts as away."""
    linger: Annotated[float, Field(ge=0, le=3600)] = 2.0
    """Seconds for which datagrams may still be on their way after the last sender stopped."""
    enrol: EndpointText | None = None
    """Where hosts enrol with a token; left out: the port after that of `listen`."""
    certificate_lifetime: Annotated[float, Field(ge=1, le=10 * 365 * 86400)] = 86400.0
    """Seconds for which a certificate is valid; renewed after two thirds of them."""
    certificate_grace: Annotated[float, Field(ge=0, le=10 * 365 * 86400)] = 7 * 86400.0
    """Seconds for which a host whose certificate has expired is still let in, to renew it."""
    rest: EndpointText | None = None
    """Where REST callers with tokens are served, by TLS; left out: nowhere but on the socket."""
    audit_keep: Annotated[int, Field(ge=1000, le=10**9)] = 1_000_000
    """Entries of the audit log that are kept."""
    challenge_every: Annotated[float, Field(ge=0, le=86400)] = 0.0
    """Seconds between two challenges of a customization, where no policy says less; 0: none."""
    challenge_window: Annotated[float, Field(ge=0.5, le=3600)] = 10.0
    """Seconds that a host has to answer a challenge."""
    ca_passphrase_file: Path | None = None
    """Has the passphrase of `ca.key`, where it is encrypted."""
    modules: Path = KERNEL_TAP / "modules"
    build_timeout: Annotated[float, Field(gt=0, le=3600)] = 300.0
    """Seconds a compiler may take for one module."""
    database: str | None = None
    """URL of a PostgreSQL database; a file in the state folder where it is left out."""
    metrics: EndpointText | None = None
    """Address and port where Prometheus finds the metrics, for everybody who reaches it."""
    retention: Retention = Retention()

    @property
    def enrol_endpoint(self) -> tuple[str, int]:
        """Where to listen for hosts that enrol."""
        if self.enrol is not None:
            return split_endpoint(self.enrol)
        address, port = split_endpoint(self.listen)
        return address, port + 1 if 0 < port < 65535 else 0


@dataclass(frozen=True)
class StateFolder:
    """Where everything is that the NCO keeps."""

    path: Path

    @property
    def config(self) -> Path:
        """Settings, `NcoConfig` as TOML."""
        return self.path / "nco.toml"

    @property
    def ca_key(self) -> Path:
        """Private key of the certification authority, mode 0600."""
        return self.path / "ca.key"

    @property
    def ca_rotation(self) -> Path:
        """While the authority is replaced: both, with their keys, mode 0600."""
        return self.path / "ca.rotation"

    @property
    def hosts_added(self) -> Path:
        """Certificates that `nco host add` has issued, by host."""
        return self.path / "hosts-added"

    @property
    def signer_key(self) -> Path:
        """Private Ed25519 key that artifacts are signed with, mode 0600."""
        return self.path / "signer.key"

    @property
    def credentials(self) -> Credentials:
        """What the service shows to agents."""
        return Credentials(self.path / "credentials")

    @property
    def database(self) -> Path:
        """The customization information base."""
        return self.path / "nco.db"

    def database_url(self, config: NcoConfig) -> str:
        """Return where the customization information base is."""
        return config.database or f"sqlite:///{self.database}"

    @property
    def artifacts(self) -> Path:
        """Compiled modules, named by digest."""
        return self.path / "artifacts"

    @property
    def run(self) -> Path:
        """Sockets and the lock of the running service, mode 0700."""
        return self.path / "run"

    @property
    def rest_socket(self) -> Path:
        """Where the service's REST API listens."""
        return self.run / "rest.sock"

    @property
    def switches_socket(self) -> Path:
        """Where the Ryu application connects."""
        return self.run / "switches.sock"

    @property
    def lock(self) -> Path:
        """Locked by the service that serves this folder; holds its process id."""
        return self.run / "nco.lock"

    def load_config(self) -> NcoConfig:
        """Read the settings; raises ConfigError."""
        try:
            return NcoConfig.model_validate(tomllib.loads(self.config.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise ConfigError(
                f"{self.config} does not exist: make the state folder with "
                f"`nco init --state {self.path} --address ADDRESS`"
            ) from error
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{self.config}: {error}") from error
        except ValidationError as error:
            raise ConfigError(f"{self.config}: {explain(error)}") from error


def find_state(option: Path | None) -> StateFolder:
    """Return the state folder: the option, else `L45_STATE`, else the default."""
    from_environment = os.environ.get("L45_STATE")
    return StateFolder(option or (Path(from_environment) if from_environment else DEFAULT_STATE))
