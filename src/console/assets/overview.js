// The console's first screen: what is wrong right now, and how the server does.

import { api } from './api.js';
import { Line, Lines } from './chart.js';
import { AllHeld } from './hold.js';
import { AppLink, EndpointLink } from './operator.js';
import { Badge, Loaded, Page, Time, base, count, duration, html, useLoad } from './ui.js';

const clock = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' }).format;
const bytes = (n) => {
  const unit = Math.max(0, Math.min(4, Math.floor(Math.log2(n) / 10)));
  return `${+(n / 1024 ** unit).toFixed(1)} ${['bytes', 'KiB', 'MiB', 'GiB', 'TiB'][unit]}`;
};

export default function Overview() {
  const status = useLoad((signal) => api('GET', '/status', null, { signal }), [], { every: 5000 });
  // What is the whole server's is told to the owner of its first organisation alone.
  return html`<${Page} title="Overview"><${Loaded} of=${{ ...status, loading: false }}>${(now) => html`<div class="stack">
    ${now.holds && html`<${AllHeld} of=${now.holds} reload=${status.reload} />`}<${Problems} of=${now} />${now.waiting != null && html`<${Numbers} of=${now} /><${Charts} samples=${now.samples} />`}<${Facts} of=${now} />${now.threads.length > 0 && html`<${Threads} of=${now.threads} />`}</div>`}<//><//>`;
}

const List = ({ of }) => html`<ul class="plain problems">${of.map((one) => html`<li key=${one.kind + (one.endpointId ?? one.taskId)}>
  <${Badge} kind=${one.severity === 'critical' ? 'bad' : 'warn'}>${one.severity === 'critical' ? 'Critical' : 'Warning'}<//><div>${about(one)}<p class="break">${one.message}</p></div></li>`)}</ul>`;

function Problems({ of: { problems: found, holds, now, health: { reason } } }) {
  const problems = found.filter(({ kind }) => kind !== 'endpoints_held'); // These have a notice.
  const all = reason && !problems.some(({ severity }) => severity === 'critical') ? [{ severity: 'critical', kind: 'health', message: reason }, ...problems] : problems;
  return all.length ? html`<section class="card"><h2>What is wrong right now</h2>
      <${List} of=${all.slice(0, 6)} />${all.length > 6 && html`<details><summary>${count(all.length - 6)} more</summary><${List} of=${all.slice(6)} /></details>`}</section>`
    : !holds && html`<section class="card"><h2>All is well</h2><div class="row"><${Badge} kind="good">OK<//>
      <p>The store takes writes and has room, no endpoint fails, nothing is late, no job has failed or waits. <span class="muted">Looked at <${Time} at=${now} />.</span></p></div></section>`;
}

/** The ways to what a problem is about. */
function about({ applicationId: app, applicationName, endpointId, url, taskId, kind }) {
  const ways = [
    endpointId && (app ? html`<${EndpointLink} app=${app} id=${endpointId} url=${url} />` : html`<a class="break" href=${`${base}/operational`}>${url}</a>`),
    app && html`<${AppLink} id=${app} name=${applicationName} />`, taskId && html`<a href=${`${base}/jobs`}>Jobs</a>`, ['lane_late', 'endpoints_open'].includes(kind) && html`<a href=${`${base}/lanes`}>Lanes</a>`,
  ].filter(Boolean);
  return ways.length > 0 && html`<p class="row">${ways}</p>`;
}

function Numbers({ of: { waiting, inFlight, oldestDueSeconds, samples } }) {
  const lastMinute = (key) => count(samples.slice(-12).reduce((sum, one) => sum + one[key], 0));
  return html`<dl class="stats">${[
    ['Waiting', count(waiting), html`<a href=${`${base}/lanes`}>Lanes</a>`],
    ['In flight', count(inFlight), 'requests'],
    ['Oldest due', oldestDueSeconds >= 1 ? duration(Math.round(oldestDueSeconds)) : 'None', oldestDueSeconds >= 1 ? 'late' : 'nothing is late'],
    ['Delivered', lastMinute('delivered'), 'in the last minute'],
    ['Failed attempts', lastMinute('failed'), 'in the last minute'],
  ].map(([name, value, more]) => html`<div class="stat"><dt>${name}</dt><dd>${value}</dd><dd class="small">${more}</dd></div>`)}</dl>`;
}

