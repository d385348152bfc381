// The operator's own endpoints: who is told what happens to customers' endpoints and deliveries.

import { api, list, path } from './api.js';
import { Outcome } from './history.js';
import { enable, hold, probe, release } from './hold.js';
import { EndpointState } from './notices.js';
import { FormDialog, Listing, act, col, destroy } from './operator.js';
import { Button, Code, Dialog, Field, Page, Time, html, toast, useForm, useLoad, useMay, useQuery, useState } from './ui.js';

const all = '/operational-webhook/endpoint';
/** The profile of those that name none. */
const standard = 'standard';
const one = (endpoint, rest = '') => all + path`/${endpoint.id}` + rest;
const events = [
  ['endpoint.created', 'An endpoint was added'], ['endpoint.updated', 'An endpoint was changed'], ['endpoint.deleted', 'An endpoint was deleted'],
  ['endpoint.disabled', 'An endpoint was disabled, by hand or because it failed'], ['endpoint.enabled', 'An endpoint was enabled'], ['endpoint.failing', 'An endpoint has failed for a while, or deliveries failed for good'], ['endpoint.recovered', 'An endpoint that was told of is well again'],
  ['message.attempt.failing', 'The fourth attempt failed'], ['message.attempt.exhausted', 'The last attempt failed'], ['message.attempt.recovered', 'Delivered after four failures or more'],
];

export default function Operational() {
  const change = useMay()('ownEndpoints');
  const [query, setQuery] = useQuery();
  const [open, setOpen] = useState(null);
  const endpoints = useLoad((signal) => list(all, { limit: 50, iterator: query.iterator }, { signal }), [query.iterator]);
  const close = () => setOpen(null);
  const done = (text) => {
    close();
    toast(text);
    endpoints.reload();
  };
  const remove = (endpoint) => destroy('Delete', endpoint.url, `${endpoint.url} goes with its secret and is told nothing any more.`, () => api('DELETE', one(endpoint))).then((yes) => yes && done(`${endpoint.url} was deleted.`));
  const columns = [
    col('Endpoint', ({ url, description, profile, verification }) => html`<span class="break">${url}</span>${description && html`<br /><span class="small muted">${description}</span>`}
      ${profile !== standard && html`<div class="small muted">Profile ${profile}</div>`}
      ${verification?.lastError && html`<div class="small">The last challenge failed. ${verification.lastError}</div>`}`),
    col('Events', ({ eventTypes }) => (eventTypes ? html`<div>${eventTypes.map((name) => html`<div class="small">${name}</div>`)}</div>` : 'Everything'), 'words'),
    col('State', (endpoint) => html`<${EndpointState} endpoint=${endpoint} />`),
    col('', (endpoint) => html`<div class="row">${change && act(endpoint.hold ? 'Release' : 'Hold', endpoint.url, () => (endpoint.hold ? release : hold)(one(endpoint), endpoint.url, endpoints.reload))}${change && looksAfter(endpoint, endpoints.reload)}${[...(change ? [['Edit', Edit], ['Secret', Secret]] : []), ['Attempts', Attempts]].map(([label, View]) => act(label, endpoint.url, () => setOpen([View, endpoint])))}${change && act('Delete', endpoint.url, () => remove(endpoint))}</div>`, 'end'),
  ];
  return html`<${Page} title="Operational webhooks" intro="Endpoints of your own, which are told what happens to your customers’ endpoints and deliveries: a program of yours, or a channel of Slack, Teams or Discord."
      actions=${change && html`<${Button} kind="primary" onClick=${() => setOpen([Edit])}>Add endpoint<//>`}>
    <${Listing} of=${endpoints} query=${query} setQuery=${setQuery} caption="Operational webhooks" columns=${columns} empty=${['No endpoints', change ? 'Add one to hear, for example, when a customer’s endpoint is disabled.' : 'Nobody is told what happens to your customers’ endpoints.']} />
    ${open && html`<${open[0]} endpoint=${open[1]} onClose=${close} done=${done} />`}
  <//>`;
}

/** The buttons for an endpoint that gets nothing by itself. */
const looksAfter = (endpoint, then) => [
  endpoint.disabled && act('Enable', endpoint.url, () => enable({ endpoint, name: endpoint.url, where: one(endpoint), then })),
  !endpoint.disabled && !endpoint.hold && endpoint.breaker.state !== 'closed' && act('Try now', endpoint.url, () => probe(one(endpoint)).then(then)),
];

