"""Between rows of the CIB and the objects in memory: both ways, and nothing else."""

from __future__ import annotations

from controller.bulk import Row
from controller.cib_tables import CustomizationRow, DeploymentRow, HostRow, IntentRow
from controller.intent import Intent
from controller.model import Deployment, Host, IntentState, Kind
from controller.plan import Planned, Platform
from controller.switch_link import Mirror
from wire.match import Match


def host_values(host: Host) -> Row:
    """Return all of a host's row."""
    return {
        "name": host.name,
        "addresses": list(host.addresses),
        "kernel": host.kernel,
        "boot_id": host.boot_id,
        "tap": host.tap,
        "tap_error": host.tap_error,
        "targets": list(host.targets),
        "labels": list(host.labels),
        **number_values(host),
    }


def number_values(host: Host) -> Row:
    """Return what of a host's row changes with its desired state."""
    return {"name": host.name, "generation": host.generation, "desired": host.desired}


def host_of(row: HostRow) -> Host:
    """Return the host of a row."""
    return Host(
        name=row.name,
        addresses=tuple(row.addresses),
        kernel=row.kernel,
        boot_id=row.boot_id,
        tap=row.tap,
        tap_error=row.tap_error,
        targets=tuple(row.targets),
        labels=tuple(row.labels),
        generation=row.generation,
        desired=row.desired,
        stored=True,
    )


def intent_values(state: IntentState) -> Row:
    """Return an intent's row."""
    return {
        "name": state.name,
        "spec": state.intent.model_dump(mode="json"),
        "mirrors": [mirror.model_dump(mode="json") for mirror in state.mirrors],
        "priority": state.priority,
        "error": state.error,
        "revoked": state.revoked,
        "active": state.active,
        "deprecated": state.deprecated,
        "succession": state.succession,
        "rotated_at": state.rotated_at,
        "left_out": dict(state.left_out),
    }


def intent_of(row: IntentRow) -> IntentState:
    """Return the intent of a row, without its deployments."""
    return IntentState(
        name=row.name,
        intent=Intent.model_validate(row.spec),
        mirrors=[Mirror.model_validate(mirror) for mirror in row.mirrors],
        priority=row.priority,
        error=row.error,
        revoked=row.revoked,
        active=row.active,
        deprecated=row.deprecated,
        succession=row.succession,
        rotated_at=row.rotated_at,
        left_out=dict(row.left_out),
        stored=True,
    )


def deployment_values(deployment: Deployment) -> Row:
    """Return a deployment's row."""
    return {
        "uid": deployment.uid,
        "intent": deployment.intent,
        "number": deployment.number,
        "succession": deployment.succession,
        "kind": deployment.kind,
        "module": deployment.module,
        "parameters": dict(deployment.parameters),
        "phase": deployment.phase,
        "error": deployment.error,
        "proven": deployment.proven,
        "ends": deployment.ends,
    }


def deployment_of(row: DeploymentRow) -> Deployment:
    """Return the deployment of a row, without its customizations."""
    kind: Kind = row.kind  # type: ignore[assignment] # nothing else was written
    return Deployment(
        uid=row.uid,
        intent=row.intent,
        number=row.number,
        succession=row.succession,
        kind=kind,
        module=row.module,
        parameters=dict(row.parameters),
        phase=row.phase,
        error=row.error,
        proven=row.proven,
        ends=row.ends,
    )


def customization_values(deployment: str, position: int, planned: Planned) -> Row:
    """Return a customization's row."""
    return {
        "id": planned.id,
        "deployment": deployment,
        "position": position,
        "host": planned.host,
        "side": planned.side,
        "module": planned.module,
        "match": planned.match.model_dump(mode="json"),
        "parameters": planned.parameters,
        "receives": planned.receives,
        "sends": planned.sends,
        "epoch": planned.epoch,
        "token": planned.token,
        "key": planned.key,
        **changing_values(deployment, planned),
    }


def changing_values(deployment: str, planned: Planned) -> Row:
    """Return what of a customization's row may change."""
    return {
        "id": planned.id,
        "deployment": deployment,
        "target": planned.platform.target,
        "kernel": planned.platform.kernel,
        "priority": planned.priority,
        "digest": planned.digest,
    }


def planned_of(row: CustomizationRow, intent: str) -> Planned:
    """Return the customization of a row, as the planner made it."""
    return Planned(
        id=row.id,
        intent=intent,
        host=row.host,
        side=row.side,
        module=row.module,
        platform=Platform(row.target, row.kernel),
        match=Match.model_validate(row.match),
        priority=row.priority,
        parameters=row.parameters,
        receives=row.receives,
        sends=row.sends,
        epoch=row.epoch,
        token=row.token,
        key=row.key,
        digest=row.digest,
    )
