"""The product in one minute: ``python -m example_schema.demo`` (``make demo``), and ``--serve`` (``make serve``).

Starts the example's ASGI application as a real server on a free local port and drives it as clients do, over HTTP and
WebSocket. Exit status 0 means that everything told here happened.
"""

import argparse
import asyncio
import csv
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from example_schema.accounts import SUPERUSER, password_of

ROOT = Path(__file__).resolve().parent.parent
CSV = Path(__file__).parent / "data" / "images.csv"
SERVE_PORT = 8000
BATCH = 50
PAGE = 100
WAIT_SECONDS = 60.0

CURATION, IMPORT, NIGHT_RUN = "curation-2026-07", "import-0042", "night-run-7"

ENTRY = "id action origin model objectLabel app assignationId user { username } changes { field old new added removed }"
LOGIN = "mutation($name: String!, $password: String!) { login(username: $name, password: $password) { username } }"
SETTING = "{ projects { id } tags { id name } }"
INVALID = "... on OperationInfo { messages { message } }"
CREATE_DATASET = (
    f"mutation($data: DatasetInput!) {{ createDataset(data: $data) {{ ... on Dataset {{ id }} {INVALID} }} }}"
)
UPDATE_DATASET = (
    f"mutation($data: DatasetPatch!) {{ updateDataset(data: $data) {{ ... on Dataset {{ id }} {INVALID} }} }}"
)
HISTORY = f"""query($filters: HistoryFilter, $first: Int, $after: String) {{
  history(filters: $filters, first: $first, after: $after) {{
    totalCount pageInfo {{ hasNextPage endCursor }} edges {{ node {{ {ENTRY} }} }} }} }}"""
REVERT = """mutation($id: ID!, $plan: String, $dryRun: Boolean!, $reason: String) {
  revertAssignation(assignationId: $id, expectedPlan: $plan, dryRun: $dryRun, reason: $reason) {
    ... on RevertReport { status plan assignationId stepCount conflictCount
      steps(first: 100) { edges { node { action model objectLabel changes { field old new }
        conflicts { code message fields entry { app assignationId user { username } } } } } } }
    ... on OperationInfo { messages { message } } } }"""
ASSIGNATION = "query($id: ID!) { assignation(id: $id) { id reverts entryCount users { username } apps revertedBy } }"
WATCH = f"subscription($after: String) {{ historyEntries(after: $after) {{ cursor entry {{ {ENTRY} }} }} }}"


class DemoError(Exception):
    """The story did not go as told."""


def expect(truth: bool, what: str) -> None:
    """Raises ``DemoError`` when something that the story tells is not so."""
    if not truth:
        raise DemoError(f"expected: {what}")


def say(text: str = "") -> None:
    print(text, flush=True)


def chapter(number: int, text: str) -> None:
    say(f"\n{number}. {text}")


@dataclass
class Person:
    """A client that is logged in: a person or a program."""

    name: str
    app: str
    http: httpx.AsyncClient

    async def ask(self, query: str, assignation: str | None = None, **variables: Any) -> dict[str, Any]:
        """The operation's data; raises ``DemoError`` when there are errors."""
        headers = {"X-App": self.app}
        if assignation is not None:
            headers["X-Assignation-Id"] = assignation
        answer = await self.http.post("/graphql", json={"query": query, "variables": variables}, headers=headers)
        body = answer.json()
        if body.get("errors"):
            raise DemoError(f"{self.name}: {json.dumps(body['errors'])[:1000]}")
        data: dict[str, Any] = body["data"]
        for value in data.values():
            expect(not isinstance(value, dict) or "messages" not in value, f"valid arguments, not {value}")
        return data

    async def log_in(self) -> None:
        """Keeps the session's cookie."""
        data = await self.ask(LOGIN, name=self.name, password=password_of(self.name))
        expect(data["login"] == {"username": self.name}, f"{self.name} logs in")

    async def revert(self, assignation: str, *, plan: str | None = None, dry_run: bool = False) -> dict[str, Any]:
        """The report of undoing an assignation, or of a preview."""
        reason = None if dry_run else "wrong microscope"
        data = await self.ask(REVERT, id=assignation, plan=plan, dryRun=dry_run, reason=reason)
        report: dict[str, Any] = data["revertAssignation"]
        return report


