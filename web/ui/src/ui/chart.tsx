// Small charts of bars over time, in SVG. Each has a title, says in words what it
// shows, has its numbers in a table as well, and those of one bar under the pointer.

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

/** The least of 1, 2, 5, 10, 20, 50, ... that is not below n. */
export function roundUp(n: number): number {
  for (let power = 1; ; power *= 10) for (const step of [1, 2, 5]) if (step * power >= n) return step * power;
}

export function Chart({ title, unit, series, moments }: ChartProps) {
  const id = useId();
  const most = Math.max(0, ...moments.map((m) => m.values.reduce((a, b) => a + b, 0)));
  const top = roundUp(most);
  return (
    <figure class="chart">
      <figcaption>
        <strong>{title}</strong>
        <span class="quiet">{unit}</span>
      </figcaption>
      <div class="plot">
        <span aria-hidden="true">
          {[top, top / 2, 0].map((n) => (
            <i key={n}>{numbers.format(n)}</i>
          ))}
        </span>
        <svg viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-labelledby={`${id}-title`} aria-describedby={`${id}-desc`}>
          <title id={`${id}-title`}>{title}</title>
          <desc id={`${id}-desc`}>{inWords(unit, series, moments, most)}</desc>
          {[0.5, height / 2, height - 0.5].map((y) => (
            <line key={y} x1="0" x2={width} y1={y} y2={y} vector-effect="non-scaling-stroke" />
          ))}
          <Bars series={series} moments={moments} top={top} />
        </svg>
        <p aria-hidden="true">
          <span>{moments[0]?.label}</span>
          <span>{moments.at(-1)?.label}</span>
        </p>
      </div>
      <Legend series={series} />
      <Numbers title={title} series={series} moments={moments} />
    </figure>
  );
}

function inWords(unit: string, series: readonly Series[], moments: readonly Moment[], most: number): string {
  const all = series.map((s, i) => `${s.name} ${numbers.format(moments.reduce((n, m) => n + (m.values[i] ?? 0), 0))}`);
  return `${unit}, from ${moments[0]?.label} to ${moments.at(-1)?.label}. At most ${numbers.format(most)}. In all: ${all.join(", ")}.`;
}

const valuesOf = (m: Moment, series: readonly Series[]) => series.map((s, i) => `${s.name} ${numbers.format(m.values[i] ?? 0)}`).join(", ");

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
              const h = v > 0 ? Math.max(2, v * scale) : 0; // what is there is seen
              y -= h;
              return v > 0 && <rect key={i} class={series[i]?.kind} x={x * step + step * 0.1} y={Math.max(0, y)} width={step * 0.8} height={h} />;
            })}
            <rect class="hit" x={x * step} y="0" width={step} height={height}>
              <title>{`${m.label}: ${valuesOf(m, series)}`}</title>
            </rect>
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

function Numbers({ title, series, moments }: Omit<ChartProps, "unit">) {
  return (
    <details>
      <summary>The numbers</summary>
      <Table label={`${title}, as numbers`} columns={["Time", ...series.map((s) => ({ name: s.name, kind: "num" as const }))]}>
        {moments.map((m) => (
          <tr key={m.label}>
            <th scope="row">{m.label}</th>
            {m.values.map((v, i) => (
              <td key={series[i]?.name} class="num">
                {numbers.format(v)}
              </td>
            ))}
          </tr>
        ))}
      </Table>
    </details>
  );
}
