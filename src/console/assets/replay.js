// Sends many messages to an endpoint again, by a background task whose progress is shown.

import { api, appPath, list, path } from './api.js';
import { EndpointPage, asInstant, asLocal, findChannels, findEvents, useEndpoint } from './history.js';
import { Finder, words } from './operator.js';
import { Button, Field, Form, Loaded, Status, Table, Time, announce, confirm, count, html, toast, useEffect, useForm, useLoad, useMay, useRef, useState } from './ui.js';

const kinds = [
  ['recover', 'Recover failed', 'What failed for good, after its last attempt.'],
  ['replay-missing', 'Replay missing', 'What it would get today and was never for it: published before it was there, or before its filter was widened.'],
  ['bulk-replay', 'Replay', 'What was for it, delivered or not, as far as the filters below fit.'],
];
const tasks = { 'endpoint.recover': 'Recover failed', 'endpoint.replay': 'Replay missing', 'endpoint.bulk-replay': 'Replay' };
const runs = ({ state }) => state === 'running' || state === 'paused';

export default function Replay({ app, params: { ep } }) {
  const of = useEndpoint(app, ep);
  return html`<${EndpointPage} app=${app} of=${of} ep=${ep} part="/replay" title="Recover and replay" intro="Sends many messages again, oldest first and a few at a time, so that what is published meanwhile does not wait for long.">
    ${(endpoint) => html`<${Begin} app=${app} endpoint=${endpoint} />`}<//>`;
}

function Begin({ app, endpoint }) {
  const may = useMay();
  const form = useForm({ kind: 'recover', since: asLocal(new Date(Date.now() - 86400000)), until: '', eventTypes: '', channel: '', tag: '', status: '', statusCodeClass: '' });
  const { values, set } = form;
  const [turn, setTurn] = useState(0);
  const begin = async () => {
    const { kind, since, until, eventTypes, channel, tag, status, statusCodeClass } = values;
    const filters = kind === 'bulk-replay' && { eventTypes: words(eventTypes) ?? undefined, channel: channel || undefined, tag: tag || undefined, ...(status && { status: +status }), ...(statusCodeClass && { statusCodeClass: +statusCodeClass }) };
    await api('POST', appPath(app, path`/endpoint/${endpoint.id}/${kind}`), { since: asInstant(since), until: asInstant(until), ...filters });
    toast('It has begun.');
    setTurn(turn + 1);
  };
  const bulk = values.kind === 'bulk-replay';
  return html`<${Form} form=${form} guard=${false} submit="Start" onSubmit=${begin} check=${() => (values.since ? {} : { 'body.since': 'Enter from when on.' })}>
      <div class="card">
        <fieldset><legend>What to send</legend><div class="choices">${kinds.filter(([kind]) => kind !== 'replay-missing' || may('sendMissing')).map(([kind, label, says]) => html`
          <label><input type="radio" name="kind" value=${kind} checked=${values.kind === kind} onChange=${() => set('kind', kind)} /><span><strong>${label}</strong><span class="hint">${says}</span></span></label>`)}</div></fieldset>
        <div class="fields">
          <${Field} label="Published from" name="since" type="datetime-local" />
          <${Field} label="Until" optional name="until" type="datetime-local" hint="Now, where nothing is entered." />
        </div>
        ${bulk && html`<div class="fields">
          <${Finder} label="Events" optional name="eventTypes" value=${values.eventTypes} onInput=${(value) => set('eventTypes', value)} find=${findEvents} hint="With commas between them." />
          <${Finder} label="Channel or entity" optional name="channel" value=${values.channel} onInput=${(value) => set('channel', value)} find=${findChannels} />
          <${Field} label="Tag" optional name="tag" />
          <${Field} label="Delivery" name="status" type="select" options=${[['', 'Any state'], ['0', 'Delivered'], ['1', 'Waiting'], ['2', 'Failed for good']]} />
          <${Field} label="Last response" name="statusCodeClass" type="select" options=${[['', 'Any'], ['200', '2xx'], ['300', '3xx'], ['400', '4xx'], ['500', '5xx'], ['0', 'No answer']]} />
        </div>`}
      </div>
    <//>
    <${Tasks} endpoint=${endpoint} turn=${turn} />`;
}

/** This endpoint's tasks; says when one is over. */
function Tasks({ endpoint, turn }) {
  const [every, setEvery] = useState(0);
  const before = useRef(new Map());
  const load = useLoad(async (signal) => {
    const page = await list('/background-task', { limit: 100, order: 'descending' }, { signal });
    const own = page.data.filter(({ endpointId }) => endpointId === endpoint.id);
    setEvery(own.some(runs) ? 1000 : 0);
    return own;
  }, [endpoint.id, turn, every], { every });
  useEffect(() => {
    for (const task of load.data ?? []) {
      if (before.current.get(task.id) === 'running' && !runs(task)) announce(`${tasks[task.task]}: ${task.state}, ${task.data.messagesSent} messages sent.`);
      before.current.set(task.id, runs(task) ? 'running' : task.state);
    }
  }, [load.data]);
  const cancel = (task) => confirm({
    title: `Cancel “${tasks[task.task]}”?`,
    text: `It sends nothing more. What it has sent (${count(task.progress.done)} messages) stays sent.`,
    action: `Cancel “${tasks[task.task]}”`,
    cancel: 'Let it run',
    danger: true,
    run: () => api('POST', path`/background-task/${task.id}/cancel`),
  }).then((yes) => yes && load.reload());
  const columns = [
    { label: 'What', cell: ({ task }) => tasks[task] },
    { label: 'State', cell: ({ state, reason }) => html`<span><${Status} of=${state} />${reason && html`<br /><span class="muted small">${reason}</span>`}</span>` },
    { label: 'Progress', cell: (task) => html`<div class="progress">${runs(task) && html`<progress aria-label=${`Progress of ${tasks[task.task]}`} max="1" value=${task.progress.fraction ?? null}></progress>`}
      <span>${count(task.progress.done)} sent of ${count(task.progress.lookedAt)} looked at</span></div>` },
    { label: 'Begun', cell: ({ createdAt }) => html`<${Time} at=${createdAt} />` },
    { label: '', class: 'end', cell: (task) => runs(task) && html`<${Button} class="small" aria-label=${`Cancel ${tasks[task.task]}`} onClick=${() => cancel(task)}>Cancel<//>` },
  ];
  return html`<div class="section-head"><h2>Begun so far</h2></div>
    <${Loaded} of=${load}>${(all) => (all.length ? html`<${Table} caption="Replays of this endpoint" columns=${columns} rows=${all} />` : html`<p class="muted">None yet.</p>`)}<//>`;
}
