// Makes a PNG of a browser small: 256 colours, which is enough for pages, packed well.

import { crc32, deflateSync, inflateSync } from "node:zlib";

interface Pixels {
  width: number;
  height: number;
  /** Red, green and blue of each, as 0xRRGGBB. */
  colours: Uint32Array;
}

const signature = Buffer.from("\x89PNG\r\n\x1a\n", "latin1");

/** The same image with the 256 colours that it has most of; each other one becomes the nearest of them. */
export function small(png: Buffer): Buffer {
  const { width, height, colours } = decode(png);
  const count = new Map<number, number>();
  for (const c of colours) count.set(c, (count.get(c) ?? 0) + 1);
  const kept = [...count].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, 256).map(([c]) => c);
  const index = new Map([...count.keys()].map((c) => [c, nearest(c, kept)]));
  const lines = Buffer.alloc(height * (width + 1)); // each begins with 0, no filter
  colours.forEach((c, i) => (lines[Math.floor(i / width) * (width + 1) + 1 + (i % width)] = index.get(c)!));
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 3, 0, 0, 0], 8); // 8 bits, a palette
  const palette = Buffer.from(kept.flatMap((c) => [c >> 16, (c >> 8) & 255, c & 255]));
  return Buffer.concat([signature, chunk("IHDR", head), chunk("PLTE", palette), chunk("IDAT", deflateSync(lines, { level: 9, memLevel: 9 })), chunk("IEND", Buffer.alloc(0))]);
}

function nearest(c: number, kept: readonly number[]): number {
  const far = (k: number) => ((k >> 16) - (c >> 16)) ** 2 + (((k >> 8) & 255) - ((c >> 8) & 255)) ** 2 + ((k & 255) - (c & 255)) ** 2;
  let best = 0;
  for (let i = 1; i < kept.length; i++) if (far(kept[i]!) < far(kept[best]!)) best = i;
  return best;
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const out = Buffer.alloc(body.length + 8);
  out.writeUInt32BE(data.length, 0);
  body.copy(out, 4);
  out.writeUInt32BE(crc32(body), body.length + 4);
  return out;
}

/** Reads what Chromium writes: 8 bits of red, green and blue, with or without an alpha that is full. */
function decode(png: Buffer): Pixels {
  const parts: Buffer[] = [];
  for (let at = 8; at < png.length; at += 12 + png.readUInt32BE(at)) {
    if (png.toString("latin1", at + 4, at + 8) === "IDAT") parts.push(png.subarray(at + 8, at + 8 + png.readUInt32BE(at)));
  }
  const [width, height, kind] = [png.readUInt32BE(16), png.readUInt32BE(20), png[25]];
  if (png[24] !== 8 || (kind !== 2 && kind !== 6)) throw new Error(`a PNG of ${png[24]} bits and kind ${kind}`);
  const step = kind === 2 ? 3 : 4;
  const row = width * step;
  const raw = inflateSync(Buffer.concat(parts));
  const colours = new Uint32Array(width * height);
  let above = Buffer.alloc(row);
  for (let y = 0; y < height; y++) {
    const line = raw.subarray(y * (row + 1) + 1, (y + 1) * (row + 1));
    unfilter(line, above, raw[y * (row + 1)]!, step);
    for (let x = 0; x < width; x++) colours[y * width + x] = (line[x * step]! << 16) | (line[x * step + 1]! << 8) | line[x * step + 2]!;
    above = line;
  }
  return { width, height, colours };
}

/** Undoes the filter of a line (PNG, section 9). */
function unfilter(line: Buffer, above: Buffer, filter: number, step: number): void {
  for (let i = 0; i < line.length; i++) {
    const [a, b, c] = [i < step ? 0 : line[i - step]!, above[i]!, i < step ? 0 : above[i - step]!];
    const add = [0, a, b, (a + b) >> 1, paeth(a, b, c)][filter]!;
    line[i] = (line[i]! + add) & 255;
  }
}

function paeth(a: number, b: number, c: number): number {
  const [pa, pb, pc] = [Math.abs(b - c), Math.abs(a - c), Math.abs(a + b - 2 * c)];
  return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}