@dataclass
class Subscriber:
    """Watches the trail over a socket, remembers its cursor, and prints what arrives."""

    url: str
    cookie: str
    cursor: str | None = None
    seen: list[str] = field(default_factory=list)
    socket: ClientConnection | None = None
    reader: "asyncio.Task[None] | None" = None
    printed: dict[tuple[str, str], int] = field(default_factory=dict)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def start(self) -> None:
        """Connects, subscribes after the remembered cursor, and returns once the server's first item is here."""
        self.socket = await connect(
            self.url,
            subprotocols=[Subprotocol("graphql-transport-ws")],
            origin=Origin(self.url.replace("ws://", "http://").removesuffix("/graphql")),
            additional_headers={"Cookie": self.cookie},
        )
        await self.socket.send(json.dumps({"type": "connection_init"}))
        acknowledged = json.loads(await self.socket.recv())
        expect(acknowledged["type"] == "connection_ack", "the server accepts the socket")
        payload = {"query": WATCH, "variables": {"after": self.cursor}}
        await self.socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
        await self._take(json.loads(await asyncio.wait_for(self.socket.recv(), WAIT_SECONDS)))
        self.reader = asyncio.create_task(self._read(self.socket))

    async def cut_off(self) -> None:
        """The connection is lost, without a goodbye."""
        expect(self.socket is not None and self.reader is not None, "the subscriber is connected")
        if self.socket is not None and self.reader is not None:
            self.reader.cancel()
            self.socket.transport.abort()
            await asyncio.wait([self.reader])

    async def wait_for(self, count: int) -> None:
        """Until so many different entries have arrived since the beginning."""
        async with self.arrived:
            enough = self.arrived.wait_for(lambda: len(set(self.seen)) >= count or self._failed())
            try:
                await asyncio.wait_for(enough, WAIT_SECONDS)
            except TimeoutError:
                raise DemoError(f"the subscriber has {len(set(self.seen))} of {count} entries") from None
        if self.reader is not None and self.reader.done():
            self.reader.result()

    def _failed(self) -> bool:
        return self.reader is not None and self.reader.done()

    async def _read(self, socket: ClientConnection) -> None:
        async for text in socket:
            await self._take(json.loads(text))

    async def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "ping":
            return
        expect(message["type"] == "next" and not message["payload"].get("errors"), f"an entry, not {message}")
        item = message["payload"]["data"]["historyEntries"]
        self.cursor = item["cursor"]
        if item["entry"] is not None:
            self._print(item["entry"])
            async with self.arrived:
                self.seen.append(item["entry"]["id"])
                self.arrived.notify_all()

    def _print(self, entry: dict[str, Any]) -> None:
        kind = (entry["assignationId"] or "", entry["action"] + entry["model"])
        self.printed[kind] = self.printed.get(kind, 0) + 1
        if self.printed[kind] <= 2:
            say(f"     live | {line(entry)}")
        elif self.printed[kind] == 3:
            say("     live | ... and so on, one line for each image")


def line(entry: dict[str, Any]) -> str:
    """An entry in one line: who, with what, in which context, did what."""
    who = entry["user"]["username"] if entry["user"] else "nobody"
    what = f"{entry['action']} {entry['model'].split('.')[1]} {entry['objectLabel']!r}"
    undo = " (undo)" if entry["origin"] == "REVERT" else ""
    return f"{who} with {entry['app']} in {short(entry['assignationId'])}: {what}{undo}"


def short(assignation: str | None) -> str:
    """An assignation id for the terminal; the server's own are long."""
    return "-" if assignation is None else assignation if len(assignation) <= 20 else assignation[:8] + "..."


