// The messages of an application, and one of them with its deliveries.

import { api, appPath, list, pagePath, path } from './api.js';
import { Payload } from './attempt.js';
import { Pairs, filled, object } from './fields.js';
import { Attempts, DeliveryState, Facts, FormFinder, MessageFilters, Next, asked, findChannels, findEvents, isUnderWay, loadMessage, noFilters, nothing, orNothing, resend } from './history.js';
import { FormDialog, words } from './operator.js';
import { navigate, useQuery } from './router.js';
import { Badge, Button, Empty, Field, LinkTo, Loaded, NotAllowed, Page, Pager, Table, Time, html, toast, useForm, useLoad, useMay, useState, warnAt } from './ui.js';

export default ({ app, params }) => (params.msg ? html`<${OneMessage} app=${app} id=${params.msg} />` : html`<${Messages} app=${app} />`);

const labels = (all) => all?.map((one) => html`<${Badge} kind="plain">${one}<//> `);

function Messages({ app }) {
  const may = useMay();
  const [query, setQuery] = useQuery(noFilters);
  const [publishing, setPublishing] = useState(false);
  const { search } = query;
  const filters = { ...asked(query), with_content: false, limit: 50 };
  const mayRead = may('readHistory');
  const load = useLoad((signal) => (!mayRead ? null : search ? api('GET', appPath(app, path`/msg/${search}`), null, { signal, query: { with_content: false } }).then((one) => ({ data: [one], done: true }), orNothing)
    : list(appPath(app, '/msg'), filters, { signal })), [app, search, JSON.stringify(filters)]);
  const isFiltered = Object.keys(noFilters).some((name) => query[name]);
  const columns = [
    { label: 'Event', cell: ({ id, eventType, test }) => html`<${LinkTo} to=${pagePath(app, path`/message/${id}`)}>${eventType}<//> ${test && labels(['Test'])}` },
    { label: 'Message', cell: ({ id, eventId }) => html`<span><span class="mono small">${id}</span>${eventId && html`<br /><span class="muted">${eventId}</span>`}</span>` },
    ...[['channels', 'Channels'], ['tags', 'Tags']].filter(([name]) => load.data?.data.some((row) => row[name])).map(([name, label]) => ({ label, cell: (row) => row[name]?.join(', ') })),
    { label: 'Published', cell: ({ timestamp }) => html`<${Time} at=${timestamp} />` },
  ];
  return html`<${Page} title="Messages" app=${app} tab="messages" intro="Published messages, newest first."
    actions=${html`${mayRead && html`<${Button} onClick=${load.reload}>Refresh<//>`}${may('publish') && html`<${Button} kind="primary" onClick=${() => setPublishing(true)}>Publish a message<//>`}`}>
    ${mayRead ? html`<${MessageFilters} query=${query} setQuery=${setQuery} />
    <${Loaded} of=${load}>${(page) => html`
      ${page.data.length ? html`<${Table} caption="Messages" columns=${columns} rows=${page.data} />`
    : html`<${Empty} title=${isFiltered ? 'No such messages' : 'No messages yet'}><p>${isFiltered ? nothing(page) : 'Messages appear here as soon as the first is published.'}</p><//>`}
      <${Pager} page=${page} query=${query} setQuery=${setQuery} label="Pages of messages" />`}<//>` : html`<${NotAllowed} />`}
    ${publishing && html`<${Publish} app=${app} onClose=${() => setPublishing(false)} />`}
  <//>`;
}

/** What keeps a text from being a payload; nothing where it is one. */
export function payloadProblem(text) {
  try {
    const value = JSON.parse(text);
    return value === null || typeof value !== 'object' || Array.isArray(value) ? 'It must be a JSON object: {…}.' : '';
  } catch (error) {
    return `It is not JSON: ${error.message}`;
  }
}

/** A request's body around a payload, whose bytes stay as they were typed. */
export const withPayload = (body, payload) => `${JSON.stringify(body).slice(0, -1)},"payload":${payload}}`;

