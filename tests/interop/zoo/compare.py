"""The differences between two transcripts, with the order of keys."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from probe import Number, Obj

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\ufffd"

# The keys and indices that lead to a value.
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Difference:
    """One place in a step's answer, and both values there.

    `kind` is `absent` or `added` (through the gateway), `order` (of keys), `number` (its digits),
    `surrogate` (half a pair is replaced), `type` or `value`.
    """

    step: str
    place: Place
    kind: str
    bare: object
    gateway: object

    @property
    def path(self) -> str:
        """The place in writing: `result.tools[3].inputSchema`."""
        parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.place]
        return "".join(parts).removeprefix(".")


def differences(
    step: str, bare: object, gateway: object, place: Place = ()
) -> Iterator[Difference]:
    if type(bare) is not type(gateway):
        yield Difference(step, place, "type", bare, gateway)
    elif isinstance(bare, Obj):
        yield from of_objects(step, bare, gateway, place)
    elif isinstance(bare, list):
        yield from of_arrays(step, bare, gateway, place)
    elif bare != gateway:
        kind = "value"
        if isinstance(bare, Number):
            kind = "number"
        elif isinstance(bare, str) and LONE_SURROGATE.sub(REPLACEMENT, bare) == gateway:
            kind = "surrogate"
        yield Difference(step, place, kind, bare, gateway)


def of_objects(step: str, bare: Obj, gateway: Obj, place: Place) -> Iterator[Difference]:
    there, here = dict(bare), dict(gateway)
    for key, value in bare:
        if key in here:
            yield from differences(step, value, here[key], (*place, key))
        else:
            yield Difference(step, (*place, key), "absent", value, None)
    for key, value in gateway:
        if key not in there:
            yield Difference(step, (*place, key), "added", None, value)
    common = [key for key, _ in bare if key in here], [key for key, _ in gateway if key in there]
    if common[0] != common[1]:
        yield Difference(step, place, "order", *common)


def of_arrays(step: str, bare: list, gateway: list, place: Place) -> Iterator[Difference]:
    for index, (value, other) in enumerate(zip(bare, gateway)):
        yield from differences(step, value, other, (*place, index))
    for index in range(len(gateway), len(bare)):
        yield Difference(step, (*place, index), "absent", bare[index], None)
    for index in range(len(bare), len(gateway)):
        yield Difference(step, (*place, index), "added", None, gateway[index])


def of_transcripts(bare: dict[str, object], gateway: dict[str, object]) -> list[Difference]:
    found = []
    for step, answer in bare.items():
        if step in gateway:
            found += differences(step, answer, gateway[step])
        else:
            found.append(Difference(step, (), "absent", answer, None))
    found += [
        Difference(step, (), "added", None, gateway[step]) for step in gateway if step not in bare
    ]
    return found


def without_volatile(found: list[Difference], between_bare: list[Difference]) -> list[Difference]:
    """Leaves out each place, with all inside of it, where two runs without the gateway differ."""
    volatile = {(difference.step, difference.place) for difference in between_bare}

    def around(difference: Difference) -> Iterator[tuple[str, Place]]:
        for length in range(len(difference.place) + 1):
            yield difference.step, difference.place[:length]

    return [difference for difference in found if volatile.isdisjoint(around(difference))]
