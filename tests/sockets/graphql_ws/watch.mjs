// Opens the streams that the one argument names, on one socket of graphql-ws, and prints each item as a line of JSON.
// {"url", "headers", "query", "streams": {name: variables}, "reconnect"}; "reconnect" is how often a lost socket is
// opened again, each time with the last cursors.
import { createClient } from "graphql-ws";
import WebSocket from "ws";

const { url, headers, query, streams, reconnect } = JSON.parse(process.argv[2]);

class Socket extends WebSocket {
  constructor(address, protocols) {
    super(address, protocols, { headers });
  }
}

const client = createClient({
  url,
  webSocketImpl: Socket,
  retryAttempts: reconnect,
  retryWait: () => new Promise((resolve) => setTimeout(resolve, 200)),
  shouldRetry: () => true,
});

const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");

for (const [name, variables] of Object.entries(streams)) {
  // graphql-ws sends the same object again after a lost connection: its cursor is kept current.
  const payload = { query, variables };
  client.subscribe(payload, {
    next: ({ data, errors }) => {
      if (errors) {
        say({ name, codes: errors.map((error) => error.extensions.code) });
        return;
      }
      const { cursor, entry } = data.historyEntries;
      payload.variables.after = cursor;
      say({ name, cursor, label: entry && entry.objectLabel });
    },
    error: (error) => say({ name, error: String(error.message ?? error.reason ?? error) }),
    complete: () => say({ name, complete: true }),
  });
}