def diff(change: dict[str, Any]) -> str:
    """One changed field: old and new value."""
    if change["added"] or change["removed"]:
        return f"{change['field']}: +{change['added'] or []} -{change['removed'] or []}"
    return f"{change['field']}: {change['old']!r} -> {change['new']!r}"


def records() -> list[dict[str, str]]:
    """The records of the CSV file."""
    with CSV.open(newline="", encoding="utf-8") as rows:
        return list(csv.DictReader(rows))


async def load(importer: Person, dataset: str) -> int:
    """Loads the CSV through GraphQL, some records to a request; returns how many."""
    rows = records()
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        names = ", ".join(f"$i{n}: ImageInput!" for n in range(len(batch)))
        fields = " ".join(
            f"i{n}: createImage(data: $i{n}) {{ ... on Image {{ id }} {INVALID} }}" for n in range(len(batch))
        )
        variables = {f"i{n}": image(row, dataset) for n, row in enumerate(batch)}
        await importer.ask(f"mutation({names}) {{ {fields} }}", IMPORT, **variables)
    return len(rows)


def image(row: dict[str, str], dataset: str) -> dict[str, Any]:
    """The GraphQL input of one record."""
    return {
        "dataset": {"set": dataset},
        "name": row["name"],
        "width": int(row["width"]),
        "height": int(row["height"]),
        "exposureMs": row["exposure_ms"],
        "extra": {"site": row["site"], "channel": row["channel"], "depth_m": float(row["depth_m"])},
    }


async def trail(reader: Person, **filters: Any) -> list[dict[str, Any]]:
    """All entries of the trail, newest first, page by page."""
    entries: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        page = (await reader.ask(HISTORY, filters=filters, first=PAGE, after=after))["history"]
        entries += [edge["node"] for edge in page["edges"]]
        if not page["pageInfo"]["hasNextPage"]:
            expect(len(entries) == page["totalCount"], "the walk gives as many entries as are counted")
            return entries
        after = page["pageInfo"]["endCursor"]


async def story(address: str) -> None:
    """The minute."""
    async with AsyncExitStack() as stack:
        curator, importer, viewer = [
            await stack.enter_async_context(log_in(address, name, app))
            for name, app in (("curator", "notebook"), ("importer", "microscope-7"), ("viewer", "wall-display"))
        ]
        before = {entry["id"] for entry in await trail(viewer)}
        cookie = "; ".join(f"{name}={value}" for name, value in viewer.http.cookies.items())
        subscriber = Subscriber(address.replace("http", "ws", 1) + "/graphql", cookie)
        chapter(1, "The viewer subscribes to the live trail over a WebSocket.")
        await subscriber.start()
        await changes(curator, importer, subscriber)
        await reading(viewer)
        await undoing(curator, importer, subscriber)
        await resuming(viewer, subscriber, before)
        await subscriber.cut_off()


async def changes(curator: Person, importer: Person, subscriber: Subscriber) -> None:
    """Two assignations, seen live."""
    setting = await curator.ask(SETTING)
    coral = [tag["id"] for tag in setting["tags"] if tag["name"] == "coral"]
    chapter(2, f"The curator, a person, works under the assignation {CURATION}.")
    data = {"project": {"set": setting["projects"][0]["id"]}, "title": "North reef", "tags": {"set": coral}}
    dataset = (await curator.ask(CREATE_DATASET, CURATION, data=data))["createDataset"]["id"]
    await curator.ask(UPDATE_DATASET, CURATION, data={"id": dataset, "title": "North reef, July"})
    await subscriber.wait_for(2)
    chapter(3, f"The importer, an app, loads {CSV.name} through GraphQL under {IMPORT}, and retitles the dataset.")
    count = await load(importer, dataset)
    await importer.ask(UPDATE_DATASET, IMPORT, data={"id": dataset, "title": "IMPORT_FINAL_v2"})
    await subscriber.wait_for(count + 3)
    say(f"     {count} images loaded; the subscriber has seen {len(set(subscriber.seen))} entries")


