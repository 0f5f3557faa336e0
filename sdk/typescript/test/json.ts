// JSON whose integers keep their digits, alone and in the metadata of secrets.

import { createClient, formatJson, parseJson } from "@keyfold/sdk";
import { data, equal, failure, ok, same, type Case } from "./suite.js";

export const json: Case[] = [
  {
    name: "integers that no number holds keep their digits, and nothing else changes",
    run: async () => {
      const texts = [
        `{"a":12345678901234567890,"b":-9007199254740993,"c":9007199254740991,"d":1.5,"e":[1,18446744073709551616]}`,
        `{"a":"12345678901234567890","b\\"12345678901234567890":"\\\\"}`,
        `"\\"12345678901234567890"`,
        `123456789012345678901234567890`,
        `[1e400,0.1234567890123456]`,
        `{"value":"${"1234567890123456\\n".repeat(100_000)}","n":9007199254740993}`,
      ];
      for (const text of texts) equal(formatJson(parseJson(text)).replace("null", "1e400"), text);
      same((parseJson(texts[0]!) as Record<string, unknown>)["c"], 9007199254740991);
      equal(typeof (parseJson(texts[0]!) as Record<string, unknown>)["a"], "bigint");
      equal(formatJson({ n: 5n, s: "5" }, 1), '{\n "n": 5,\n "s": "5"\n}');
      for (const bad of ["", "{", '"1234567890123456', "1234567890123456 1", '{"a":1234567890123456789,}']) ok((await failure(Promise.resolve().then(() => parseJson(bad)))) instanceof SyntaxError, bad);
    },
  },
  {
    name: "large integers in metadata are read, and written again, as they were",
    run: async (w) => {
      const client = createClient({ baseUrl: w.server.url, apiKey: w.server.api_key, cmekKey: false });
      const v = data(await client.vault.create({ name: "digits" })).id;
      const url = `${w.server.url}/v1/vaults/${v}/secrets/a`;
      const headers = { Authorization: `Bearer ${w.server.api_key}`, "Content-Type": "application/json" };
      await fetch(url, { method: "PUT", headers, body: `{"value":"x","metadata":{"id":12345678901234567890,"n":7}}` });
      const before = data(await client.secrets.list(v)).secrets[0]!.metadata!;
      equal(before["id"], 12345678901234567890n);
      equal(before["n"], 7);
      data(await client.secrets.put(v, "a", { value: "y", metadata: { ...before, more: "text" } }));
      const text = await (await fetch(url, { headers })).text();
      ok(text.includes(`"id":12345678901234567890`), text);
      equal(data(await client.secrets.get(v, "a")).metadata!["id"], 12345678901234567890n);
      equal(data(await client.secrets.listVersions(v, "a")).versions[1]!.metadata!["id"], 12345678901234567890n);
    },
  },
];
