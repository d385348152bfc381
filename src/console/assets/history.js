// What the pages about attempts and messages share: how an outcome is said, lists of attempts, their filters,
// payloads as they were published, and the frame of an endpoint's pages.

import { api, appPath, list, pagePath, path, surface } from './api.js';
import { Finder } from './operator.js';
import { Field, LinkTo, Loaded, Page, Search, Status, Table, Tabs, Time, confirm, duration, html, toast, useLoad, useMay, useState } from './ui.js';

/* How things are said */

/** 240 ms, 1.3 s, 5 min */
export const sayMs = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : ms < 120000 ? `${+(ms / 1000).toFixed(1)} s` : duration(Math.round(ms / 1000)));

const failures = {
  address_forbidden: ['Forbidden address', 'The host has no address that may be called: private and local addresses are refused. No request was made.'],
  dns: ['Name not found', 'The host’s name could not be resolved. No request was made. Check the URL for a typing error, and the domain’s DNS records.'],
  connection_refused: ['Refused', 'Nothing accepts connections at this host and port. Is the receiver running, and is the port right?'],
  connection_failed: ['No connection', 'No connection came about: the host is unreachable, reset the connection or took too long to accept it. Look at its firewall.'],
  tls: ['TLS failed', 'The secure connection failed. The certificate has expired, is not for this host, or is not signed by a known authority.'],
  timeout: ['Timed out', 'The receiver did not answer in time. Answer first and work afterwards. It may have done the work nonetheless: expect the same message id once more.'],
  broken_answer: ['Broken answer', 'What came back is not HTTP, or ended before it was complete. The receiver or a proxy before it closed the connection.'],
  wrong_answer: ['Wrong answer', ''],
  not_sendable: ['Not sent', 'No request could be made of what is stored.'],
  expired: ['Expired', 'The message expired before its turn came. No request was made.'],
};
/** A failure in two words and in a sentence: [words, what it means]. */
export const sayFailure = (kind) => failures[kind] ?? [kind, ''];

/** An attempt's outcome: a badge, with the answer's status or the kind of failure. */
export const Outcome = ({ of: { statusText, responseStatusCode: code, failure } }) => html`<span class="row tight">
  <${Status} of=${statusText} /><span class="num">${code || sayFailure(failure?.kind)[0]}</span></span>`;

/** Which attempt it was and why it was made. */
export const sayAttempt = ({ attempt, triggerType, test }) => `No. ${attempt}${triggerType ? ', by hand' : ''}${test ? ', test' : ''}`;

/** A delivery's state: success, pending, held, fail. */
export const DeliveryState = ({ of: { statusText, held } }) => html`<${Status} of=${held ? 'held' : statusText} />`;

/** When a delivery is next attempted, where it is. */
export const Next = ({ of: { nextAttempt: at, held } }) => (!at || held ? null : Date.parse(at) > Date.now() ? html`<${Time} at=${at} />` : 'now');

/** A message's payload as it was published, byte for byte, out of the text of an answer that shows it. */
export const payloadOf = (text) => text.slice(text.indexOf(',"payload":') + 11, text.lastIndexOf(',"timestamp":"'));

/** A message with its payload's text: [message, payload]. */
export async function loadMessage(app, id, signal) {
  const text = await api('GET', appPath(app, path`/msg/${id}`), null, { signal, text: true });
  return [JSON.parse(text), payloadOf(text)];
}

/* Filters */

export const asInstant = (local) => (local ? new Date(local).toISOString() : undefined);
/** An instant as a datetime-local input has it. */
export const asLocal = (date) => new Date(date - date.getTimezoneOffset() * 60000).toISOString().slice(0, 16);

/** Event types by a part of their name, for Finder. */
export const findEvents = async (search, signal) => (await list('/event-type', { search, limit: 50 }, { signal })).data.map(({ name, description }) => [name, description]);
/** Channels, for Finder. */
export const findChannels = async (_, signal) => (await list('/channel', { limit: 250 }, { signal })).data.map(({ name }) => [name, '']);

/** A Finder that tells its value when it has been chosen or typed to the end. */
const Chosen = ({ value = '', onChosen, ...rest }) => {
  const [typed, setTyped] = useState(value);
  return html`<${Finder} value=${typed} onInput=${setTyped} onChange=${(event) => onChosen(event.target.value.trim())} ...${rest} />`;
};

