"""The example as a real server, under uvicorn and under daphne, on SQLite and the in-memory layer."""

import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from example_schema.demo import CREATE_DATASET, SETTING, Person, log_in, prepare, server, server_command

WATCH = """subscription($after: String, $filters: HistoryFilter) {
  historyEntries(after: $after, filters: $filters) { cursor entry { id objectLabel } } }"""
DATASETS, IMAGES = {"models": ["example_schema.dataset"]}, {"models": ["example_schema.image"]}
CREATE_IMAGE = "mutation($data: ImageInput!) { createImage(data: $data) { ... on Image { id } } }"
SECONDS = 30.0


def uvicorn_command(port: int) -> list[str]:
    """uvicorn with the example's ASGI application."""
    options = ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning", "--lifespan", "off"]
    return [sys.executable, "-m", "uvicorn", "example_schema.asgi:application", *options]


class Writer:
    """Changes things over HTTP."""

    def __init__(self, person: Person, project: str) -> None:
        self.person, self.project = person, project
        self.dataset = ""

    async def datasets(self, *titles: str) -> None:
        for title in titles:
            data = {"project": {"set": self.project}, "title": title}
            self.dataset = (await self.person.ask(CREATE_DATASET, data=data))["createDataset"]["id"]

    async def image(self, name: str) -> None:
        data = {"dataset": {"set": self.dataset}, "name": name, "width": 1, "height": 1}
        await self.person.ask(CREATE_IMAGE, data=data)

    @property
    def cookie(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.person.http.cookies.items())


@pytest.fixture(scope="session")
def _data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A database for all servers, with the example's accounts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXAMPLE_SQLITE", str(tmp_path_factory.mktemp("sockets") / "sockets.sqlite3"))
        prepare()
        yield


@pytest.fixture(scope="module", params=[uvicorn_command, server_command], ids=["uvicorn", "daphne"])
def address(request: pytest.FixtureRequest, _data: None) -> Iterator[str]:
    """A running server."""
    with server(request.param) as running:
        yield running


@pytest.fixture
async def writer(address: str) -> AsyncIterator[Writer]:
    """Somebody who is logged in and may write."""
    async with log_in(address, "curator", "notebook") as person:
        yield Writer(person, (await person.ask(SETTING))["projects"][0]["id"])
