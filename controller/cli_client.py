"""The `nco` command's connection to the service: REST over the state folder's socket, or TLS."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from controller.api import HostView, IntentView, ModuleView, PlanView, PolicyChange, StatusView
from controller.config import StateFolder
from controller.intent import Intent
from controller.policy import Policy
from wire.identity import NCO_NAME
from wire.messages import HostName

T = TypeVar("T")

TIME_LIMIT = 10.0
"""Seconds that the service has for one answer."""

SILENCE_LIMIT = 60.0
"""Seconds for which nothing may come on a stream; the service says something more often."""


BY_NAME = {"sni_hostname": NCO_NAME}
"""By whatever address it is called, the certificate is to be the NCO's."""

WITHOUT_HOSTS = "?hosts=false"


class CommandError(Exception):
    """The command cannot do what was asked; the text says why and what to do."""


class Unreachable(CommandError):
    """Nobody answers on the service's socket, or only that it cannot do anything now."""


@dataclass(frozen=True)
class Server:
    """An NCO that is called by TLS, with a token, in place of the one of a state folder."""

    url: str
    token_file: Path
    ca: Path

    def client(self, time_limit: float) -> httpx.Client:
        """Return the connection; raises CommandError."""
        try:
            context = ssl.create_default_context(cafile=str(self.ca))
        except OSError as error:
            raise CommandError(f"--ca {self.ca}: {error.strerror or error}") from error
        try:
            token = self.token_file.read_text(encoding="ascii").strip()
        except OSError as error:
            raise CommandError(f"--token-file {self.token_file}: {error.strerror}") from error
        except ValueError as error:
            raise CommandError(f"--token-file {self.token_file} has no token in it") from error
        return httpx.Client(
            verify=context,
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=time_limit,
        )


_server: Server | None = None


def use_server(url: str | None, token_file: Path | None, ca: Path | None) -> None:
    """Have all commands call this server; raises CommandError where something is missing."""
    global _server  # noqa: PLW0603 - of one command's process
    if url is None:
        return
    if token_file is None or ca is None:
        raise CommandError(
            "--server needs --token-file FILE (`nco token create` at the NCO) and --ca FILE (its "
            "credentials/ca.pem)"
        )
    if urlsplit(url).scheme != "https":
        raise CommandError(
            f"--server {url!r}: write https://ADDRESS:PORT, like https://10.10.0.5:4547"
        )
    _server = Server(url, token_file, ca)