/** Fields that messages are filtered by: event type, channel, tag, time. They live in the query. */
export function MessageFilters({ query, setQuery, children }) {
  const { event, channel, tag, after, before } = query;
  const [open] = useState(Boolean(event || channel || tag || after || before));
  const time = (name, label) => html`<${Field} label=${label} type="datetime-local" value=${query[name]} onInput=${(value) => setQuery({ [name]: value })} />`;
  return html`<div class="filters">${children}</div>
    <details class="filters-more" open=${open}><summary>More filters</summary><div class="fields">
      <${Chosen} label="Event" value=${event} find=${findEvents} onChosen=${(value) => setQuery({ event: value })} />
      <${Chosen} label="Channel or entity" value=${channel} find=${findChannels} onChosen=${(value) => setQuery({ channel: value })} />
      <${Field} label="Tag" value=${tag} onInput=${() => {}} onChange=${(e) => setQuery({ tag: e.target.value.trim() })} />
      ${time('after', 'From')}${time('before', 'Until')}
    </div></details>`;
}
/** These filters as the API takes them. */
export const asked = ({ event, channel, tag, after, before, iterator }) => ({ event_types: event, channel, tag, after: asInstant(after), before: asInstant(before), iterator });
/** The filters' defaults. */
export const noFilters = { event: '', channel: '', tag: '', after: '', before: '', search: '' };

export const SearchMessage = ({ query, setQuery }) => html`<${Search} label="Message id or event id" value=${query.search} onSearch=${(search) => setQuery({ search })} />`;

/* Lists of attempts */

/** A table of attempts; those that came with their message show its event type, those of several `endpoints` which. */
export function Attempts({ app, rows, caption = 'Attempts', withMessage = true, endpoints, here }) {
  const columns = [
    { label: 'Outcome', cell: (row) => html`<a class="quiet-link" href=${pagePath(app, path`/attempt/${row.msgId}/${row.id}`)} aria-current=${row.id === here ? 'true' : null}><${Outcome} of=${row} /></a>` },
    withMessage && { label: 'Message', cell: ({ msg, msgId }) => html`<span><span class="break">${msg?.eventType}</span><br /><${LinkTo} class="mono muted small" to=${pagePath(app, path`/message/${msgId}`)}>${msgId}<//></span>` },
    endpoints && { label: 'Endpoint', cell: ({ endpointId }) => html`<span class="break">${endpointName(endpoints.find(({ id }) => id === endpointId))}</span>` },
    { label: 'Attempt', cell: sayAttempt },
    { label: 'When', cell: ({ timestamp }) => html`<${Time} at=${timestamp} />` },
    { label: 'Took', class: 'num', cell: ({ responseDurationMs }) => sayMs(responseDurationMs) },
    { label: 'Next', cell: ({ nextAttemptAt: at }) => Date.parse(at) > Date.now() && html`<${Time} at=${at} />` },
  ].filter(Boolean);
  return html`<${Table} caption=${caption} columns=${columns} rows=${rows} />`;
}

/** Sends a message to an endpoint again, having asked. */
export const resend = (app, message, endpoint, then) => confirm({
  title: 'Send it again?',
  text: html`<p>The message <span class="mono">${message}</span> is sent to <span class="break">${endpoint.url}</span> now, whether it was delivered before or not, and retried as any other.</p>`,
  action: 'Send again',
  run: () => api('POST', appPath(app, path`/msg/${message}/endpoint/${endpoint.id}/resend`), {}),
}).then((yes) => {
  if (!yes) return;
  toast('It is being sent again.');
  setTimeout(then, 700);
});

/* An endpoint's pages */

const known = new Map();
/** An endpoint as useLoad gives it; at once where it was seen a moment ago. */
export function useEndpoint(app, ep) {
  const load = useLoad(async (signal) => {
    const endpoint = await api('GET', appPath(app, path`/endpoint/${ep}`), null, { signal });
    known.set(app + ep, endpoint);
    return endpoint;
  }, [app, ep]);
  return { ...load, data: load.data ?? known.get(app + ep) };
}

/** What an endpoint is called. */
export const endpointName = (endpoint) => endpoint?.description || endpoint?.url || 'Endpoint';

/** The frame of an endpoint's pages, with its parts as tabs; children(endpoint). */
export function EndpointPage({ app, of, ep, part, title, badge, actions, intro, children }) {
  const may = useMay();
  const at = (rest) => pagePath(app, path`/endpoint/${ep}` + rest);
  const parts = [
    ['', 'Overview'],
    may('sendAgain') && ['/test', 'Send a test'],
    ['/samples', 'Code samples'],
    may('readSecrets') && ['/secret', 'Signing secret'],
    may('sendAgain') && ['/replay', 'Recover and replay'],
  ].filter(Boolean);
  const name = endpointName(of.data);
  return html`<${Page} title=${title ?? name} app=${app} badge=${badge} actions=${actions} intro=${intro}
    crumbs=${[...(surface === 'portal' ? [['Webhooks', pagePath(app)]] : []), ...(part ? [[name, at('')]] : [])]}>
    <${Tabs} label="Endpoint" tabs=${parts.map(([rest, label]) => [label, at(rest), rest === part])} />
    <${Loaded} of=${of}>${children}<//>
  <//>`;
}
