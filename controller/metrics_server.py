"""The metrics on an address of their own, for a Prometheus server."""

from __future__ import annotations

import asyncio
import logging
import socket

from prometheus_client import CollectorRegistry, make_asgi_app

from controller.config import ConfigError, split_endpoint
from controller.rest import RestServer

log = logging.getLogger(__name__)


async def serve_metrics(registry: CollectorRegistry, endpoint: str | None) -> None:
    """Answer every request with the metrics, until cancelled; nowhere without an endpoint.

    Raises ConfigError where it cannot listen.
    """
    if endpoint is None:
        await asyncio.Event().wait()
        return
    try:
        listener = socket.create_server(split_endpoint(endpoint))
    except OSError as error:
        raise ConfigError(f"metrics: cannot listen on {endpoint}: {error.strerror}") from error
    with listener:
        log.info("metrics on http://%s:%s/metrics", *listener.getsockname())
        await RestServer(make_asgi_app(registry)).run_on(listener)
