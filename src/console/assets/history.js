// What the pages about endpoints, attempts and messages share: how outcomes are said, lists of attempts, their
// filters, payloads as they were published, the frame of an endpoint's pages, and small controls.

import { api, appPath, list, pagePath, path, surface } from './api.js';
import { members } from './fields.js';
import { Finder } from './operator.js';
import { Button, Field, LinkTo, Loaded, NotAllowed, Page, Search, Status, Table, Tabs, Time, confirm, duration, html, toast, useEffect, useLoad, useMay, useState } from './ui.js';

/* How things are said */

/** 240 ms, 1.3 s, 5 min */
export const sayMs = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : ms < 120000 ? `${+(ms / 1000).toFixed(1)} s` : duration(Math.round(ms / 1000)));

const failures = {
  address_forbidden: ['Forbidden address', 'Private and local addresses are never called.'],
  dns: ['Name not found', 'Check the URL for a typing error, and the domain’s DNS records.'],
  connection_refused: ['Refused', 'Is the receiver running, and is the port right?'],
  connection_failed: ['No connection', 'Look at the receiver’s network and firewall.'],
  tls: ['TLS failed', 'Look at the receiver’s certificate: has it expired, is it for this host, is its chain complete?'],
  timeout: ['Timed out', 'Answer first and work afterwards. The receiver may have done the work nonetheless: expect the same message id once more.'],
  broken_answer: ['Broken answer', 'Look at the receiver’s log, and at a proxy before it.'],
  wrong_answer: ['Wrong answer'],
  not_sendable: ['Not sent'],
  expired: ['Expired'],
  breaker_open: ['Not sent', 'Send it again once the receiver works.', 'The endpoint was paused after failures until the last retry of this message would have been made.'],
  canceled: ['Canceled', 'Somebody let go of it while the endpoint was disabled or held. Send it again if it is wanted after all.'],
  internal_error: ['Internal error', 'This is not the receiver’s fault. The attempt is repeated by the schedule.'],
};
/** Failures of deliveries that ended without a further request. */
export const notSent = ['expired', 'breaker_open', 'canceled'];
/** A failure in two words, what to do, and what happened where that is not the attempt's own: [words, sentence, sentence]. */
export const sayFailure = (kind) => failures[kind] ?? [kind];

/** An attempt's outcome: a badge, with the answer's status or the kind of failure. */
export const Outcome = ({ of: { statusText, responseStatusCode: code, failure } }) => html`<span class="row tight">
  <${Status} of=${statusText} /><span class="num">${code || sayFailure(failure?.kind)[0]}</span></span>`;

/** Which attempt it was and why it was made. */
export const sayAttempt = ({ attempt, triggerType, test }) => `No. ${attempt}${triggerType ? ', by hand' : ''}${test ? ', test' : ''}`;

/** A delivery's state: success, pending, sending, held, fail. */
export const DeliveryState = ({ of: { statusText, held } }) => html`<${Status} of=${held ? 'held' : statusText} />`;

/** Whether something of a delivery is still to come. */
export const isUnderWay = (delivery) => ['pending', 'sending'].includes(delivery?.statusText);

/** When a delivery is next attempted, where it is. */
export const Next = ({ of: { nextAttempt: at, held } }) => (!at || held ? null : Date.parse(at) > Date.now() ? html`<${Time} at=${at} />` : 'now');

/** A message and its payload as it was published, byte for byte; null where it was deleted: [message, payload]. */
export async function loadMessage(app, id, signal) {
  const text = await api('GET', appPath(app, path`/msg/${id}`), null, { signal, text: true });
  const message = JSON.parse(text);
  if (message.payloadDeleted) return [message, null];
  return [message, message.rawPayload ?? members(text).payload];
}

/* Small controls */

/** Facts with what they are called; what is false is left out: of = [[label, value]]. */
export const Facts = ({ of }) => html`<dl class="facts">${of.filter(Boolean).map(([label, value]) => html`<dt>${label}</dt><dd>${value}</dd>`)}</dl>`;

