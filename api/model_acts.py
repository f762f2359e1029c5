"""What is asked and answered about acts on the model: the wire types of the admin routes."""

from typing import Annotated

import msgspec

Why = Annotated[str, msgspec.Meta(pattern=r"\S", max_length=500)]


class PinAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Let scorers answer with one version, whatever is published; `why` is kept with the act."""

    version: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    why: Why


class ActAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An act that names no version; `why` is kept with it."""

    why: Why


class Acted(msgspec.Struct, frozen=True):
    """What was done, as it stands in the list of acts.

    Attributes:
        version: What scorers answer with from now on.
        by: The name of the key.
    """

    act: str
    version: int
    by: str
    why: str
    at_ms: int