class NcoClient:
    """Typed calls of the REST API; all raise CommandError with the service's words."""

    def __init__(self, state: StateFolder, time_limit: float = TIME_LIMIT) -> None:
        """Give the service `time_limit` seconds for one answer."""
        self._state = state
        self._time_limit = time_limit
        self._http = _server.client(time_limit) if _server else local(state, time_limit)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def status(self) -> StatusView:
        """Return the state of the service."""
        return self.call("GET", "/status", StatusView)

    def hosts(self) -> list[HostView]:
        """Return all hosts."""
        return self.call("GET", "/hosts", list[HostView])

    def modules(self) -> list[ModuleView]:
        """Return all modules."""
        return self.call("GET", "/modules", list[ModuleView])

    def intents(self) -> list[IntentView]:
        """Return all intents."""
        return self.call("GET", "/intents", list[IntentView])

    def intent(self, name: str, *, hosts: bool = True) -> IntentView:
        """Return one intent, with or without its hosts: there may be very many."""
        path = intent_path(name) + ("" if hosts else WITHOUT_HOSTS)
        return self.call("GET", path, IntentView)

    def plan(self, intent: Intent) -> PlanView:
        """Return what applying would do."""
        return self.call("POST", "/intents/plan", PlanView, intent)

    def policy(self) -> Policy:
        """Return the policy of the network."""
        return self.call("GET", "/policy", Policy)

    def set_policy(self, policy: Policy, *, force: bool) -> PolicyChange:
        """Put a policy in force; `force` revokes what contradicts it."""
        return self.call("PUT", f"/policy?force={force}", PolicyChange, policy)

    def apply(self, intent: Intent) -> IntentView:
        """Begin to deploy."""
        return self.call("PUT", intent_path(intent.name) + WITHOUT_HOSTS, IntentView, intent)

    def revoke(self, name: str) -> IntentView:
        """Begin to take away."""
        return self.call("DELETE", intent_path(name) + WITHOUT_HOSTS, IntentView)

    def call(
        self, method: str, path: str, kind: type[T] | None, body: BaseModel | None = None
    ) -> T:
        """Make any request; a `kind` of None is for an answer without content."""
        json = body.model_dump(mode="json") if body else None
        try:
            answer = self._http.request(method, path, json=json, extensions=BY_NAME)
        except httpx.TimeoutException as error:
            limit = f"{self._time_limit:g} s"
            raise Unreachable(f"the service does not answer within {limit}") from error
        except httpx.TransportError as error:
            raise Unreachable(self._not_running(error)) from error
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            raise Unreachable(_detail(answer))
        if answer.is_error:
            raise CommandError(_detail(answer))
        if kind is None:
            return None  # type: ignore[return-value] # nobody asked for anything
        return TypeAdapter(kind).validate_json(answer.content)

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[Iterator[str]]:
        """Return the lines of an answer that may never end."""
        timeout = httpx.Timeout(TIME_LIMIT, read=SILENCE_LIMIT)
        try:
            with self._http.stream(
                "GET", path, headers=headers, timeout=timeout, extensions=BY_NAME
            ) as answer:
                if answer.is_error:
                    answer.read()
                    raise CommandError(_detail(answer))
                yield answer.iter_lines()
        except httpx.TransportError as error:
            raise Unreachable(self._not_running(error)) from error

    def _not_running(self, error: httpx.TransportError) -> str:
        if _server is not None:
            return f"no answer from {_server.url}: {error}"
        folder = self._state.path
        if not self._state.config.exists():
            return (
                f"{folder} is no state folder: make one with `nco init --state {folder} "
                "--address ADDRESS`, or name another by --state or L45_STATE"
            )
        return (
            f"nobody answers on {self._state.rest_socket} ({error}): the NCO service does not "
            f"run. It is started by `L45_STATE={folder} ryu-manager apps/nco.py`, or without "
            f"switches by `python -m controller.service --state {folder} --grace 0`"
        )


def local(state: StateFolder, time_limit: float = TIME_LIMIT) -> httpx.Client:
    """Return a connection to the service on this machine, who is known by the socket's folder."""
    # No TLS: httpx would load the authorities of the web all the same, in 20 ms of CPU.
    transport = httpx.HTTPTransport(uds=str(state.rest_socket), verify=False)
    return httpx.Client(transport=transport, base_url="http://nco", timeout=time_limit)


def host_path(name: str) -> str:
    """Return the path of a host; raises CommandError where it is no host's name."""
    try:
        return f"/hosts/{TypeAdapter(HostName).validate_python(name)}"
    except ValidationError as error:
        raise CommandError(f"{name!r} is no host's name: those are one DNS label") from error


@contextmanager
def connected(state: StateFolder, time_limit: float = TIME_LIMIT) -> Iterator[NcoClient]:
    """Return a client for the block; the service has `time_limit` seconds for one answer."""
    client = NcoClient(state, time_limit)
    try:
        yield client
    finally:
        client.close()


def intent_path(name: str) -> str:
    """Return the path of an intent; raises CommandError where it is no intent's name."""
    try:
        return f"/intents/{TypeAdapter(HostName).validate_python(name)}"
    except ValidationError as error:
        raise CommandError(f"{name!r} is no intent's name: those are one DNS label") from error


def _detail(answer: httpx.Response) -> str:
    try:
        body: Any = answer.json()
        return str(body["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the service answers {answer.status_code}: {answer.text[:500]}"
