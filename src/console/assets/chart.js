// Small charts: SVG as wide as its box, coloured by classes (style.css). Each is a figure with a heading, a
// sentence that says what is in it and, for screen readers, the numbers as a table in place of the drawing.
// Points are in the order of time, each with its `label`.

import { html, useLayoutEffect, useRef, useState } from './vendor/preact-htm.js';

const left = 52;
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 }).format;
/** 250 ms, 1.5 s, 20K */
const tick = (value, unit) => (unit === ' ms' && value >= 1000 ? `${short(value / 1000)} s` : short(value) + unit);
const roundUp = (max) => {
  const unit = 10 ** Math.floor(Math.log10(max));
  return [1, 2, 2.5, 5, 10].find((n) => n * unit >= max) * unit;
};

/** The frame of a chart; draw({x, y, step}) gives what is in it. series: [class, label, key of the points]. */
function Chart({ title, summary, series, points, max, unit = '', height = 140, draw }) {
  const box = useRef();
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const seen = new ResizeObserver(() => setWidth(box.current.clientWidth));
    seen.observe(box.current);
    setWidth(box.current.clientWidth);
    return () => seen.disconnect();
  }, []);
  const isEmpty = !(max > 0 && max < Infinity);
  const top = roundUp(isEmpty ? 1 : max);
  const step = Math.max(0, width - left) / points.length;
  const x = (i) => left + step * (i + 0.5);
  const y = (value) => height - (value / top) * height + 1;
  const last = points.length - 1;
  const some = points.filter((_, i) => i % Math.ceil(points.length / 60) === 0);
  return html`<figure class="chart">
    <figcaption><h3>${title}</h3><ul class="legend">${series.map(([name, label]) => html`<li><svg viewBox="0 0 10 10" aria-hidden="true"><rect class=${name} y=${name.startsWith('c-line') ? 4 : 0} width="10" height=${name.startsWith('c-line') ? 2 : 10} /></svg>${label}</li>`)}</ul></figcaption>
    <p class="small muted">${summary}</p>
    <svg ref=${box} height=${height + 20} aria-hidden="true">${width > 0 && html`
      ${[0, 0.5, 1].map((part) => html`<line class="c-axis" x1=${left} x2=${width} y1=${y(top * part)} y2=${y(top * part)} />${(!part || !isEmpty) && html`<text x=${left - 6} y=${y(top * part) + 4} text-anchor="end">${part ? tick(top * part, unit) : 0}</text>`}`)}
      ${draw({ x, y, step })}
      ${[[0, left, 'start'], [last >> 1, x(last >> 1), 'middle'], [last, width, 'end']].map(([i, at, anchor]) => (i > 0 || anchor === 'start') && html`<text x=${at} y=${height + 17} text-anchor=${anchor}>${points[i]?.label}</text>`)}`}
    </svg>
    <div class="visually-hidden"><table><caption>${title}</caption>
      <tr><th scope="col">Time</th>${series.map(([, label]) => html`<th scope="col">${label}${unit}</th>`)}</tr>
      ${some.map((point) => html`<tr><th scope="row">${point.label}</th>${series.map(([, , key]) => html`<td>${point[key] ?? '–'}</td>`)}</tr>`)}
    </table></div></figure>`;
}

/**
 * Successes and failures, a stacked bar for each point.
 * @param {{title: string, points: {label: string, success: number, fail: number}[], names?: [string, string], height?: number}} props
 */
export function Bars({ points, names = ['Succeeded', 'Failed'], ...rest }) {
  const say = ({ success, fail }) => `${short(success)} ${names[0].toLowerCase()}, ${short(fail)} ${names[1].toLowerCase()}`;
  const sum = (key) => points.reduce((all, point) => all + point[key], 0);
  return html`<${Chart} points=${points} max=${Math.max(2, ...points.map((p) => p.success + p.fail))}
    series=${[['c-success', names[0], 'success'], ['c-fail', names[1], 'fail']]} summary=${say({ success: sum('success'), fail: sum('fail') })} ...${rest}
    draw=${({ x, y, step }) => points.map((p, i) => {
      const wide = Math.min(28, Math.max(1, step * 0.72));
      const bar = (name, from, to) => html`<rect class=${name} x=${x(i) - wide / 2} width=${wide} y=${y(to)} height=${to > from ? Math.max(1.5, y(from) - y(to)) : 0} />`;
      return html`<g><title>${`${p.label}: ${say(p)}`}</title>${bar('c-hit', 0, p.success + p.fail)}${bar('c-success', 0, p.success)}${bar('c-fail', p.success, p.success + p.fail)}</g>`;
    })} />`;
}

/**
 * A line and, where there are two names, a band from `value` up to `high`; null leaves a gap.
 * @param {{title: string, points: {label: string, value: number|null, high?: number|null}[], names: [string, string?], unit?: string, height?: number}} props
 */
export function Line({ points, names, unit = '', ...rest }) {
  const has = points.filter((p) => p.value != null);
  const max = Math.max(0, ...has.map((p) => p.high ?? p.value));
  const runs = [[]];
  points.forEach((p, i) => (p.value == null ? runs.push([]) : runs.at(-1).push([i, p])));
  return html`<${Chart} ...${rest} points=${points} unit=${unit} max=${max}
    series=${[['c-line', names[0], 'value'], ...(names[1] ? [['c-band', names[1], 'high']] : [])]}
    summary=${has.length ? `Last ${tick(has.at(-1).value, unit)}, at most ${tick(max, unit)}` : 'Nothing yet'}
    draw=${({ x, y }) => runs.filter((run) => run.length).map((run) => {
      const to = (part, key) => part.map(([i, p]) => `${x(i).toFixed(1)} ${y(p[key] ?? p.value).toFixed(1)}`).join('L');
      return html`${names[1] && html`<path class="c-band" d=${`M${to(run, 'high')}L${to([...run].reverse(), 'value')}Z`} />`}
        ${run.length > 1 ? html`<path class="c-line" d=${`M${to(run, 'value')}`} />` : html`<circle class="c-dot" r="3" cx=${x(run[0][0])} cy=${y(run[0][1].value)} />`}`;
    })} />`;
}

/** Several lines, each of its own kind: series = [['c-line', label, key of the points], ['c-line bad', …]]. */
export const Lines = ({ points, series, ...rest }) => html`<${Chart} ...${rest} points=${points} series=${series} max=${Math.max(...points.flatMap((p) => series.map(([, , key]) => p[key])))}
  draw=${({ x, y }) => series.map(([kind, , key]) => points.length > 0 && html`<path class=${kind} d=${`M${points.map((p, i) => `${x(i).toFixed(1)} ${y(p[key]).toFixed(1)}`).join('L')}${points.length > 1 ? '' : 'm-4 0h8'}`} />`)} />`;

/** How many of how many succeeded: a small bar and the percentage. */
export function Rate({ success, fail }) {
  const all = success + fail;
  if (!all) return html`<span class="muted">No attempts</span>`;
  const part = (100 * success) / all;
  return html`<span class="row rate" title=${`${success} succeeded, ${fail} failed`}><svg class="meter" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
    <rect class="c-fail" width="100" height="6" /><rect class="c-success" width=${part} height="6" /></svg><span class="num">${part > 99.9 && fail ? 99.9 : +part.toFixed(1)} %</span></span>`;
}
