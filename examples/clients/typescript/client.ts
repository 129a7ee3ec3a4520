// Requests with fetch and subscriptions with graphql-ws, and the unit of work that they belong to.
import { AsyncLocalStorage } from "node:async_hooks";

import type { TypedDocumentNode } from "@graphql-typed-document-node/core";
import { print } from "graphql";
import { createClient } from "graphql-ws";
import { WebSocket } from "ws";

export interface Claims {
  id: string;
  app?: string;
  reason?: string;
}

const current = new AsyncLocalStorage<Claims>();

/** All requests made inside `work` belong to one assignation. */
export function assignation<T>(claims: Claims, work: () => Promise<T>): Promise<T> {
  return current.run(claims, work);
}

function headers(): Record<string, string> {
  const claims = current.getStore();
  if (claims === undefined) return {};
  return {
    "X-Assignation-Id": claims.id,
    ...(claims.app === undefined ? {} : { "X-App": claims.app }),
    ...(claims.reason === undefined ? {} : { "X-Change-Reason": claims.reason }),
  };
}

export class Client {
  private cookie = "";

  constructor(private readonly address: string) {}

  /** The answer of a query or mutation; throws when the server answers with errors. */
  async ask<R, V>(document: TypedDocumentNode<R, V>, variables: V): Promise<R> {
    const response = await fetch(`${this.address}/graphql`, {
      method: "POST",
      headers: { "Content-Type": "application/json", Cookie: this.cookie, ...headers() },
      body: JSON.stringify({ query: print(document), variables }),
    });
    const cookies = response.headers.getSetCookie().map((cookie) => cookie.split(";", 1)[0]);
    if (cookies.length > 0) this.cookie = cookies.join("; ");
    const body = (await response.json()) as { data: R; errors?: unknown[] };
    if (body.errors !== undefined) throw new Error(JSON.stringify(body.errors));
    return body.data;
  }

  /** The items of a subscription; leaving the loop ends it. */
  async *watch<R extends Record<string, unknown>, V extends Record<string, unknown>>(
    document: TypedDocumentNode<R, V>,
    variables: V,
  ): AsyncGenerator<R> {
    const options = { headers: { Cookie: this.cookie }, origin: this.address };
    const socket = createClient({
      url: `${this.address.replace("http", "ws")}/graphql`,
      webSocketImpl: class extends WebSocket {
        constructor(url: string, protocols: string) {
          super(url, protocols, options);
        }
      },
    });
    try {
      for await (const item of socket.iterate<R>({ query: print(document), variables })) {
        if (item.errors !== undefined || item.data == null) throw new Error(JSON.stringify(item.errors));
        yield item.data;
      }
    } finally {
      await socket.dispose();
    }
  }
}
