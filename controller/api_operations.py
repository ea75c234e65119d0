"""What is said to the REST API of what is done to intents that are there."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from wire.messages import HostName, ModuleName


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Rotate(_Request):
    """By what an intent's module is replaced; what is left out stays as it is."""

    module: ModuleName | None = None
    parameters: Annotated[dict[str, StrictInt], Field(max_length=64)] = {}


class Priority(_Request):
    """A place in the order, lowest first."""

    priority: Annotated[int, Field(ge=0, le=65535)]


class Switch(_Request):
    """Whether it is so."""

    on: bool = True


class Admit(_Request):
    """A host that takes part again."""

    host: HostName