function Publish({ app, onClose }) {
  const form = useForm({ eventType: '', payload: '{\n  \n}', channels: '', eventId: '', metadata: [] });
  const publish = async ({ eventType, payload, channels, eventId, metadata }) => {
    const rows = filled(metadata);
    const { id, endpointsMatched: matched, warnings } = await api('POST', appPath(app, '/msg'), withPayload({ eventType: eventType.trim(), channels: words(channels) ?? undefined, eventId: eventId.trim() || undefined, metadata: rows.length ? object(rows) : undefined }, payload));
    toast(`The message is published. ${matched ? `${matched} endpoint${matched > 1 ? 's' : ''} matched.` : 'No endpoint matched.'}`);
    const to = pagePath(app, path`/message/${id}`);
    warnAt(to, warnings?.map(({ loc, msg }) => `${loc.slice(1).join('.')}: ${msg}`));
    navigate(to, { force: true });
  };
  const check = ({ eventType, payload }) => {
    const problem = payloadProblem(payload);
    return { ...(problem && { 'body.payload': problem }), ...(!eventType.trim() && { 'body.eventType': 'Enter an event type.' }) };
  };
  return html`<${FormDialog} title="Publish a message" wide form=${form} onClose=${onClose} onSubmit=${publish} check=${check} submit="Publish">
    <${FormFinder} form=${form} label="Event" name="eventType" find=${findEvents} />
    <${Field} label="Payload" name="payload" placed type="textarea" rows="10" class="code-input" spellcheck=${false} />
    <${FormFinder} form=${form} label="Channels" optional name="channels" find=${findChannels} hint="Up to five, separated by commas." />
    <${Field} label="Event ID" optional name="eventId" hint="Your own ID for it." />
    <${Pairs} legend="Metadata" hint="For filters and templates of endpoints; not sent by itself." name="metadata" locs=${['body.metadata']} add="Add Metadata" form=${form} />
  <//>`;
}

function OneMessage({ app, id }) {
  const may = useMay();
  const [every, setEvery] = useState(0);
  const load = useLoad(async (signal) => {
    const [[message, payload], deliveries, attempts] = await Promise.all([
      loadMessage(app, id, signal),
      list(appPath(app, path`/msg/${id}/endpoint`), { limit: 250 }, { signal }),
      list(appPath(app, path`/attempt/msg/${id}`), { limit: 100, with_content: false }, { signal }),
    ]);
    setEvery(deliveries.data.some(isUnderWay) ? 5000 : 0);
    return { message, payload, deliveries: deliveries.data, attempts: attempts.data };
  }, [app, id, every], { every });
  const columns = [
    { label: 'Endpoint', cell: (endpoint) => (endpoint.deleted ? html`<span class="break">${endpoint.url}</span><br /><span class="muted small">Deleted</span>`
      : html`<${LinkTo} class="break" to=${pagePath(app, path`/endpoint/${endpoint.id}`)}>${endpoint.url}<//>${endpoint.description && html`<br /><span class="muted small">${endpoint.description}</span>`}`) },
    { label: 'Delivery', cell: (delivery) => html`<${DeliveryState} of=${delivery} />` },
    { label: 'Next attempt', cell: (delivery) => html`<${Next} of=${delivery} />` },
    may('sendAgain') && { label: '', class: 'end', cell: (endpoint) => !endpoint.deleted && html`<${Button} class="small" aria-label=${`Send again to ${endpoint.url}`} onClick=${() => resend(app, id, endpoint, load.reload)}>Send again<//>` },
  ].filter(Boolean);
  const { message } = load.data ?? {};
  return html`<${Page} title=${message?.eventType ?? 'Message'} app=${app} crumbs=${[['Messages', pagePath(app, '/messages')]]} badge=${message?.test && labels(['Test'])}>
    <${Loaded} of=${load}>${({ payload, deliveries, attempts }) => html`
      <div class="split">
        <section class="card" aria-label="Facts"><${Facts} of=${[
          ['ID', html`<span class="mono">${message.id}</span>`],
          message.eventId && ['Event ID', message.eventId],
          ...[['Published', 'timestamp'], ['Deliver at', 'deliverAt'], ['Expires', 'expiresAt']].map(([label, name]) => message[name] && [label, html`<${Time} at=${message[name]} exact />`]),
          message.contentType && ['Content type', html`<span class="mono break">${message.contentType}</span>`],
          message.channels && ['Channels', labels(message.channels)],
          message.tags && ['Tags', labels(message.tags)],
          ...[['Metadata', 'metadata'], ['Headers', 'headers']].map(([label, name]) => Object.keys(message[name] ?? {}).length > 0 && [label, Object.entries(message[name]).map((pair) => html`<div>${pair.join(': ')}</div>`)]),
        ]} /></section>
        <div class="card stack"><${Payload} text=${payload} level="h2" /></div>
      </div>
      <div class="section-head"><h2>Deliveries</h2></div>
      ${deliveries.length ? html`<${Table} caption="Deliveries" columns=${columns} rows=${deliveries} />`
    : html`<${Empty} title="No deliveries"><p>When the message was published, no endpoint took it, by its events, its entities or its filter.</p><//>`}
      <div class="section-head"><h2>Attempts</h2></div>
      ${attempts.length ? html`<${Attempts} app=${app} rows=${attempts} endpoints=${deliveries} />` : html`<p class="muted">No attempt was made yet.</p>`}`}<//>
  <//>`;
}