/** One of several, as buttons: options = [[value, label]]. */
export const Switch = ({ label, value, options, onChange }) => html`<div class="row" role="group" aria-label=${label}>${options.map(([one, text]) => html`
  <${Button} class="small" aria-pressed=${one === value ? 'true' : 'false'} onClick=${() => onChange(one)}>${text}<//>`)}</div>`;

/** One of several, as cards: options = [[value, label, what it means]]. */
export const Choices = ({ label, name, form: { values, set }, options }) => html`<fieldset><legend>${label}</legend><div class="choices">${options.map(([value, text, hint]) => html`
  <label><input type="radio" name=${name} value=${value} checked=${values[name] === value} onChange=${() => set(name, value)} /><span><strong>${text}</strong><span class="hint">${hint}</span></span></label>`)}</div></fieldset>`;

/** A form's field that offers what `find` finds. */
export const FormFinder = ({ form: { values, set }, name, ...rest }) => html`<${Finder} name=${name} value=${values[name]} onInput=${(value) => set(name, value)} ...${rest} />`;

/** Asks (see `confirm`), and where it was done says so and goes on. */
export const act = async (question, said, then) => {
  if (!await confirm(question)) return;
  toast(said);
  then();
};

/* Filters */

export const classes = [['200', '2xx'], ['300', '3xx'], ['400', '4xx'], ['500', '5xx'], ['0', 'No answer']];
export const asInstant = (local) => (local ? new Date(local).toISOString() : undefined);

/** Event types and channels, for Finder. */
export const findEvents = async (search, signal) => (await list('/event-type', { search, limit: 50 }, { signal })).data.map(({ name, description }) => [name, description]);
export const findChannels = async (_, signal) => (await list('/channel', { limit: 250 }, { signal })).data.map(({ name }) => [name, '']);

/** A Finder that tells its value when it was chosen or typed to the end. */
function Chosen({ value = '', onChosen, ...rest }) {
  const [typed, setTyped] = useState(value);
  return html`<${Finder} value=${typed} onInput=${setTyped} onChange=${(event) => onChosen(event.target.value.trim())} ...${rest} />`;
}

/** What messages are filtered by, kept in the query; the children stand beside the search. */
export function MessageFilters({ query, setQuery, children }) {
  const [open] = useState(['event', 'channel', 'tag', 'after', 'before'].some((name) => query[name]));
  const to = (name) => (value) => setQuery({ [name]: value });
  return html`<div class="filters"><${Search} label="Message ID or event ID" value=${query.search} onSearch=${to('search')} />${children}</div>
    <details class="filters-more" open=${open}><summary>More filters</summary><div class="fields">
      <${Chosen} label="Event" value=${query.event} find=${findEvents} onChosen=${to('event')} />
      <${Chosen} label="Channel or entity" value=${query.channel} find=${findChannels} onChosen=${to('channel')} />
      <${Chosen} label="Tag" value=${query.tag} find=${async () => []} onChosen=${to('tag')} />
      <${Field} label="From" type="datetime-local" value=${query.after} onInput=${to('after')} />
      <${Field} label="Until" type="datetime-local" value=${query.before} onInput=${to('before')} />
    </div></details>`;
}
export const noFilters = { event: '', channel: '', tag: '', after: '', before: '', search: '' };
/** The filters as the API takes them. */
export const asked = ({ event, channel, tag, after, before, iterator }) => ({ event_types: event, channel, tag, after: asInstant(after), before: asInstant(before), iterator });

/** A page of a list, where what is searched for may not exist: then an empty one. */
export const orNothing = (error) => {
  if (error.status !== 404) throw error;
  return { data: [], done: true };
};

/** What a filtered list says that is empty. */
export const nothing = (page) => (page.done ? 'Nothing in the log fits the filters.' : 'Nothing on this page fits the filters; “Next” searches on.');