function Edit({ endpoint, onClose, done }) {
  const before = endpoint?.profile ?? standard;
  const form = useForm({ url: endpoint?.url ?? '', description: endpoint?.description ?? '', profile: before, secret: '', eventTypes: endpoint?.eventTypes ?? [], disabled: endpoint?.disabled ?? false });
  const profiles = useLoad(async (signal) => (await list('/profile', null, { signal })).data, []).data ?? [];
  const { eventTypes, profile } = form.values;
  const chosen = profiles.find(({ name }) => name === profile);
  const another = profile !== before;
  const save = async ({ profile: _, secret, ...values }) => {
    const kept = endpoint && { uid: endpoint.uid, metadata: endpoint.metadata, throttleRate: endpoint.throttleRate, breakerFailures: endpoint.breakerFailures, disableAfterHours: endpoint.disableAfterHours };
    const look = another && { profile, method: null, ...(secret && { secret }) };
    await api(endpoint ? 'PUT' : 'POST', endpoint ? one(endpoint) : all, { ...kept, ...values, ...look, eventTypes: eventTypes.length ? eventTypes : null });
    done(`${values.url} was ${endpoint ? 'saved' : 'added'}.`);
  };
  return html`<${FormDialog} title=${endpoint ? 'Edit endpoint' : 'Add endpoint'} form=${form} onClose=${onClose} onSubmit=${save} submit=${endpoint ? 'Save' : 'Add endpoint'}>
    <${Field} label="URL" name="url" type="url" placeholder="https://" /><${Field} label="Description" name="description" optional />
    <${Field} label="Profile" name="profile" type="select" options=${[...new Set([before, ...profiles.map(({ name }) => name)])].map((name) => [name, name])} hint=${chosen && `${chosen.description}.`} />
    ${endpoint && another && html`<${Field} label="Secret" name="secret" type="password" optional autocomplete="new-password" hint=${`Needed where the present one does not fit the new profile. It is ${chosen?.secretHint ?? 'a text'}.`} />`}
    <fieldset><legend>Events <span class="muted">(all of them, where none is chosen)</span></legend>${events.map(([name, text]) => html`<${Field} key=${name} type="checkbox" label=${text} hint=${name} loc=""
      value=${eventTypes.includes(name)} onInput=${(on) => form.set('eventTypes', on ? [...eventTypes, name] : eventTypes.filter((other) => other !== name))} />`)}</fieldset>
    <${Field} label="Disabled" name="disabled" type="checkbox" hint="Its messages wait until it is enabled." /><//>`;
}

function Secret({ endpoint, onClose }) {
  const [key, setKey] = useState('');
  const show = (call) => call.then((answer) => setKey(answer.key), (error) => toast(error.message, 'bad'));
  const rotate = () => destroy('Rotate the secret of', endpoint.url, 'A new one is made. The old one stays valid beside it for a day.', () => api('POST', one(endpoint, '/secret/rotate'), {}).then((answer) => setKey(answer.key)));
  return html`<${Dialog} title=${`Secret of ${endpoint.url}`} onClose=${onClose} foot=${html`<${Button} onClick=${rotate}>Rotate<//><${Button} kind="primary" onClick=${onClose}>Done<//>`}>
    ${key ? html`<div class="wrap"><${Code} text=${key} label="Secret" /></div>` : html`<p>Its messages are signed with this secret, if its profile signs.</p><div><${Button} onClick=${() => show(api('GET', one(endpoint, '/secret')))}>Reveal<//></div>`}<//>`;
}

function Attempts({ endpoint, onClose }) {
  const attempts = useLoad((signal) => list(one(endpoint, '/attempt'), { limit: 10, with_msg: true }, { signal }), []);
  return html`<${Dialog} wide title=${`Latest attempts at ${endpoint.url}`} onClose=${onClose}>
    <${Listing} of=${attempts} caption="Latest attempts" empty=${['No attempts', 'It was told nothing yet.']} columns=${[
    col('Event', ({ msg }) => msg?.eventType), col('Outcome', (attempt) => html`<${Outcome} of=${attempt} />`), col('When', ({ timestamp }) => html`<${Time} at=${timestamp} />`)]} /><//>`;
}
