"""The differences between two transcripts, with the order of keys."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from probe import Number, Obj

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\ufffd"


@dataclass(frozen=True)
class Difference:
    step: str
    # In the answer to the step: `result.tools[3].inputSchema`.
    path: str
    kind: str
    bare: object
    gateway: object


def differences(step: str, bare: object, gateway: object, path: str = "") -> Iterator[Difference]:
    """Kinds: `absent` or `added` through the gateway, `order` of keys, `number`, `surrogate`, `value`, `type`."""

    def one(kind: str) -> Difference:
        return Difference(step, path, kind, bare, gateway)

    if type(bare) is not type(gateway):
        yield one("type")
    elif isinstance(bare, Obj):
        yield from of_objects(step, bare, gateway, path)
    elif isinstance(bare, list):
        yield from of_arrays(step, bare, gateway, path)
    elif isinstance(bare, Number):
        if bare != gateway:
            yield one("number")
    elif bare != gateway:
        is_surrogate = isinstance(bare, str) and LONE_SURROGATE.sub(REPLACEMENT, bare) == gateway
        yield one("surrogate" if is_surrogate else "value")


def of_objects(step: str, bare: Obj, gateway: Obj, path: str) -> Iterator[Difference]:
    there, here = dict(bare), dict(gateway)
    for key, value in bare:
        at = f"{path}.{key}" if path else key
        if key in here:
            yield from differences(step, value, here[key], at)
        else:
            yield Difference(step, at, "absent", value, None)
    for key, value in gateway:
        if key not in there:
            yield Difference(step, f"{path}.{key}" if path else key, "added", None, value)
    common = [key for key, _ in bare if key in here], [key for key, _ in gateway if key in there]
    if common[0] != common[1]:
        yield Difference(step, path, "order", *common)


def of_arrays(step: str, bare: list, gateway: list, path: str) -> Iterator[Difference]:
    for index, (value, other) in enumerate(zip(bare, gateway)):
        yield from differences(step, value, other, f"{path}[{index}]")
    for index in range(len(gateway), len(bare)):
        yield Difference(step, f"{path}[{index}]", "absent", bare[index], None)
    for index in range(len(bare), len(gateway)):
        yield Difference(step, f"{path}[{index}]", "added", None, gateway[index])


def of_transcripts(bare: dict[str, object], gateway: dict[str, object]) -> list[Difference]:
    found = []
    for step, answer in bare.items():
        if step in gateway:
            found += differences(step, answer, gateway[step])
        else:
            found.append(Difference(step, "", "absent", answer, None))
    found += [Difference(step, "", "added", None, gateway[step]) for step in gateway if step not in bare]
    return found


def without_volatile(found: list[Difference], between_bare: list[Difference]) -> list[Difference]:
    """Leaves out the places where two runs without the gateway differ too: times, ids."""
    places = {(difference.step, difference.path) for difference in between_bare}

    def is_volatile(difference: Difference) -> bool:
        # The place itself, or one around it.
        path = difference.path
        while (difference.step, path) not in places:
            if not path:
                return False
            path = re.sub(r"(\.[^.\[\]]*|\[\d+\]|^[^.\[]+)$", "", path)
        return True

    return [difference for difference in found if not is_volatile(difference)]
