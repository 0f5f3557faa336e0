// Addresses and networks as policies name them, by the rules of the server's
// package access: what is IPv4 in the clothes of IPv6 is IPv4.

/** An address: its family and its number. */
export interface Address {
  bits: 32 | 128;
  value: bigint;
}

/** The addresses from first to last, of one family. */
export interface Network {
  bits: 32 | 128;
  first: bigint;
  last: bigint;
}

const mapped = 0xffffn << 32n; // ::ffff:0:0

/** Reads "192.0.2.7" or "2001:db8::7"; undefined: it is none. */
export function parseAddress(text: string): Address | undefined {
  const value = text.includes(":") ? parseV6(text) : parseV4(text);
  if (value === undefined) return undefined;
  if (!text.includes(":")) return { bits: 32, value };
  return value >> 32n === mapped >> 32n ? { bits: 32, value: value & 0xffffffffn } : { bits: 128, value };
}

/** Reads an address, or a network such as "10.0.0.0/8"; undefined: it is none. */
export function parseNetwork(text: string): Network | undefined {
  const [host = "", length, ...rest] = text.split("/");
  const address = parseAddress(host);
  if (!address || rest.length > 0) return undefined;
  if (length === undefined) return { bits: address.bits, first: address.value, last: address.value };
  const written = host.includes(":") ? 128 : 32;
  const free = /^(0|[1-9]\d{0,2})$/.test(length) ? written - Number(length) : -1;
  if (free < 0 || free > address.bits) return undefined;
  const first = (address.value >> BigInt(free)) << BigInt(free);
  return { bits: address.bits, first, last: first + (1n << BigInt(free)) - 1n };
}

export function contains(network: Network, address: Address): boolean {
  return network.bits === address.bits && network.first <= address.value && address.value <= network.last;
}

/**
 * Addresses of which each stands for all that are in the same ones of the networks:
 * where the networks begin, where what is behind them begins, and the two least.
 */
export function samples(networks: readonly Network[]): Address[] {
  const out = new Map<string, Address>();
  const add = (bits: 32 | 128, value: bigint) => value < 1n << BigInt(bits) && out.set(`${bits} ${value}`, { bits, value });
  add(32, 0n);
  add(128, 0n);
  for (const n of networks) {
    add(n.bits, n.first);
    add(n.bits, n.last + 1n);
  }
  return [...out.values()];
}

function parseV4(text: string): bigint | undefined {
  const parts = text.split(".");
  if (parts.length !== 4 || parts.some((p) => !/^(0|[1-9]\d{0,2})$/.test(p) || Number(p) > 255)) return undefined;
  return parts.reduce((sum, p) => (sum << 8n) + BigInt(p), 0n);
}

function parseV6(text: string): bigint | undefined {
  const [head = "", tail, ...rest] = text.split("::");
  if (rest.length > 0) return undefined;
  const left = groups(head, tail === undefined);
  const right = tail === undefined ? [] : groups(tail, true);
  if (!left || !right) return undefined;
  const missing = 8 - left.length - right.length;
  if (tail === undefined ? missing !== 0 : missing < 1) return undefined;
  return [...left, ...Array<bigint>(missing).fill(0n), ...right].reduce((sum, g) => (sum << 16n) + g, 0n);
}

/** The groups of 16 bits of a part of an IPv6 address; the last two may be written as IPv4 where it ends. */
function groups(text: string, ends: boolean): bigint[] | undefined {
  if (text === "") return [];
  const parts = text.split(":");
  const v4 = ends && parts.at(-1)!.includes(".") ? parseV4(parts.at(-1)!) : undefined;
  if (v4 !== undefined) parts.pop();
  if (parts.some((p) => !/^[0-9a-fA-F]{1,4}$/.test(p))) return undefined;
  return [...parts.map((p) => BigInt(`0x${p}`)), ...(v4 === undefined ? [] : [v4 >> 16n, v4 & 0xffffn])];
}
