// Small charts: SVG that fills its box, coloured by classes (style.css), each a figure with a heading, a
// sentence that says what is in it, and the numbers as a table for screen readers. The drawing is hidden from
// those. Points are in the order of time; what a point is called is its `label`.

import { html } from './vendor/preact-htm.js';

const width = 720;
const left = 40;
const nice = (max) => {
  const unit = 10 ** Math.floor(Math.log10(max || 1));
  return [1, 2, 2.5, 5, 10].map((n) => n * unit).find((n) => n >= max) || 1;
};
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 }).format;

function Figure({ title, summary, legend, points, columns, top, unit = '', height, children }) {
  const middle = points.length >> 1;
  const marks = points.length > 2 ? [[0, 'start'], [middle, 'middle'], [points.length - 1, 'end']] : [];
  const x = (i) => left + ((width - left) * (i + 0.5)) / points.length;
  return html`<figure class="chart">
    <figcaption><h3>${title}</h3><ul class="legend">${legend.map(([name, label]) => html`<li><svg viewBox="0 0 10 10" aria-hidden="true">${
      name.startsWith('c-line') ? html`<path class=${name} d="M0 5H10" />` : html`<rect class=${name} width="10" height="10" rx="2" />`}</svg>${label}</li>`)}</ul></figcaption>
    <p class="small muted">${summary}</p>
    <svg viewBox=${`0 0 ${width} ${height + 20}`} aria-hidden="true">
      ${[0, 0.5, 1].map((part) => html`<line class="c-axis" x1=${left} x2=${width} y1=${height * part + 1} y2=${height * part + 1} />
        <text x=${left - 6} y=${height * part + 5} text-anchor="end">${short(top * (1 - part))}${part < 1 ? unit : ''}</text>`)}
      ${children}
      ${marks.map(([i, anchor]) => html`<text x=${i && i < points.length - 1 ? x(i) : i ? width : left} y=${height + 17} text-anchor=${anchor}>${points[i].label}</text>`)}
    </svg>
    <div class="visually-hidden"><table><caption>${title}</caption>
      <thead><tr><th scope="col">Time</th>${columns.map(([, label]) => html`<th scope="col">${label}</th>`)}</tr></thead>
      <tbody>${points.map((point) => html`<tr><th scope="row">${point.label}</th>${columns.map(([key]) => html`<td>${point[key] ?? '–'}</td>`)}</tr>`)}</tbody>
    </table></div>
  </figure>`;
}

/**
 * Successes and failures stacked, a bar for each point.
 * @param {{title: string, points: {label: string, success: number, fail: number}[], height?: number}} props
 */
export function Bars({ title, points, height = 140, names = ['Succeeded', 'Failed'] }) {
  const top = nice(Math.max(1, ...points.map((p) => p.success + p.fail)));
  const sum = (key) => points.reduce((all, p) => all + p[key], 0);
  const step = (width - left) / Math.max(1, points.length);
  const bar = Math.min(28, Math.max(1, step * 0.72));
  const h = (value) => (value && Math.max(1.5, (value / top) * height));
  return html`<${Figure} title=${title} points=${points} top=${top} height=${height}
    legend=${[['c-success', names[0]], ['c-fail', names[1]]]} columns=${[['success', names[0]], ['fail', names[1]]]}
    summary=${`${sum('success').toLocaleString('en')} ${names[0].toLowerCase()}, ${sum('fail').toLocaleString('en')} ${names[1].toLowerCase()}`}>
    ${points.map((p, i) => {
      const x = left + step * i + (step - bar) / 2;
      const good = h(p.success);
      const bad = h(p.fail);
      return html`<g><title>${`${p.label}: ${p.success} ${names[0].toLowerCase()}, ${p.fail} ${names[1].toLowerCase()}`}</title>
        <rect x=${x} y="0" width=${bar} height=${height} fill="transparent" />
        <rect class="c-success" x=${x} y=${height - good} width=${bar} height=${good} />
        <rect class="c-fail" x=${x} y=${height - good - bad} width=${bar} height=${bad} /></g>`;
    })}<//>`;
}

/**
 * One line with, where points have `high`, a band up to it; null leaves a gap.
 * @param {{title: string, points: {label: string, value: number|null, high?: number|null}[], names: [string, string?], unit?: string, height?: number}} props
 */
export function Line({ title, points, names, unit = '', height = 140 }) {
  const has = points.filter((p) => p.value != null);
  const top = nice(Math.max(0.001, ...has.map((p) => p.high ?? p.value)));
  const x = (i) => left + ((width - left) * (i + 0.5)) / points.length;
  const y = (value) => height - (value / top) * height + 1;
  const runs = [[]];
  points.forEach((p, i) => (p.value == null ? runs.push([]) : runs.at(-1).push([i, p])));
  const drawn = runs.filter((run) => run.length);
  const to = (run, key) => run.map(([i, p]) => `${x(i).toFixed(1)},${y(p[key] ?? p.value).toFixed(1)}`).join('L');
  const last = has.at(-1);
  return html`<${Figure} title=${title} points=${points} top=${top} unit=${unit} height=${height}
    legend=${[['c-line', names[0]], ...(names[1] ? [['c-band', names[1]]] : [])]} columns=${[['value', names[0] + unit], ...(names[1] ? [['high', names[1] + unit]] : [])]}
    summary=${last ? `Last ${short(last.value)}${unit}, at most ${short(Math.max(...has.map((p) => p.high ?? p.value)))}${unit}` : 'Nothing yet'}>
    ${names[1] && drawn.map((run) => html`<path class="c-band" d=${`M${to(run, 'high')}L${to([...run].reverse(), 'value')}Z`} />`)}
    ${drawn.map((run) => (run.length > 1 ? html`<path class="c-line" d=${`M${to(run, 'value')}`} />`
      : html`<circle class="c-dot" r="3" cx=${x(run[0][0])} cy=${y(run[0][1].value)} />`))}<//>`;
}

/** How many of how many succeeded, as a bar the width of its box with its text beside it. */
export function Rate({ success, fail }) {
  const all = success + fail;
  if (!all) return html`<span class="muted">No attempts</span>`;
  const part = success / all;
  const text = `${part === 1 ? '100' : Math.min(99.9, part * 100).toFixed(1).replace(/\.0$/, '')} %`;
  return html`<span class="row rate"><svg class="meter" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
    <rect class="c-fail" width="100" height="6" /><rect class="c-success" width=${part * 100} height="6" /></svg><span class="num" title=${`${success} succeeded, ${fail} failed`}>${text}</span></span>`;
}

/** A line without axes, as high as the text: values in the order of time, and what to call it. */
export function Sparkline({ values, label }) {
  const top = Math.max(1, ...values);
  const at = values.map((value, i) => `${((i / Math.max(1, values.length - 1)) * 100).toFixed(1)},${(19 - (value / top) * 18).toFixed(1)}`);
  return html`<svg class="spark" viewBox="0 0 100 20" preserveAspectRatio="none" role="img" aria-label=${label}><path class="c-line" d=${`M${at.join('L')}`} /></svg>`;
}
