// The colours of the dashboard: text is read, and edges are seen, in light and in dark.

import assert from "node:assert/strict";
import { test } from "node:test";
import { start } from "./harness.js";

const site = await start();

const grounds = ["sheet", "ground", "well"];
const pairs: [front: string, back: string, least: number][] = [
  ...["text", "quiet", "accent", "good", "warn", "bad"].flatMap((front) => grounds.map((back): [string, string, number] => [front, back, 4.5])),
  ...["good", "warn", "bad"].map((name): [string, string, number] => [name, `${name}-ground`, 4.5]),
  ["accent", "sealed-ground", 4.5], ["quiet", "sealed-ground", 4.5], ["text", "sealed-ground", 4.5], ["on-accent", "accent", 4.5],
  ...grounds.map((back): [string, string, number] => ["edge", back, 3]),
  ...["accent", "good", "bar-warn", "bar-bad"].map((front): [string, string, number] => [front, "sheet", 3]),
];

/** Of "rgb(1, 2, 3)", by WCAG. */
function luminance(colour: string): number {
  const [r = 0, g = 0, b = 0] = (colour.match(/[\d.]+/g) ?? []).map((n) => Number(n) / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

for (const colorScheme of ["light", "dark"] as const) {
  test(`the colours have enough contrast, ${colorScheme}`, async (t) => {
    const { page } = await site.open(t, { colorScheme });
    await page.getByLabel("Email").waitFor();
    const names = [...new Set(pairs.flatMap(([front, back]) => [front, back]))];
    const colours = await page.evaluate((all) => {
      const probe = document.body.appendChild(document.createElement("p"));
      const found = all.map((name) => [name, ((probe.style.color = `var(--${name})`), getComputedStyle(probe).color)] as const);
      probe.remove();
      return Object.fromEntries(found);
    }, names);
    for (const [front, back, least] of pairs) {
      const [high, low] = [luminance(colours[front]!), luminance(colours[back]!)].sort((a, b) => b - a);
      const contrast = (high! + 0.05) / (low! + 0.05);
      assert.match(colours[front]!, /^rgb\(/, front);
      assert.ok(contrast >= least, `${front} on ${back} has ${contrast.toFixed(2)}, wants ${least}`);
    }
  });
}
