// A QR code, drawn as SVG. What encodes it is loaded when one is shown.

import { useEffect, useState } from "preact/hooks";

/** A path over the dark fields of a code, and its width and height in fields, with the margin that it must have. */
interface Code {
  size: number;
  dark: string;
}

/** Draws text: dark on white whatever the page's colours, since many cameras read nothing else. */
export function Qr({ text, label }: { text: string; label: string }) {
  const [code, setCode] = useState<Code>();
  useEffect(() => {
    void import("./encode.js").then(({ encode }) => setCode(drawn(encode(text, { ecc: "M", border: 4 }))), () => undefined); // without it there is the text
  }, [text]);
  if (!code) return <div class="qr" />;
  return (
    <svg class="qr" viewBox={`0 0 ${code.size} ${code.size}`} role="img" aria-label={label} shape-rendering="crispEdges">
      <rect width="100%" height="100%" fill="#fff" />
      <path fill="#000" d={code.dark} />
    </svg>
  );
}

function drawn({ size, data }: { size: number; data: boolean[][] }): Code {
  const fields = data.flatMap((row, y) => row.flatMap((dark, x) => (dark ? [`M${x} ${y}h1v1h-1z`] : [])));
  return { size, dark: fields.join("") };
}
