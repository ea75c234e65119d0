"""REST routes of the certification authority and its replacement."""

from __future__ import annotations

from fastapi import APIRouter

from controller.api_ca import AuthorityView, CaChange, CaHostView, CaView
from controller.authorities import Phase, Stage
from controller.ca_rotation import CaRotation, Missing
from controller.identities import Identities


def ca_routes(rotation: CaRotation, identities: Identities) -> APIRouter:
    """Return the routes; `controller.access` has who may use them."""
    routes = APIRouter()

    @routes.get("/ca")
    async def show() -> CaView:
        return _view(rotation, identities)

    @routes.post("/ca")
    async def change(asked: CaChange) -> CaView:
        left_behind: list[Missing] = []
        seen = Stage(Phase(asked.phase), asked.goes_back) if asked.phase else None
        if asked.step == "begin":
            await rotation.begin()
        elif asked.step == "finish":
            left_behind = await rotation.finish(seen)
        else:
            await rotation.abort(seen)
        view = _view(rotation, identities)
        return view.model_copy(update={"left_behind": _hosts(left_behind)})

    return routes


def _view(rotation: CaRotation, identities: Identities) -> CaView:
    now = rotation.authorities
    return CaView(
        authorities=[
            AuthorityView(
                name=one.name,
                fingerprint=one.id,
                expires=one.certificate.not_valid_after_utc.timestamp(),
                issues=one is now.signing,
            )
            for one in now.trusted
        ],
        phase=now.rotation.phase.value if now.rotation else None,
        goes_back=now.rotation is not None and now.rotation.goes_back,
        hosts=sum(1 for _ in identities.hosts()),
        missing=_hosts(rotation.missing()),
        pem=now.bundle.decode("ascii"),
    )


def _hosts(missing: list[Missing]) -> list[CaHostView]:
    return [CaHostView.model_validate(one, from_attributes=True) for one in missing]
