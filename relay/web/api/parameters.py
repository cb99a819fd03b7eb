"""What the address of a request says: names, times, and which part of a list."""

from typing import Annotated, Any, Literal, TypeAlias

from fastapi import Path
from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field, create_model

from relay.web.api.models import NAME_PATTERN


def name_of(example: str) -> Any:
    """Return the type of a name in a path."""
    return Annotated[str, Path(pattern=NAME_PATTERN, description="Its name.", examples=[example])]


def _no_number(given: object) -> object:
    """Refuse seconds since 1970, which pydantic would take for a time."""
    if isinstance(given, str) and "T" not in given.upper():
        raise ValueError("a time is written as 2026-11-24T10:05:00Z")
    return given


Moment: TypeAlias = Annotated[AwareDatetime, BeforeValidator(_no_number)]


class Span(BaseModel):
    """A stretch of time."""

    since: Moment | None = Field(None, description="Not before this time.", examples=["2026-11-24T00:00:00Z"])
    until: Moment | None = Field(None, description="Before this time.", examples=["2026-11-25T00:00:00Z"])


class Part(BaseModel):
    """Which part of a list."""

    start: int = Field(0, ge=0, le=2**31, description="The number of the first one wanted, from 0.")
    limit: int = Field(50, ge=1, le=500, description="How many at most.")


class Listing(Part):
    """Which part of a list, in which order, and of whom."""

    sort: str = "name"
    descending: bool = Field(False, description="From the last to the first.")
    contains: str = Field(
        "", max_length=200, description="A text that one of their values has, without case.", examples=["acme"]
    )


class ProfileListing(Listing):
    """The same for channels."""

    server: str | None = Field(
        None, max_length=200, description="Only those who send through this server.", examples=["acmejets"]
    )
    password: Literal["set", "missing"] | None = Field(
        None, description="Only those whose password for the server is set, or is needed and missing."
    )


class AgentListing(ProfileListing):
    """The same for agents."""

    group: str | None = Field(None, max_length=200, description="Only those of this group.", examples=["sales"])
    role: str | None = Field(None, max_length=200, description="Only those with this role.", examples=["agent"])


def sorted_by(listing: type[Listing], record: type[BaseModel]) -> Any:
    """Return a listing that sorts by the keys of the records."""
    keys: Any = tuple(key for key in record.model_fields if key != "version")
    key: Any = Literal[keys]
    return create_model(
        f"{record.__name__}{listing.__name__}",
        __base__=listing,
        sort=(key, Field("name", description="The key to sort by.")),
    )
