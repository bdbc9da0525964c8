"""The servers of the zoo: how each is started, and what it is asked beside what every server is."""

from pathlib import Path

from .binaries import binaries
from .member import Member, Place
from .npm import npm
from .official import official
from .pypi import pypi

__all__ = ["Member", "members"]


def members(work: Path, scratch: Path, node: str) -> list[Member]:
    """All of them; `scratch` is the directory that the one about to be started may touch."""
    place = Place(work, scratch, node)
    return [*official(place), *npm(place), *pypi(place), *binaries(place)]
