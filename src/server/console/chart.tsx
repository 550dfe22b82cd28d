import { useEffect, useRef } from 'preact/hooks';
import UPlot from 'uplot';

/** By name, a value a second, the latest last; null: there is none. */
type Lines = Readonly<Record<string, readonly (number | null)[]>>;

const height = 132;
const scheme = matchMedia('(prefers-color-scheme: dark)');

/** Lines over the last seconds, as many as the longest has values. */
export function Chart(props: {
  title: string;
  lines: Lines;
  format(value: number): string;
  seconds: number;
}) {
  const { title, lines, format, seconds } = props;
  const names = Object.keys(lines);
  const element = useRef<HTMLDivElement>(null);
  const plot = useRef<UPlot>(undefined);
  const x = Array.from({ length: seconds }, (_, index) => index - seconds + 1);
  const data = [x, ...Object.values(lines).map((values) => pad(values, seconds))] as UPlot.AlignedData;
  const latest = useRef(data);
  latest.current = data;

  // biome-ignore lint/correctness/useExhaustiveDependencies: what is drawn is given below; only its form is made here.
  useEffect(() => {
    const parent = element.current;
    if (parent === null) return;
    const draw = () => {
      plot.current?.destroy();
      plot.current = new UPlot(describe(parent, names, format), latest.current, parent);
    };
    draw();
    const resizes = new ResizeObserver(() => plot.current?.setSize({ width: parent.clientWidth, height }));
    resizes.observe(parent);
    scheme.addEventListener('change', draw);
    return () => {
      resizes.disconnect();
      scheme.removeEventListener('change', draw);
      plot.current?.destroy();
    };
  }, []);
  useEffect(() => plot.current?.setData(data));

  const now = names.map((name) => {
    const last = lines[name]?.at(-1) ?? null;
    return { name, text: last === null ? '–' : format(last) };
  });
  return (
    <figure class="chart">
      <figcaption>
        <h2>{title}</h2>
        {now.map(({ name, text }, index) => (
          <span key={name} class={`legend line${index + 1}`}>
            {name} <b>{text}</b>
          </span>
        ))}
      </figcaption>
      <div
        ref={element}
        class="plot"
        role="img"
        aria-label={`${title}, the last ${seconds} seconds: ${now.map(({ name, text }) => `${name} ${text}`).join(', ')}`}
      />
    </figure>
  );
}

function pad(values: readonly (number | null)[], length: number): (number | null)[] {
  const taken = values.slice(-length);
  return [...Array.from({ length: length - taken.length }, () => null), ...taken];
}

function describe(
  parent: HTMLElement,
  names: readonly string[],
  format: (value: number) => string,
): UPlot.Options {
  const style = getComputedStyle(parent);
  const color = (name: string) => style.getPropertyValue(name).trim();
  const axis = { stroke: color('--dim'), font: '11px system-ui', ticks: { show: false } };
  return {
    width: parent.clientWidth,
    height,
    padding: [8, 16, 0, 0],
    cursor: { show: false },
    legend: { show: false },
    scales: { x: { time: false }, y: { range: (_plot, _min, max) => [0, max > 0 ? max * 1.1 : 1] } },
    axes: [
      {
        ...axis,
        grid: { show: false },
        size: 22,
        values: (_plot, at) => at.map((value) => (value === 0 ? 'now' : `${value} s`)),
      },
      {
        ...axis,
        grid: { stroke: color('--line'), width: 1 },
        size: 68,
        values: (_plot, at) => at.map(format),
      },
    ],
    series: [
      {},
      ...names.map((label, index) => ({
        label,
        stroke: color(`--line${index + 1}`),
        width: 1.5,
        points: { show: false },
      })),
    ],
  };
}
