"""What the operator calls hosts: labels, by which intents and the policy mean them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from controller.intent import Label

MAX_LABELS = 64
"""Of one host."""

LabelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]{0,62}$")]


class Labels(BaseModel):
    """A change of a host's labels; a name has one value at a time."""

    model_config = ConfigDict(extra="forbid")

    put: Annotated[tuple[Label, ...], Field(max_length=MAX_LABELS)] = ()
    drop: Annotated[tuple[LabelName, ...], Field(max_length=MAX_LABELS)] = ()
    """Names of labels that go."""

    @model_validator(mode="after")
    def _once(self) -> Labels:
        names = [*map(name_of, self.put), *self.drop]
        if len(set(names)) != len(names):
            raise ValueError("a label is named twice")
        return self


def name_of(label: str) -> str:
    """Return what stands before the `=`."""
    return label.partition("=")[0]


def outdated(there: set[str], change: Labels) -> set[str]:
    """Return which of the labels that are there a change takes away."""
    names = {*map(name_of, change.put), *change.drop}
    return {label for label in there if name_of(label) in names}
