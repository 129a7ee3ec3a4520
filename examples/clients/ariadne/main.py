"""Two changes under one assignation: made, listed with diffs, watched without a gap, and undone."""

import asyncio
import sys
from uuid import uuid4

import httpx

from koherent.client import assignation, on_request_async

from notebook.client import Client
from notebook.create_dataset import CreateDatasetCreateDatasetDataset
from notebook.input_types import DatasetInput, DatasetPatch, HistoryFilter, OneToManyInput
from notebook.revert import RevertRevertAssignationRevertReport
from notebook.watch import WatchHistoryEntriesEntry


async def position(client: Client, filters: HistoryFilter) -> str:
    """Subscribes, and leaves again with the cursor of the first item."""
    async for item in client.watch(filters=filters):
        return item.history_entries.cursor
    raise RuntimeError("the feed ended")


async def missed(client: Client, filters: HistoryFilter, after: str, count: int) -> list[WatchHistoryEntriesEntry]:
    """Subscribes again, and reads what came meanwhile."""
    entries: dict[str, WatchHistoryEntriesEntry] = {}
    async for item in client.watch(filters=filters, after=after):
        if item.history_entries.entry is not None:
            entries[item.history_entries.entry.id] = item.history_entries.entry
        if len(entries) == count:
            break
    return list(entries.values())


async def undo(client: Client, task: str) -> RevertRevertAssignationRevertReport:
    """Plans, and does exactly what was planned."""
    plan = (await client.revert(task, True)).revert_assignation
    assert isinstance(plan, RevertRevertAssignationRevertReport), plan
    done = (await client.revert(task, False, plan.plan)).revert_assignation
    assert isinstance(done, RevertRevertAssignationRevertReport), done
    return done


async def main(address: str) -> None:
    """The program."""
    task = f"ariadne-{uuid4().hex[:8]}"
    url = f"{address}/graphql"
    async with httpx.AsyncClient(event_hooks={"request": [on_request_async]}, timeout=30) as http:
        # The generator's protocol of a client is narrower than httpx's own signature.
        client = Client(url, http_client=http, ws_url=url.replace("http", "ws", 1), ws_origin=address)  # type: ignore[arg-type]
        await client.log_in("curator", "curator-password")
        client.ws_headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in http.cookies.items())
        filters = HistoryFilter(assignationId=task)

        cursor = await position(client, filters)
        project = (await client.projects()).projects[0].id
        with assignation(task, app="ariadne-example"):
            data = DatasetInput(project=OneToManyInput(set=project), title="helo")
            made = (await client.create_dataset(data)).create_dataset
            assert isinstance(made, CreateDatasetCreateDatasetDataset), made
            await client.update_dataset(DatasetPatch(id=made.id, title="hello"))

        history = (await client.trail(filters)).history
        assert history is not None
        assert history.total_count == 2, history
        for edge in history.edges:
            what = f"{edge.node.action.value} {edge.node.object_label}"
            for change in edge.node.changes or []:
                print(f"{what}: {change.field} {change.old!r} -> {change.new!r}")

        for entry in await missed(client, filters, cursor, 2):
            print(f"while we were away: {entry.action.value} {entry.object_label}")
        report = await undo(client, task)
        print(f"{report.status.value}: {report.step_count} step, as assignation {report.assignation_id}")
        assert report.status.value == "APPLIED", report


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"))