async def reading(viewer: Person) -> None:
    """The trail of the dataset, with diffs."""
    chapter(4, "The trail answers: who changed the dataset, with what, in which context, and what exactly?")
    for entry in await trail(viewer, models=["example_schema.dataset"]):
        say(f"     {line(entry)}")
        for change in entry["changes"] if entry["action"] == "UPDATE" else []:
            if change["field"] != "updated_at":
                say(f"         {diff(change)}")


async def undoing(curator: Person, importer: Person, subscriber: Subscriber) -> None:
    """Preview, apply, and a refusal."""
    chapter(5, f"The import was wrong. The curator previews the undo of all of {IMPORT}: nothing is written.")
    preview = await curator.revert(IMPORT, dry_run=True)
    expect(preview["status"] == "PLANNED" and preview["conflictCount"] == 0, f"a plan, not {preview}")
    steps = [edge["node"] for edge in preview["steps"]["edges"]]
    say(f"     {preview['status']}: {preview['stepCount']} steps, {preview['conflictCount']} conflicts")
    for step in steps[:2]:
        say(f"     {step['action']} {step['model'].split('.')[1]} {step['objectLabel']!r}")
    say(f"     ... and {preview['stepCount'] - 2} more")
    say("     ... meanwhile the viewer's connection is cut off")
    await subscriber.cut_off()
    chapter(6, "The curator applies exactly the plan that was shown.")
    report = await curator.revert(IMPORT, plan=preview["plan"])
    expect(report["status"] == "APPLIED" and report["stepCount"] == preview["stepCount"], f"applied, not {report}")
    say(f"     {report['status']}: {report['stepCount']} steps in one transaction, as {short(report['assignationId'])}")
    entries = await trail(curator, assignationId=report["assignationId"])
    unit = (await curator.ask(ASSIGNATION, id=report["assignationId"]))["assignation"]
    expect(unit["reverts"] == IMPORT and unit["entryCount"] == len(entries), "the undo is on the trail")
    say(f"     the trail has the undo too: {unit['entryCount']} entries that revert {unit['reverts']}, such as")
    say(f"     {line(entries[0])}")
    chapter(7, f"Later work is safe: the importer edits the dataset in {NIGHT_RUN}, the curator undoes {CURATION}.")
    dataset = (await curator.ask("{ datasets { id } }"))["datasets"][0]["id"]
    await importer.ask(UPDATE_DATASET, NIGHT_RUN, data={"id": dataset, "title": "North reef, July and August"})
    refused = await curator.revert(CURATION)
    expect(refused["status"] == "CONFLICTED", f"a conflict, not {refused}")
    say(f"     {refused['status']}: nothing was written")
    for edge in refused["steps"]["edges"]:
        for conflict in edge["node"]["conflicts"]:
            by = conflict["entry"]
            culprit = f" by {by['user']['username']} in {by['assignationId']}" if by else ""
            say(f"     {conflict['code']} {', '.join(conflict['fields'])}{culprit}: {conflict['message']}")
    kept = (await curator.ask("{ datasets { title } }"))["datasets"]
    expect(kept == [{"title": "North reef, July and August"}], f"the later title stays, not {kept}")


async def resuming(viewer: Person, subscriber: Subscriber, before: set[str]) -> None:
    """Back with the cursor."""
    chapter(8, "The viewer comes back with the cursor of the last entry that it had seen.")
    had = len(set(subscriber.seen))
    await subscriber.start()
    everything = {entry["id"] for entry in await trail(viewer)} - before
    await subscriber.wait_for(len(everything))
    expect(set(subscriber.seen) == everything, "the subscriber has seen every entry of the trail")
    say(f"     {len(everything) - had} entries were waiting: now {len(everything)} of {len(everything)}, none missed")


