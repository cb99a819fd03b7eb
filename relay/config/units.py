"""Durations and sizes as people write them in the settings: "15s", "2m", "4h", "4d"; "64KiB", "36MiB" or bytes."""

import re

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB|TiB)?")
_BYTES = {None: 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}


def parse_duration(text: str) -> float:
    """Return the seconds in a duration such as "15s" or "4d". Raises ValueError with a sentence for anything else."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'{text!r} is not a duration; write a number with s, m, h or d, such as "15s" or "4d"')
    return float(match[1]) * _SECONDS[match[2]]


def parse_size(value: str | int) -> int:
    """Return the bytes in a size such as "36MiB" or 4096. Raises ValueError with a sentence for anything else."""
    match = _SIZE.fullmatch(str(value).strip())
    if match is None or isinstance(value, bool):
        raise ValueError(f'{value!r} is not a size; write bytes or a number with KiB, MiB or GiB, such as "36MiB"')
    return int(match[1]) * _BYTES[match[2]]


def format_duration(seconds: float) -> str:
    """Return the shortest exact writing of a duration: 90.0 is "90s", 7200.0 is "2h"."""
    for unit in ("d", "h", "m"):
        count, rest = divmod(seconds, _SECONDS[unit])
        if count and not rest:
            return f"{count:.0f}{unit}"
    return f"{seconds:g}s"


def format_size(size: int) -> str:
    """Return the shortest exact writing of a size: 37748736 is "36MiB", 1000 is "1000"."""
    for unit in ("GiB", "MiB", "KiB"):
        count, rest = divmod(size, _BYTES[unit])
        if count and not rest:
            return f"{count}{unit}"
    return str(size)
