// Sends many messages to an endpoint again, by a background job whose progress is shown.

import { api, appPath, list, path } from './api.js';
import { Choices, EndpointPage, FormFinder, act, asInstant, classes, findChannels, findEvents, useEndpoint } from './history.js';
import { words } from './operator.js';
import { Button, Field, Form, Loaded, Status, Table, Time, announce, count, html, toast, useEffect, useForm, useLoad, useMay, useRef, useState } from './ui.js';

const kinds = [
  ['recover', 'Recover failed', 'Messages whose last attempt failed. Those that wait for their next retry are sent now.'],
  ['replay-missing', 'Replay missing', 'Messages that match its filter today but were not for it when they were published: it did not exist yet, or its filter was narrower.'],
  ['bulk-replay', 'Replay', 'All messages for it that fit the filters below, delivered or not.'],
];
const titles = { 'endpoint.recover': 'Recover failed', 'endpoint.replay': 'Replay missing', 'endpoint.bulk-replay': 'Replay' };
const runs = ({ state }) => state === 'running' || state === 'paused';

export default function Replay({ app, params: { ep } }) {
  const of = useEndpoint(app, ep);
  const [turn, setTurn] = useState(0);
  return html`<${EndpointPage} app=${app} of=${of} ep=${ep} part="/replay" title="Recover and replay" intro="Sends many messages again, oldest first and a few at a time, so that new messages do not wait behind them.">
    ${({ id }) => html`<${Begin} where=${appPath(app, path`/endpoint/${id}`)} then=${() => setTurn(turn + 1)} /><${Jobs} id=${id} turn=${turn} />`}<//>`;
}

/** A time as a datetime-local input has it. */
const asLocal = (date) => new Date(date - date.getTimezoneOffset() * 60000).toISOString().slice(0, 16);

function Begin({ where, then }) {
  const may = useMay();
  const form = useForm({ kind: 'recover', since: asLocal(new Date(Date.now() - 86400000)), until: '', eventTypes: '', channel: '', tag: '', status: '', statusCodeClass: '' });
  const bulk = form.values.kind === 'bulk-replay';
  const begin = async ({ kind, since, until, eventTypes, channel, tag, status, statusCodeClass }) => {
    const number = (text) => (text ? +text : undefined);
    const filters = bulk && { eventTypes: words(eventTypes) ?? undefined, channel: channel || undefined, tag: tag || undefined, status: number(status), statusCodeClass: number(statusCodeClass) };
    await api('POST', `${where}/${kind}`, { since: asInstant(since), until: asInstant(until), ...filters });
    toast('It has started.');
    then();
  };
  return html`<${Form} form=${form} guard=${false} submit="Start" onSubmit=${begin} check=${({ since }) => (since ? {} : { 'body.since': 'Enter from when on.' })}>
    <div class="card">
      <${Choices} label="What to send" name="kind" form=${form} options=${kinds.filter(([kind]) => kind !== 'replay-missing' || may('sendMissing'))} />
      <div class="fields">
        <${Field} label="Published from" name="since" type="datetime-local" />
        <${Field} label="Until" optional name="until" type="datetime-local" hint="Empty means now." />
        ${bulk && html`
          <${FormFinder} form=${form} label="Events" optional name="eventTypes" find=${findEvents} hint="Separated by commas." />
          <${FormFinder} form=${form} label="Channel or entity" optional name="channel" find=${findChannels} />
          <${Field} label="Tag" optional name="tag" />
          <${Field} label="Delivery" name="status" type="select" options=${[['', 'Any state'], ['0', 'Delivered'], ['1', 'Waiting'], ['2', 'Failed for good']]} />
          <${Field} label="Last response" name="statusCodeClass" type="select" options=${[['', 'Any'], ...classes]} />`}
      </div>
    </div>
  <//>`;
}

/** This endpoint's jobs; says when one is over. */
function Jobs({ id, turn }) {
  const [every, setEvery] = useState(0);
  const running = useRef(new Set());
  const load = useLoad(async (signal) => {
    const page = await list('/background-task', { limit: 100, order: 'descending' }, { signal });
    const own = page.data.filter(({ endpointId }) => endpointId === id);
    setEvery(own.some(runs) ? 1000 : 0);
    return own;
  }, [id, turn, every], { every });
  useEffect(() => {
    for (const job of load.data ?? []) {
      if (runs(job)) running.current.add(job.id);
      else if (running.current.delete(job.id)) announce(`${titles[job.task]}: ${job.state}, ${job.progress.done} messages sent.`);
    }
  }, [load.data]);
  const cancel = (job) => act({
    title: `Cancel “${titles[job.task]}”?`,
    text: `It sends nothing more. What it has sent (${count(job.progress.done)} messages) stays sent.`,
    action: `Cancel “${titles[job.task]}”`,
    cancel: 'Let it run',
    danger: true,
    run: () => api('POST', path`/background-task/${job.id}/cancel`),
  }, 'It is canceled.', load.reload);
  const columns = [
    { label: 'What', cell: ({ task }) => titles[task] },
    { label: 'State', cell: ({ state, reason }) => html`<span><${Status} of=${state} />${reason && html`<br /><span class="muted small">${reason}</span>`}</span>` },
    { label: 'Progress', cell: (job) => html`<div class="progress">${runs(job) && html`<progress aria-label=${`Progress of ${titles[job.task]}`} max="1" value=${job.progress.fraction ?? null}></progress>`}
      <span>${count(job.progress.done)} sent of ${count(job.progress.lookedAt)} looked at</span></div>` },
    { label: 'Started', cell: ({ createdAt }) => html`<${Time} at=${createdAt} />` },
    { label: '', class: 'end', cell: (job) => runs(job) && html`<${Button} class="small" aria-label=${`Cancel ${titles[job.task]}`} onClick=${() => cancel(job)}>Cancel<//>` },
  ];
  return html`<div class="section-head"><h2>Started so far</h2></div>
    <${Loaded} of=${load}>${(all) => (all.length ? html`<${Table} caption="Replays of this endpoint" columns=${columns} rows=${all} />` : html`<p class="muted">None yet.</p>`)}<//>`;
}
