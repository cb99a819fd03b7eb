"""Marks in the types of keys, for whoever reads a table by them (`relay.config.schema`).

pydantic follows them (`__get_pydantic_core_schema__`). It is loaded only where a table is read, and a relay begins with
tables that another process has read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema


@dataclass(frozen=True, slots=True)
class Strict:
    """Nothing is converted: 1 is not true, "1" is no number."""

    def __get_pydantic_core_schema__(self, source: Any, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        """Let pydantic convert nothing."""
        schema = handler(source)
        schema["strict"] = True  # type: ignore[index]
        return schema


@dataclass(frozen=True, slots=True)
class Before:
    """What a function makes of the value as it is written, or its ValueError."""

    make: Callable[[object], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        """Let pydantic ask the function first."""
        from pydantic import BeforeValidator  # noqa: PLC0415

        return BeforeValidator(self.make).__get_pydantic_core_schema__(source, handler)


@dataclass(frozen=True, slots=True)
class After:
    """What a function makes of a value of the right type, or its ValueError."""

    make: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        """Let pydantic ask the function last."""
        from pydantic import AfterValidator  # noqa: PLC0415

        return AfterValidator(self.make).__get_pydantic_core_schema__(source, handler)


@dataclass(frozen=True, slots=True)
class Written:
    """How a function writes the value."""

    write: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        """Let pydantic write it so."""
        from pydantic import PlainSerializer  # noqa: PLC0415

        return PlainSerializer(self.write).__get_pydantic_core_schema__(source, handler)
