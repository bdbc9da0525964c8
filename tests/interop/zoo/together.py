"""All servers behind one gateway: the lists of each are its own, but for the prefixes."""

import time

from compare import Difference, of_transcripts, without_volatile
from members import Member
from pen import HEAD, NOTED, START_LIMIT, Pen
from probe import LISTS, Obj, Session, Transcript

# The lists of one server, by method, as they are in its answers.
Lists = dict[str, object]


def lists_of(steps: dict[str, object]) -> Lists:
    """The lists of a transcript, without what else the answers have."""
    found = {}
    for method, items in LISTS.items():
        answer = steps.get(method, Obj()).get("result") or Obj()
        found[method] = answer_of(items, answer.get(items) or [])
    return found


def answer_of(items: str, found: list[Obj]) -> Obj:
    return Obj([("result", Obj([(items, found)]))])


def compare_together(
    revision: str, pens: dict[str, Pen], chosen: list[Member], bare: dict[str, tuple[Lists, Lists]]
) -> dict[str, list[Difference]]:
    """The differences of each server's lists, and of `all` what belongs to no server.

    `bare` has the lists of two runs without the gateway.
    """
    first = next(iter(pens.values()))
    place = first.place.parent / "together"
    place.mkdir(parents=True, exist_ok=True)
    config = place / "gateway.toml"
    sections = [HEAD]
    for member in chosen:
        pen = pens[member.name]
        pen.prepare(member)
        command = ["bash", str(NOTED), str(pen.notes), *member.command]
        sections.append(pen.section(member.name, command, {**pen.env, **member.env}))
    config.write_text("".join(sections))
    command = [str(first.gateway), "--stdio", "--config", str(config)]
    session = Session(command, first.env, place, place / f"{revision}.log")
    try:
        merged = all_lists(Transcript(session, revision), bare)
    finally:
        session.close()
    found = {
        name: without_volatile(
            of_transcripts(once, own_lists(name, merged)), of_transcripts(once, again)
        )
        for name, (once, again) in bare.items()
    }
    found["all"] = [
        Difference(method, (index,), "added", None, item)
        for method, items in merged.items()
        for index, item in enumerate(items)
        if all(own_item(member.name, item) is None for member in chosen)
    ]
    return found


def all_lists(transcript: Transcript, bare: dict[str, tuple[Lists, Lists]]) -> dict[str, list[Obj]]:
    """The merged lists, once they have something of each server that has something."""
    transcript.begin()
    deadline = time.monotonic() + START_LIMIT
    while True:
        merged = {method: transcript.list_all(method, items) for method, items in LISTS.items()}
        complete = all(
            own[method] != answer_of(items, []) or once[method] == answer_of(items, [])
            for name, (once, _) in bare.items()
            for own in [own_lists(name, merged)]
            for method, items in LISTS.items()
        )
        if complete or time.monotonic() > deadline:
            return merged
        time.sleep(1)


def own_lists(server: str, merged: dict[str, list[Obj]]) -> Lists:
    """One server's part of merged lists, as the server itself has it."""
    return {
        method: answer_of(
            items, [own for item in merged[method] if (own := own_item(server, item)) is not None]
        )
        for method, items in LISTS.items()
    }


def own_item(server: str, item: Obj) -> Obj | None:
    """The item without the server's prefixes, or `None` if it is another server's."""
    uri = next((key for key in ("uri", "uriTemplate") if item.get(key) is not None), None)
    key = uri or "name"
    own = (own_uri if uri else own_name)(server, item.get(key))
    if own is None:
        return None

    def own_value(name: str, value: object) -> object:
        if name == key:
            return own
        # The gateway says in a description whose it is, where names have a prefix.
        if name == "description" and uri is None:
            return value.removeprefix(f"[{server}] ")
        return own_views(server, value) if name == "_meta" else value

    return Obj((name, own_value(name, value)) for name, value in item)


def own_name(server: str, name: str) -> str | None:
    prefix = f"{server}__"
    return name.removeprefix(prefix) if name.startswith(prefix) else None


def own_uri(server: str, uri: str) -> str | None:
    """The names of the zoo's servers are written in a URI as they are."""
    for prefix, own in ((f"ui://{server}/", "ui://"), (f"{server}+", "")):
        if uri.startswith(prefix):
            return own + uri.removeprefix(prefix)
    return None


def own_views(server: str, value: object) -> object:
    """The views of an app are named in `_meta` too."""
    match value:
        case Obj():
            return Obj((key, own_views(server, inner)) for key, inner in value)
        case list():
            return [own_views(server, inner) for inner in value]
        case str() if value.startswith("ui://"):
            return own_uri(server, value) or value
    return value
