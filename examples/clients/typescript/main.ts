// Two changes under one assignation: made, listed with diffs, watched without a gap, and undone.
import { randomUUID } from "node:crypto";

import { assignation, Client } from "./client.js";
import {
  CreateDatasetDocument,
  type HistoryFilter,
  LogInDocument,
  ProjectsDocument,
  RevertDocument,
  TrailDocument,
  UpdateDatasetDocument,
  WatchDocument,
  type WatchSubscription,
} from "./notebook/graphql.js";

type Entry = NonNullable<WatchSubscription["historyEntries"]["entry"]>;

/** Subscribes, and leaves again with the cursor of the first item. */
async function position(client: Client, filters: HistoryFilter): Promise<string> {
  for await (const item of client.watch(WatchDocument, { filters })) return item.historyEntries.cursor;
  throw new Error("the feed ended");
}

/** Subscribes again, and reads what came meanwhile. */
async function missed(client: Client, filters: HistoryFilter, after: string, count: number): Promise<Entry[]> {
  const entries = new Map<string, Entry>();
  for await (const item of client.watch(WatchDocument, { filters, after })) {
    const entry = item.historyEntries.entry;
    if (entry != null) entries.set(entry.id, entry);
    if (entries.size === count) break;
  }
  return [...entries.values()];
}

/** Plans, and does exactly what was planned. */
async function undo(client: Client, task: string) {
  const plan = (await client.ask(RevertDocument, { assignationId: task, dryRun: true })).revertAssignation;
  if (plan?.__typename !== "RevertReport") throw new Error(JSON.stringify(plan));
  const confirmed = { assignationId: task, dryRun: false, expectedPlan: plan.plan };
  const done = (await client.ask(RevertDocument, confirmed)).revertAssignation;
  if (done?.__typename !== "RevertReport" || done.status !== "APPLIED") throw new Error(JSON.stringify(done));
  return done;
}

async function main(address: string): Promise<void> {
  const task = `typescript-${randomUUID().slice(0, 8)}`;
  const filters: HistoryFilter = { assignationId: task };
  const client = new Client(address);
  await client.ask(LogInDocument, { username: "curator", password: "curator-password" });

  const cursor = await position(client, filters);
  const project = (await client.ask(ProjectsDocument, {})).projects[0];
  if (project === undefined) throw new Error("there is no project");
  await assignation({ id: task, app: "typescript-example" }, async () => {
    const data = { project: { set: project.id }, title: "helo" };
    const made = (await client.ask(CreateDatasetDocument, { data })).createDataset;
    if (made.__typename !== "Dataset") throw new Error(JSON.stringify(made));
    await client.ask(UpdateDatasetDocument, { data: { id: made.id, title: "hello" } });
  });

  const history = (await client.ask(TrailDocument, { filters })).history;
  if (history?.totalCount !== 2) throw new Error(JSON.stringify(history));
  for (const { node } of history.edges) {
    for (const change of node.changes ?? []) {
      const values = `${JSON.stringify(change.old)} -> ${JSON.stringify(change.new)}`;
      console.log(`${node.action} ${node.objectLabel}: ${change.field} ${values}`);
    }
  }

  for (const entry of await missed(client, filters, cursor, 2)) {
    console.log(`while we were away: ${entry.action} ${entry.objectLabel}`);
  }
  const report = await undo(client, task);
  console.log(`${report.status}: ${report.stepCount} step, as assignation ${report.assignationId}`);
}

await main(process.argv[2] ?? "http://127.0.0.1:8000");
