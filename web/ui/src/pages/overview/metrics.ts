// Reading of the Prometheus text format: as much as the overview needs.

/** The sum of all samples of a metric whose labels hold a text such as status="running". */
export function sumOf(text: string, name: string, label = ""): number {
  let sum = 0;
  for (const line of text.split("\n")) {
    const [, metric, labels = "", value] = /^([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)/.exec(line) ?? [];
    if (metric === name && labels.includes(label)) sum += Number(value) || 0;
  }
  return sum;
}
