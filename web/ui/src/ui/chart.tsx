// Small charts of bars over time, in SVG. Each has a title, says in words what it
// shows, and has its numbers in a table as well.

import { useId } from "preact/hooks";
import { Table } from "./parts.js";

/** One kind of bar; those of one moment stand on each other, the first at the bottom. */
export interface Series {
  name: string;
  kind: "plain" | "good" | "warn" | "bad";
}

/** What was at one moment: a number for each series. */
export interface Moment {
  label: string;
  values: number[];
}

const width = 600;
const height = 120;
const numbers = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });

export interface ChartProps {
  title: string;
  /** What one bar stands for: "Events per hour". */
  unit: string;
  series: readonly Series[];
  moments: readonly Moment[];
}

export function Chart({ title, unit, series, moments }: ChartProps) {
  const id = useId();
  const sums = moments.map((m) => m.values.reduce((a, b) => a + b, 0));
  const top = Math.max(1, ...sums);
  const all = series.map((s, i) => `${s.name} ${numbers.format(moments.reduce((n, m) => n + (m.values[i] ?? 0), 0))}`);
  return (
    <figure class="chart">
      <figcaption>
        <strong>{title}</strong>
        <span class="quiet">
          {unit}, at most {numbers.format(top)}
        </span>
      </figcaption>
      <svg viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-labelledby={`${id}-title ${id}-desc`}>
        <title id={`${id}-title`}>{title}</title>
        <desc id={`${id}-desc`}>
          {unit}, from {moments[0]?.label} to {moments.at(-1)?.label}. In all: {all.join(", ")}.
        </desc>
        <Bars series={series} moments={moments} top={top} />
        <line x1="0" x2={width} y1={height} y2={height} vector-effect="non-scaling-stroke" />
      </svg>
      <p class="axis" aria-hidden="true">
        <span>{moments[0]?.label}</span>
        <span>{moments.at(-1)?.label}</span>
      </p>
      <Legend series={series} />
      <details>
        <summary>The numbers</summary>
        <Table label={`${title}, as numbers`} columns={["Time", ...series.map((s) => s.name)]}>
          {moments.map((m) => (
            <tr key={m.label}>
              <th scope="row">{m.label}</th>
              {m.values.map((v, i) => (
                <td key={series[i]?.name}>{numbers.format(v)}</td>
              ))}
            </tr>
          ))}
        </Table>
      </details>
    </figure>
  );
}

function Bars({ series, moments, top }: { series: readonly Series[]; moments: readonly Moment[]; top: number }) {
  const step = width / Math.max(1, moments.length);
  const scale = (height - 2) / top;
  return (
    <>
      {moments.map((m, x) => {
        let y = height;
        return (
          <g key={m.label}>
            {m.values.map((v, i) => {
              const h = v * scale;
              y -= h;
              return v > 0 && <rect key={i} class={series[i]?.kind} x={x * step + step * 0.1} y={y} width={step * 0.8} height={h} />;
            })}
          </g>
        );
      })}
    </>
  );
}

function Legend({ series }: { series: readonly Series[] }) {
  if (series.length < 2) return null;
  return (
    <ul class="legend" aria-hidden="true">
      {series.map((s) => (
        <li key={s.name} class={s.kind}>
          {s.name}
        </li>
      ))}
    </ul>
  );
}
