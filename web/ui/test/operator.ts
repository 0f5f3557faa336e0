// What tests of an operator's pages have in common.

import type { Page, Route } from "playwright-core";

/** Gives the page the operator's key. */
export async function asOperator(page: Page, key: string): Promise<void> {
  await page.getByLabel("Admin key").fill(key);
  await page.getByRole("button", { name: "Use this key" }).click();
}

/** Answers a call as the server does, but for what change makes of it. */
export function changed<T>(change: (body: T) => unknown): (route: Route) => Promise<void> {
  return async (route) => {
    try {
      const response = await route.fetch();
      await route.fulfill({ response, json: change((await response.json()) as T) });
    } catch (err) {
      if (!/closed|disposed/.test(String(err))) throw err; // a page asks again and again, also while its test ends
    }
  };
}

export const day = 86_400_000;

/** A time so many days ago. */
export const ago = (days: number) => new Date(Date.now() - days * day).toISOString();

/** An answer that the store is away. */
export const away = { status: 503, contentType: "application/problem+json", json: { type: "about:blank", title: "Service Unavailable", status: 503, detail: "the key process does not answer; try again in a moment" } };