@asynccontextmanager
async def log_in(address: str, name: str, app: str) -> AsyncIterator[Person]:
    """A client with a session of its own."""
    async with httpx.AsyncClient(base_url=address, timeout=WAIT_SECONDS) as http:
        person = Person(name, app, http)
        await person.log_in()
        yield person


def database() -> Path:
    """The demo's SQLite file."""
    return Path(os.environ.get("EXAMPLE_SQLITE") or ROOT / ".cache" / "demo.sqlite3").absolute()


def environment() -> dict[str, str]:
    """For the server: the demo's database, and the in-memory layer."""
    kept = {name: value for name, value in os.environ.items() if name not in ("EXAMPLE_DB", "EXAMPLE_REDIS")}
    return {**kept, "DJANGO_SETTINGS_MODULE": "example_schema.settings", "EXAMPLE_SQLITE": str(database())}


def prepare() -> None:
    """Migrates and seeds the database."""
    database().parent.mkdir(parents=True, exist_ok=True)
    for command in (["migrate", "--verbosity", "0"], ["seed_example"]):
        run = [sys.executable, "-m", "django", *command]
        subprocess.run(run, cwd=ROOT, env=environment(), check=True, stdout=subprocess.DEVNULL)


def server_command(port: int) -> list[str]:
    """Daphne with the example's ASGI application."""
    application = "example_schema.asgi:application"
    return [sys.executable, "-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(port), application]


@contextmanager
def server(command: Callable[[int], list[str]] = server_command) -> Iterator[str]:
    """The address of a running server, which is stopped at the end; ``command`` starts one on a port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    log_path = database().with_suffix(".log")
    with log_path.open("w") as log:
        process = subprocess.Popen(command(port), cwd=ROOT, env=environment(), stdout=log, stderr=log)
        try:
            wait_until_up(address, process, log_path)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_up(address: str, process: "subprocess.Popen[bytes]", log_path: Path) -> None:
    """Until the server answers; raises ``DemoError`` with the end of its log when it does not."""
    deadline = time.monotonic() + WAIT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            httpx.get(address + "/graphql?query={__typename}", timeout=5)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise DemoError(f"the server did not start:\n{log_path.read_text()[-2000:]}")


def how_to_log_in(address: str) -> str:
    """What to do in GraphiQL."""
    login = f'mutation {{ login(username: "curator", password: "{password_of("curator")}") {{ username }} }}'
    return (
        f"GraphiQL: {address}/graphql   log in there with: {login}\n"
        f"Admin:    {address}/admin/    log in as {SUPERUSER} / {password_of(SUPERUSER)}"
    )


def demo() -> None:
    """Tells the story on a new database."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        database().with_name(database().name + suffix).unlink(missing_ok=True)
    say("koherent: who changed what, with what, in which context; queried, undone and watched live, through GraphQL.")
    prepare()
    with server() as address:
        say(f"The example's server runs at {address}; three clients log in.")
        asyncio.run(story(address))
    say("\nLook around on the same data: `make serve`, then")
    say(how_to_log_in(f"http://127.0.0.1:{SERVE_PORT}"))


def serve(port: int) -> None:
    """Keeps a server running on the demo's data until it is interrupted."""
    prepare()
    say(how_to_log_in(f"http://127.0.0.1:{port}"))
    say("Stop with Ctrl-C.")
    try:
        subprocess.run(server_command(port), cwd=ROOT, env={**environment(), "EXAMPLE_DEBUG": "1"}, check=True)
    except KeyboardInterrupt:
        say()


def main() -> int:
    """Exit status 0 when everything went as told."""
    parser = argparse.ArgumentParser(description="koherent's demo")
    parser.add_argument("--serve", action="store_true", help="keep a server running on the demo's data")
    parser.add_argument("--port", type=int, default=SERVE_PORT, help="port of --serve")
    options = parser.parse_args()
    try:
        if options.serve:
            serve(options.port)
        else:
            demo()
    except DemoError as error:
        print(f"the demo failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