/** The last half hour, in steps of 15 seconds. */
function Charts({ samples }) {
  const steps = [...Map.groupBy(samples, ({ at }) => Math.floor(Date.parse(at) / 15000))].map(([step, all]) => {
    const each = (key) => Math.round((all.reduce((sum, one) => sum + one[key], 0) / all.length / 5) * 10) / 10;
    const most = (key) => all.reduce((max, one) => (one[key] == null ? max : Math.max(max, one[key])), null);
    return { label: clock(step * 15000), accepted: each('accepted'), delivered: each('delivered'), failed: each('failed'), value: most('latencyMsP50'), high: most('latencyMsP95') };
  });
  const [unit, by] = steps.some(({ high }) => high > 20000) ? [' s', 1000] : [' ms', 1];
  const latencies = steps.map(({ label, value, high }) => ({ label, value: value && value / by, high: high && high / by }));
  const { accepted = 0, delivered = 0, failed = 0 } = steps.at(-1) ?? {};
  return html`<div class="split level">
    <section class="card"><${Lines} title="Messages a second" points=${steps} summary=${`Now ${accepted} accepted, ${delivered} delivered, ${failed} failed`}
      series=${[['c-line good', 'Delivered', 'delivered'], ['c-line bad', 'Failed attempts', 'failed'], ['c-line dashed', 'Accepted', 'accepted']]} /></section>
    <section class="card"><${Line} title="From publishing to receipt" unit=${unit} names=${['Median', '95 of 100']} points=${latencies} /></section></div>`;
}

/** When all of the copy was read last, and what was wrong then. */
const verified = ({ verified: last, unverified }) => last ? html`<${Time} at=${last.at} />${last.ok ? '' : ', and found damaged'}` : html`<span class="break">not yet${unverified ? `: ${unverified.reason}` : ''}</span>`;

/** Which endpoints get nothing because of their attempts, a line each kind. */
const troubled = ({ open, resting }, { failing, gone, requested }) => [
  [open, 'paused'], [resting, 'resting'], [failing, 'disabled after failures'], [gone, 'disabled by a 410'], [requested, 'disabled by receiver'],
].filter(([n]) => n).map(([n, what]) => `${count(n)} ${what}`);

function Facts({ of: { store, backup, registrations: has, breakers, disabledAutomatically: off, version, startedAt, now } }) {
  const card = (title, facts) => html`<section class="card"><h2>${title}</h2><dl class="facts">${facts.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl></section>`;
  const link = (n, to) => html`<a href=${base + to}>${count(n)}</a>`;
  return html`<div class="cards">
    ${store && card('Store', [['Queue', bytes(store.liveBytes)], ['History', `${bytes(store.slicesBytes)} in ${count(store.slices)} ${store.slices === 1 ? 'slice' : 'slices'}`], ['Kept since', html`<${Time} at=${store.oldestAt} />`], ['Free', store.freeBytes == null ? '–' : bytes(store.freeBytes)]])}
    ${store && card('Backup', backup ? [['To', html`<span class="break">${backup.to}</span>`], ['Up to', html`<${Time} at=${backup.copiedUntil} />`], ['Behind', backup.lagSeconds >= 1 ? duration(Math.round(backup.lagSeconds)) : 'nothing'], ['Copied', `${bytes(backup.bytes)} since the start`], ['Verified', verified(backup)]] : [['To', html`nowhere: see <a href="/docs/guide/backup">backup.to</a>`]])}
    ${card('Registrations', [['Applications', link(has.applications, '/applications')], ['Endpoints', html`${count(has.endpoints)}${troubled(breakers, off).map((line) => html`<div class="small muted">${line}</div>`)}`], ['Event types', link(has.eventTypes, '/event-types')], ['Tokens', link(has.tokens, '/tokens')]])}
    ${card('Server', [['Version', version], ['Started', html`<${Time} at=${startedAt} />`], ['Up for', duration(Math.round((Date.parse(now) - Date.parse(startedAt)) / 1000))]])}</div>`;
}

/** What each thread does, and what went wrong in it last. */
function Threads({ of }) {
  const error = ({ errors, lastError: { message, at } }) => html`<p class="break">${errors === 1 ? 'One error' : `${count(errors)} errors, the last`} <${Time} at=${at} />: ${message}</p>`;
  return html`<details class="card"><summary><h2>Threads</h2></summary><dl class="facts">${of.map((one) => html`<dt>${one.name}</dt>
    <dd>${one.state} since <${Time} at=${one.since} />, <span class="muted">${one.does}</span>${one.lastError && error(one)}</dd>`)}</dl></details>`;
}