/* Attempts */

/** A table of attempts; those that came with their message show its event type, those of several `endpoints` which. */
export function Attempts({ app, rows, caption = 'Attempts', withMessage, endpoints, here }) {
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
export const resend = (app, message, endpoint, then) => act({
  title: 'Send it again?',
  text: html`<p>The message <span class="mono">${message}</span> is sent to <span class="break">${endpoint.url}</span> now, whether it was delivered before or not, and retried as any other.</p>`,
  action: 'Send again',
  run: () => api('POST', appPath(app, path`/msg/${message}/endpoint/${endpoint.id}/resend`), {}),
}, 'It is being sent again.', () => setTimeout(then, 700));

/* An endpoint's pages */

const known = new Map();
/** An endpoint as useLoad gives it; at once where it was seen a moment ago. */
export function useEndpoint(app, ep) {
  const load = useLoad(async (signal) => {
    const endpoint = await api('GET', appPath(app, path`/endpoint/${ep}`), null, { signal });
    known.set(app + ep, endpoint);
    return endpoint;
  }, [app, ep]);
  return { ...load, data: load.data ?? (load.error ? undefined : known.get(app + ep)) };
}

/** Whether an endpoint's choice, a name or a pattern, takes an event type: `*` is one segment, `**` at the end one or more. */
export const takes = (choice, name) => {
  const [want, have] = [choice.split('.'), name.split('.')];
  return (want.at(-1) === '**' ? have.length >= want.length : have.length === want.length) && want.every((one, i) => one === have[i] || /^\*\*?$/.test(one));
};

/** What an endpoint's transformation makes anew. */
export const sayTransformation = ({ body, method, contentType, headers }) => [body && 'body', ...Object.keys(headers ?? {}), method, contentType].filter(Boolean).join(', ');

/** What an endpoint is called. */
export const endpointName = (endpoint) => endpoint?.description || endpoint?.url || 'Endpoint';

/** The crumb of the portal's first page. */
export const firstCrumb = (app) => (surface === 'portal' ? [['Webhooks', pagePath(app)]] : []);

const profiles = new Map();
/** Whether an endpoint may have a transformation, by its profile, or has one; on that page, as long as it is not known. */
function useTransforms({ profile, transformation } = {}, part) {
  const { data = part === '/transformation' } = useLoad(async () => {
    if (profile && !profiles.has(profile)) profiles.set(profile, (await api('GET', path`/profile/${profile}`)).transformations);
    return profiles.get(profile);
  }, [profile]);
  return data || !!transformation;
}

/** The frame of an endpoint's pages, with its parts as tabs; children(endpoint). The rest goes to Page. */
export function EndpointPage({ app, of, ep, part, title, children, ...rest }) {
  const may = useMay();
  const transforms = useTransforms(of.data, part);
  const at = (below) => pagePath(app, path`/endpoint/${ep}` + below);
  const parts = [
    ['', 'Overview'],
    ['/filter', 'Filter'],
    may('sendAgain') && ['/test', 'Send a test'],
    ['/samples', 'Code samples'],
    may('readSecrets') && ['/secret', 'Signing secret'],
    may('sendAgain') && ['/replay', 'Recover and replay'],
    transforms && ['/transformation', 'Transformation'], // Last: it is known a moment later, and must move no other.
  ].filter(Boolean);
  const name = endpointName(of.data);
  useEffect(() => document.querySelector('.tabs [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'nearest' }), []);
  return html`<${Page} title=${title ?? name} app=${app} crumbs=${[...firstCrumb(app), ...(part ? [[name, at('')]] : [])]} ...${rest}>
    <${Tabs} label="Endpoint" tabs=${parts.map(([below, label]) => [label, at(below), below === part])} />
    ${parts.some(([below]) => below === part) ? html`<${Loaded} of=${of}>${children}<//>` : html`<${NotAllowed} />`}
  <//>`;
}
