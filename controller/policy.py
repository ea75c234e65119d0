"""The policy of the network: what no intent may weaken.

What can be made stricter is: `effective` gives an intent the stricter of both, of challenges and
of rotation. What cannot (a module that is not allowed, say) is refused with the policy's sentence.
That modules are signed is not a setting: agents load no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from controller.durations import Duration, written
from controller.intent import Intent, Label, Reaction, Rotation, Security
from wire.manifest import Identifier, Manifest
from wire.match import Prefix
from wire.messages import HostName, ModuleName

_LABEL: TypeAdapter[str] = TypeAdapter(Label)
_HOST: TypeAdapter[str] = TypeAdapter(HostName)
_PREFIX: TypeAdapter[Prefix] = TypeAdapter(Prefix)


def _checked_place(text: str) -> str:
    kind = _LABEL if "=" in text else _PREFIX if "/" in text else _HOST
    try:
        kind.validate_python(text)
    except ValidationError as error:
        raise ValueError(
            f"{text!r} is no host (h1), no label (site=B) and no prefix (10.0.0.0/8)"
        ) from error
    return text


Place = Annotated[str, AfterValidator(_checked_place)]
"""Hosts, as the command line takes them: a name, a label `site=B`, or a prefix `10.0.0.0/8`."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModuleRules(_Part):
    """Which modules intents may use."""

    allowed: Annotated[tuple[ModuleName, ...], Field(max_length=256)] | None = None
    """None: all."""
    lossy: bool = True
    """Whether also those that do not restore every byte."""


class EndpointRules(_Part):
    """Which hosts intents may put customizations on."""

    allow: Annotated[tuple[Place, ...], Field(max_length=256)] | None = None
    """None: all."""
    deny: Annotated[tuple[Place, ...], Field(max_length=256)] = ()
    """Also of those that are allowed."""


class Bounds(_Part):
    """Bounds of a parameter, within those of the manifest."""

    min: Annotated[int, Field(ge=0)] | None = None
    max: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Bounds:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"no value is at least {self.min} and at most {self.max}")
        return self


class RotationRules(_Part):
    """How often deployments are replaced, at least."""

    every: Duration | None = None
    keys: bool = False
    cut_off: bool = False


class Policy(_Part):
    """See the module's text; what is left out asks for nothing."""

    modules: ModuleRules = ModuleRules()
    endpoints: EndpointRules = EndpointRules()
    parameters: Annotated[
        dict[ModuleName, Annotated[dict[Identifier, Bounds], Field(max_length=64)]],
        Field(max_length=256),
    ] = {}
    security: Security = Security()
    """Challenges at least so often, and at least this reaction."""
    rotation: RotationRules = RotationRules()


def effective(policy: Policy, intent: Intent) -> Intent:
    """Return `intent` as it is carried out: of the policy's wishes and its own, the stricter."""
    security = Security(
        challenge_every=_sooner(policy.security.challenge_every, intent.security.challenge_every),
        on_failure=_harder(policy.security.on_failure, intent.security.on_failure),
    )
    rules, asked = policy.rotation, intent.rotation
    every = _sooner(rules.every, asked.every)
    rotation = Rotation(
        every=every,
        modules=asked.modules,
        parameters=asked.parameters,
        keys=rules.keys or asked.keys or (every is not None and not asked.modules),
        cut_off=rules.cut_off or asked.cut_off,
    )
    return intent.model_copy(update={"security": security, "rotation": rotation})


def breaches(policy: Policy, intent: Intent, manifests: Mapping[str, Manifest]) -> list[str]:
    """Return the sentences of the policy that `intent` contradicts.

    `manifests` has those of all its modules. Who may be an endpoint is another question, of each
    host: `endpoint_breach`.
    """
    found = []
    values = {intent.module: intent.parameters, **intent.rotation.parameters}
    for name in (intent.module, *intent.rotation.modules):
        if policy.modules.allowed is not None and name not in policy.modules.allowed:
            allowed = ", ".join(policy.modules.allowed) or "none"
            found.append(f"the network's policy allows the modules {allowed}: not {name}")
        if manifests[name].lossy and not policy.modules.lossy:
            found.append(
                f"the network's policy allows no module that loses bytes: {name} does (`lossy`)"
            )
        found += _out_of_bounds(policy, manifests[name], values.get(name, {}))
    return found


def endpoint_breach(
    rules: EndpointRules, host: str, labels: Iterable[str], addresses: Iterable[str]
) -> str | None:
    """Return the sentence of the policy that keeps intents off a host, or None."""
    labels, addresses = frozenset(labels), tuple(addresses)
    for place in rules.deny:
        if _is_in(place, host, labels, addresses):
            return f"the network's policy keeps intents off {place}"
    if rules.allow is None or any(_is_in(p, host, labels, addresses) for p in rules.allow):
        return None
    return f"the network's policy allows intents on {', '.join(rules.allow) or 'no host'} only"


def strengthened(intent: Intent, carried_out: Intent) -> list[str]:
    """Return in words what makes an intent that is carried out stricter than it was asked for."""
    before, after = _demands(intent), _demands(carried_out)
    return [
        f"{what}: {after[what]} instead of {before[what]}"
        for what in after
        if after[what] != before[what]
    ]


def _demands(intent: Intent) -> dict[str, str]:
    challenge, rotation = intent.security.challenge_every, intent.rotation
    return {
        "challenged": f"every {written(challenge)}" if challenge else "never",
        "on failure": intent.security.on_failure,
        "rotated": f"every {written(rotation.every)}" if rotation.every else "by hand",
        "new keys at rotation": "yes" if rotation.keys else "no",
        "unreachable hosts at rotation": "cut off" if rotation.cut_off else "waited for",
    }


def _out_of_bounds(policy: Policy, manifest: Manifest, values: Mapping[str, int]) -> list[str]:
    found = []
    bounds = policy.parameters.get(manifest.name, {})
    for parameter in manifest.parameters:
        bound = bounds.get(parameter.name)
        if bound is None:
            continue
        value = values.get(parameter.name, parameter.default)
        low = parameter.min if bound.min is None else bound.min
        high = parameter.upper if bound.max is None else bound.max
        if not low <= value <= high:
            allowed = f"{low}..{high} {parameter.unit}".rstrip()
            found.append(
                f"the network's policy allows {parameter.name} = {allowed} for {manifest.name}: "
                f"not {value}"
            )
    return found


def _is_in(place: str, host: str, labels: frozenset[str], addresses: tuple[str, ...]) -> bool:
    if "/" in place and "=" not in place:
        prefix = _PREFIX.validate_python(place)
        return any(ip_address(address) in prefix for address in addresses)
    return place in labels if "=" in place else place == host


def _sooner(one: float | None, other: float | None) -> float | None:
    return min((span for span in (one, other) if span is not None), default=None)


def _harder(one: Reaction, other: Reaction) -> Reaction:
    return "quarantine" if "quarantine" in (one, other) else "revoke"
