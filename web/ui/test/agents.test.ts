// Agents: made, their key shown once, changed, their key rotated, deleted.

import assert from "node:assert/strict";
import { test } from "node:test";
import { accessible, downloaded, narrow, seen, shot, start, stored } from "./harness.js";

const site = await start();
const evil = `<img src=x onerror="alert(1)">`;

/** Whether the server takes the key of an agent. */
async function works(key: string): Promise<boolean> {
  const got = await fetch(`${site.dev.url}/v1/auth/agent-token`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ api_key: key }) });
  return got.ok;
}

test("an agent is made, its key is shown once, rotated, and the agent deleted", async (t) => {
  await site.dev.call("POST", "/v1/vaults", { name: `Vault ${evil}` });
  const { page } = await site.signedIn(t);
  await page.goto(site.at("agents"));
  await page.getByText("No agents yet").waitFor();
  await accessible(page);
  await page.getByRole("button", { name: "Create an agent" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name").fill(`Deployer ${evil}`);
  await dialog.getByLabel("What it is for").fill(evil);
  await dialog.getByLabel(`Vault ${evil}`).check();
  await dialog.getByLabel("Scopes").fill("/db");
  await dialog.getByText("does not begin or end with a slash").waitFor();
  await dialog.getByLabel("Scopes").fill("db/**\nvaults:read");
  await dialog.getByLabel("A token lives").fill("900");
  await dialog.getByLabel("Its key expires").fill("2089-03-04T05:06");
  await accessible(page);
  await narrow(page);
  await dialog.getByRole("button", { name: "Create the agent" }).click();
  const shown = dialog.getByLabel("the API key", { exact: true });
  const key = await shown.innerText();
  assert.match(key, /^ocv_/);
  assert.ok(await works(key));
  await accessible(page);
  await narrow(page);
  const file = await downloaded(page, () => dialog.getByRole("button", { name: "Download" }).click());
  assert.equal(file.bytes.toString(), `${key}\n`);
  assert.match(file.name, /^Deployer-img-src-x-onerror-alert-1\.api-key\.txt$/);
  await dialog.getByLabel("I have saved the API key").check();
  await dialog.getByRole("button", { name: "Done" }).click();
  await page.getByText("15 minutes").waitFor();
  const listed = async () => (await site.dev.call<{ agents: { id: string }[]; api_keys_expire?: Record<string, string> }>("GET", "/v1/agents"));
  const [id, ends] = await listed().then(({ agents, api_keys_expire }) => [agents[0]!.id, api_keys_expire![agents[0]!.id]!] as const);
  assert.equal(ends, await page.evaluate(() => new Date("2089-03-04T05:06").toISOString().replace(".000", "")));
  await page.getByRole("cell", { name: /^ends in/ }).waitFor();
  assert.equal(await page.getByText(key).count(), 0);
  assert.ok(!(await stored(page)).includes(key));
  await seen(page);
  await accessible(page);
  await narrow(page);
  await shot(page, "agents");

  await page.getByRole("button", { name: /^Rotate key/ }).click();
  await page.getByRole("button", { name: "Rotate the key" }).click();
  const second = await shown.innerText();
  assert.notEqual(second, key);
  assert.deepEqual([await works(key), await works(second)], [false, true]);
  await page.keyboard.press("Escape"); // which must not lose it
  await dialog.getByLabel("I have saved the API key").check();
  await dialog.getByRole("button", { name: "Done" }).click();

  await page.getByRole("button", { name: /^Edit/ }).click();
  assert.equal(await dialog.getByLabel("Its key expires").getAttribute("required"), ""); // it cannot be taken away
  await dialog.getByLabel("Its key expires").fill(await page.evaluate(() => new Date(Date.now() + 3 * 86_400_000 - new Date().getTimezoneOffset() * 60_000).toISOString().slice(0, 16)));
  await dialog.getByLabel("Active").uncheck();
  await dialog.getByLabel("Scopes").fill("");
  await dialog.getByRole("button", { name: "Save" }).click();
  await page.getByText("not active").waitFor();
  await page.getByText(/^ends in [23] days$/).waitFor();
  assert.ok(new Date((await listed()).api_keys_expire![id]!) < new Date(Date.now() + 4 * 86_400_000));
  assert.equal(await works(second), false);
  const [agent] = (await site.dev.call<{ agents: { scopes: string[]; vault_ids: string[] }[] }>("GET", "/v1/agents")).agents;
  assert.deepEqual([agent!.scopes, agent!.vault_ids.length], [[], 1]);

  await page.getByRole("button", { name: /^Delete/ }).click();
  const remove = page.getByRole("button", { name: "Delete the agent" });
  assert.equal(await remove.isDisabled(), true);
  await dialog.getByLabel(/^Type /).fill(`Deployer ${evil}`);
  await remove.click();
  await page.getByText("No agents yet").waitFor();
});

test("many agents come page by page", async (t) => {
  for (let i = 0; i < 53; i++) await site.dev.call("POST", "/v1/agents", { name: `Agent ${i}` });
  const { page } = await site.signedIn(t);
  await page.goto(site.at("agents"));
  const rows = page.getByRole("region", { name: "Agents" }).locator("tbody tr");
  await rows.nth(49).waitFor();
  assert.equal(await rows.count(), 50);
  await page.getByRole("button", { name: "Show more" }).click();
  await rows.nth(52).waitFor();
  assert.equal(await page.getByRole("button", { name: "Show more" }).count(), 0);
});
