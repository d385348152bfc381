// "Add Webhook" and "Edit Webhook". What the server does not show again (a password, secret headers) is left
// out of what is sent unless it was entered anew; an edit sends only what changed.

import { api, appPath, list, listAll, pagePath, path, surface } from './api.js';
import { Errors, Pairs, filled, object, pairs } from './fields.js';
import { FilterField, filterOf, filterProblem, readEndpoint } from './filter.js';
import { endpointName, takes } from './history.js';
import {
  Addresses, Button, Field, Form, Loaded, NotAllowed, Page, count, duration, html, labels, navigate, toast, useErrors, useForm, useId, useLoad, useMay, useMemo, useRef, useSession, useState, warnAt,
} from './ui.js';

export default function EndpointForm({ app, params: { ep } }) {
  if (useMay()('changeEndpoints')) return html`<${Whole} app=${app} ep=${ep} />`;
  return html`<${Page} title=${title(ep)} app=${app}><${NotAllowed} /><//>`;
}

const title = (ep) => (ep ? 'Edit Webhook' : labels.add_webhook.replace(/^\+ */, ''));

function Whole({ app, ep }) {
  const { profiles: offered } = useSession();
  const at = ep && appPath(app, path`/endpoint/${ep}`);
  const load = useLoad(async (signal) => {
    const [endpoint, headers, profiles, types, channels] = await Promise.all([
      at && readEndpoint(at, signal),
      at && api('GET', `${at}/headers`, null, { signal }),
      list('/profile', null, { signal }),
      listAll('/event-type', {}, { signal }),
      listAll('/channel', {}, { signal }),
    ]);
    const may = ({ name, isDefault }) => name === endpoint?.profile || (offered?.length ? offered.includes(name) : surface === 'console' || isDefault);
    return { endpoint, headers, profiles: profiles.data.filter(may), types, channels };
  }, [at]);
  const back = pagePath(app, ep && path`/endpoint/${ep}`);
  const crumbs = [surface === 'portal' && ['Webhooks', pagePath(app)], ep && [endpointName(load.data?.endpoint), back]].filter(Boolean);
  return html`<${Page} title=${title(ep)} app=${app} crumbs=${crumbs}>
    <${Loaded} of=${load}>${(data) => html`<${Editor} ...${data} app=${app} at=${at} back=${back} />`}<//>
  <//>`;
}

function valuesOf(endpoint, headers, profiles) {
  const retry = endpoint?.retry;
  const asked = new URLSearchParams(location.search).get('event');
  return {
    url: '', description: '', secret: '', uid: '',
    ...(endpoint && { url: endpoint.url, description: endpoint.description, uid: endpoint.uid ?? '' }),
    profile: endpoint?.profile ?? (profiles.find((p) => p.isDefault) ?? profiles[0])?.name ?? '',
    method: endpoint?.method ?? '',
    basic: endpoint?.basicAuth ? 'basic' : '', username: endpoint?.basicAuth?.username ?? '', password: '',
    headers: [
      ...pairs(headers?.headers).map((row) => ({ ...row, was: 'plain' })),
      ...(headers?.sensitive ?? []).map((name) => ({ name, value: '', secret: true, was: 'sensitive' })),
      ...(endpoint?.authHeaderNames ?? []).map((name) => ({ name, value: '', secret: true, was: 'auth' })),
    ].map((row, key) => ({ ...row, key })),
    eventTypes: endpoint ? endpoint.eventTypes : asked ? [asked] : null,
    channels: endpoint?.channels ?? null,
    retry: retry ? (retry.delaysSeconds ? 'list' : 'kept') : '', delays: retry?.delaysSeconds?.join(', ') ?? '', kept: retry,
    timeoutSeconds: String(endpoint?.timeoutSeconds ?? ''), throttleRate: String(endpoint?.throttleRate ?? ''),
    breakerFailures: String(endpoint?.breakerFailures ?? ''), disableAfterHours: String(endpoint?.disableAfterHours ?? ''),
    metadata: pairs(endpoint?.metadata), filter: endpoint?.filterText ?? '',
  };
}

const number = (value) => (value.trim() === '' ? null : Number(value));
/** Whether requests go to another receiver: what was entered for the old one is not taken along. */
function moves(old, url) {
  if (!URL.canParse(old) || !URL.canParse(url)) return false;
  const [from, to] = [new URL(old), new URL(url)];
  const upgrade = from.protocol === 'http:' && to.protocol === 'https:' && !from.port && !to.port;
  return from.hostname !== to.hostname || (!upgrade && (from.protocol !== to.protocol || from.port !== to.port));
}
/** Those who are shown no secrets enter them again. */
const mustEnterAgain = ({ role }, endpoint, url) => !!endpoint && !['owner', 'webhook_admin'].includes(role) && moves(endpoint.url, url);
const waits = ({ delays }) => delays.split(/[\s,;]+/).filter(Boolean);

/** The whole of what the values say, as the API has it. */
function bodyOf(values) {
  const rows = filled(values.headers);
  return {
    url: values.url.trim(), description: values.description, profile: values.profile || null, method: values.method || null,
    basicAuth: values.basic ? { username: values.username, ...(values.password && { password: values.password }) } : null,
    headers: object(rows.filter((row) => !row.secret)),
    authHeaders: object(rows.filter((row) => row.secret)),
    eventTypes: values.eventTypes, channels: values.channels, filter: filterOf(values.filter),
    retry: { '': null, kept: values.kept, list: { ...(values.kept?.delaysSeconds && values.kept), delaysSeconds: waits(values).map(Number) } }[values.retry],
    timeoutSeconds: number(values.timeoutSeconds), throttleRate: number(values.throttleRate),
    breakerFailures: number(values.breakerFailures), disableAfterHours: number(values.disableAfterHours),
    uid: values.uid.trim() || null, metadata: object(filled(values.metadata)),
  };
}

/** What the server could not tell, or not in these words. */
function check(values, endpoint, moved) {
  const wrong = filterProblem(values);
  const whole = /^\d+$/;
  if (!values.url.trim()) wrong['body.url'] = 'Enter the URL that requests are sent to.';
  if (values.eventTypes?.length === 0) wrong['body.eventTypes'] = `Choose at least one event, or ${labels.all_events}.`;
  if (values.channels?.length === 0) wrong['body.channels'] = `Choose at least one, or ${labels.all_entities}.`;
  if (values.basic && !values.username) wrong['body.basicAuth.username'] = 'Enter the username.';
  if (values.basic && !values.password) {
    const had = endpoint?.basicAuth;
    if (!had || had.username !== values.username) wrong['body.basicAuth.password'] = 'Enter the password.';
    else if (moved) wrong['body.basicAuth.password'] = 'Enter the password again: it belonged to the URL’s former host.';
  }
  const rows = filled(values.headers);
  if (rows.some(({ name }) => !name.trim())) wrong['body.headers'] = 'Each header needs a name.';
  if (moved && rows.some((row) => row.secret && !row.value)) wrong['body.headers'] = 'Enter the values of secret headers again, or remove them: they belonged to the URL’s former host.';
  const names = rows.map(({ name }) => name.trim().toLowerCase());
  if (new Set(names).size < names.length) wrong['body.headers'] = 'Each header can be there once.';
  if (authHeadersChanged(values, endpoint) && rows.some((row) => row.secret && row.was !== 'sensitive' && !row.value)) wrong['body.headers'] = 'Enter the values of all secret headers: they are replaced together.';
  if (values.retry === 'list' && !waits(values).every((one) => whole.test(one))) wrong['body.retry.delaysSeconds'] = 'Enter whole seconds with commas between them.';
  for (const name of numbers) if (values[name] && !whole.test(values[name].trim())) wrong[`body.${name}`] = 'Enter a whole number.';
  return wrong;
}

const numbers = ['timeoutSeconds', 'throttleRate', 'breakerFailures', 'disableAfterHours'];

const authRows = (values) => filled(values.headers).filter((row) => row.secret && row.was !== 'sensitive');
const authHeadersChanged = (values, endpoint) => {
  const rows = authRows(values);
  const had = endpoint?.authHeaderNames ?? [];
  return rows.length !== had.length || rows.some((row) => row.value || row.was !== 'auth' || !had.includes(row.name));
};

/** Sends only what is other than it was; gives what the API answers to it. */
async function change(at, endpoint, was, values, moved, takesSecret) {
  const [before, body] = [bodyOf(was), bodyOf(values)];
  const { basicAuth } = body;
  for (const key of Object.keys(body)) if (JSON.stringify(body[key]) === JSON.stringify(before[key])) delete body[key];
  if (moved) body.basicAuth = basicAuth;
  delete body.authHeaders;
  if (authHeadersChanged(values, endpoint)) body.authHeaders = object(authRows(values));
  if (takesSecret && values.secret) body.secret = values.secret;
  // Replacing headers would lose those whose values are not shown: where there are any, they change one by one,
  // what goes before the rest, as a name may move to the secret ones.
  const headers = { gone: {}, set: {} };
  if (moved) {
    body.headers = object(filled(values.headers).filter((row) => !row.secret || row.was === 'sensitive'));
    body.authHeaders = object(authRows(values));
  } else if (was.headers.some((row) => row.was === 'sensitive')) {
    delete body.headers;
    const rows = filled(values.headers).filter((row) => !row.secret || row.was === 'sensitive');
    for (const { name, was: kind } of was.headers) if (kind !== 'auth' && !rows.some((row) => row.name.trim() === name)) headers.gone[name] = null;
    for (const row of rows) if (row.was === 'sensitive' ? row.value : before.headers[row.name.trim()] !== row.value) headers.set[row.name.trim()] = row.value;
  }
  const some = (what) => Object.keys(what).length > 0;
  if (some(headers.gone)) await api('PATCH', `${at}/headers`, { headers: headers.gone });
  const saved = some(body) ? await api('PATCH', at, body) : {};
  if (some(headers.set)) await api('PATCH', `${at}/headers`, { headers: headers.set });
  return saved;
}

function Editor({ app, at, back, endpoint, headers, profiles, types, channels }) {
  const [initial] = useState(() => valuesOf(endpoint, headers, profiles));
  const form = useForm(initial);
  const { values, set } = form;
  const profile = profiles.find(({ name }) => name === values.profile);
  const newProfile = endpoint && values.profile !== initial.profile;
  const session = useSession();
  const addresses = session.sourceAddresses;
  const moved = mustEnterAgain(session, endpoint, values.url.trim());
  // Elsewhere a secret is rotated: what is entered here would not be taken.
  const takesSecret = !endpoint || newProfile || (moved && profile?.sendsSecret);
  const save = async () => {
    const saved = endpoint ? await change(at, endpoint, initial, values, moved, takesSecret) : await api('POST', appPath(app, '/endpoint'), createBody(values));
    toast(endpoint ? 'Saved' : 'Webhook added');
    const next = pagePath(app, path`/endpoint/${endpoint?.id ?? saved.id}`);
    warnAt(next, saved.warnings);
    navigate(next, { force: true, replace: !!endpoint });
  };
  const chooseProfile = (name) => {
    set('profile', name);
    set('method', '');
  };
  const entities = useMemo(() => {
    const chosen = values.eventTypes && new Set(values.eventTypes);
    const offered = channels.filter((one) => !chosen?.size || one.eventTypes.some((name) => chosen.has(name))).map(({ name }) => name);
    return [...new Set([...offered, ...(values.channels ?? [])])].map((name) => ({ name, path: [] }));
  }, [values.eventTypes, channels, values.channels]);
  const events = useMemo(() => {
    const known = new Set(types.map(({ name }) => name));
    return [
      ...types.map(({ name, description, groupName, deprecated, featureFlags }) => ({ name, byName: featureFlags?.length > 0, hint: [deprecated && 'Deprecated.', description].filter(Boolean).join(' '), path: [...(groupName ? [groupName] : []), ...name.split('.').slice(0, -1)] })),
      ...(initial.eventTypes ?? []).filter((name) => !known.has(name) && !isPattern(name)).map((name) => ({ name, hint: 'Not in the catalogue', path: [] })),
    ];
  }, [types]);
  const methods = profile?.methods ?? [];
  const choices = profiles.map(({ name, isDefault }) => [name, isDefault ? `${name} (the default)` : name]);
  if (!profiles.some(({ name }) => name === initial.profile)) choices.push([initial.profile, `${initial.profile} (not set up any more)`]);
  return html`<${Form} form=${form} onSubmit=${save} check=${(now) => check(now, endpoint, moved)} submit="Save" cancel=${back}>
    <section class="card"><h2>Endpoint</h2>
      <${Field} label=${labels.url} name="url" type="url" inputmode="url" required spellcheck=${false} hint=${html`The payload URL: requests are sent to it.${addresses.length > 0 && html` They come from <${Addresses} of=${addresses} end="." />`}`} placeholder="https://example.com/webhooks" />
      <${Field} label="Description" name="description" optional />
      ${choices.length > 1 && html`<${Field} label="Profile" name="profile" type="select" value=${values.profile} onInput=${chooseProfile} options=${choices} hint=${profile && html`<${ProfileHint} ...${profile} />`} />`}
      ${methods.length > 1 && html`<${Field} label="Method" name="method" type="select" value=${values.method || methods[0]} options=${methods.map((one) => [one, one])} />`}
      ${moved && html`<p class="notice">This is another receiver than before: enter what only the former one knew again.</p>`}
      ${takesSecret && html`<${SecretField} profile=${profile} isNew=${!endpoint} set=${set} />`}
    </section>
    <section class="card"><h2>Events</h2><${Picker} label="Events" all=${labels.all_events} loc="body.eventTypes" patterns items=${events} value=${values.eventTypes} onChange=${(next) => set('eventTypes', next)} /></section>
    ${entities.length > 0 && html`<section class="card"><h2>Entities</h2><p class="hint">The kinds of things that events are about.</p><${Picker} label="Entities" all=${labels.all_entities} loc="body.channels" columns items=${entities} value=${values.channels} onChange=${(next) => set('channels', next)} /></section>`}
    <${Filter} form=${form} />
    <section class="card"><h2>Authentication and headers</h2><${Authentication} form=${form} endpoint=${endpoint} /></section>
    <${Advanced} form=${form} profile=${profile} />
  <//>`;
}

/** What is not given is not named, so that the server's defaults hold. */
function createBody(values) {
  const body = { ...bodyOf(values), secret: values.secret || null };
  for (const [key, value] of Object.entries(body)) if (value === null || (typeof value === 'object' && !Object.keys(value).length)) delete body[key];
  return body;
}

const sayRetry = (retry) => (retry.delaysSeconds ? retry.delaysSeconds.map(duration).join(', ') || 'none'
  : `from ${duration(retry.firstSeconds)}, each ${retry.factor} times longer, at most ${duration(retry.maxDelaySeconds)}, for ${duration(retry.giveUpAfterSeconds)}`);

const ProfileHint = ({ description, success, timeoutSeconds, retry }) => html`${description}.<br />
  Success: ${success.status.join(', ')}${success.body != null && ` with the body ${success.body}`}${success.contentType && ` as ${success.contentType}`}, within ${duration(timeoutSeconds)}. Retries after ${sayRetry(retry)}.`;

function SecretField({ profile, isNew, set }) {
  const [shown, setShown] = useState(false);
  const generate = () => {
    const bytes = crypto.getRandomValues(new Uint8Array(24));
    const base64 = btoa(String.fromCharCode(...bytes));
    set('secret', profile?.secretForm === 'text' ? base64.replace(/[+/]/g, 'x') : `whsec_${base64}`);
    setShown(true);
  };
  return html`<${Field} label=${labels.secret} name="secret" type=${shown ? 'text' : 'password'} class="mono" spellcheck=${false} optional autocomplete="new-password"
    hint=${`${isNew ? 'Requests are signed with it. Leave it empty to have one generated' : 'Needed where the present one does not fit the new profile, or the secret itself is sent to a new receiver; takes its place at once'}. It is ${profile?.secretHint ?? 'a text'}.`}
    after=${html`<${Button} aria-pressed=${shown ? 'true' : 'false'} aria-label="Show the secret" onClick=${() => setShown(!shown)}>${shown ? 'Hide' : 'Show'}<//>
      ${profile?.secretForm !== 'ed25519' && html`<${Button} onClick=${generate}>Generate<//>`}`} />`;
}

function Authentication({ form, endpoint }) {
  const { values } = form;
  return html`<${Field} label="Authentication" name="basic" type="select" options=${[['', 'None'], ['basic', 'Basic: a username and a password']]} />
    ${values.basic && html`<${Field} label="Username" name="username" loc="body.basicAuth.username" />
      <${Field} label="Password" name="password" loc="body.basicAuth.password" type="password" autocomplete="new-password" hint=${endpoint?.basicAuth && 'Leave it empty to keep the present one. It is never shown.'} />`}
    <${Pairs} legend="Headers" hint="Sent with every request. The values of secret ones are never shown again." name="headers" locs=${['body.headers', 'body.authHeaders']} add="Add Header" form=${form} secrets />`;
}

function Filter({ form }) {
  const [open] = useState(!!form.values.filter);
  return html`<details class="card" open=${open || Object.keys(form.fields).some((key) => key.startsWith('body.filter'))}><summary><h2>Filter</h2></summary><div class="stack"><${FilterField} form=${form} /></div></details>`;
}

function Advanced({ form, profile }) {
  const { values } = form;
  const [open] = useState(() => !!(values.retry || numbers.some((name) => values[name]) || (surface === 'console' && (values.uid || values.metadata.length))));
  const wrong = Object.keys(form.fields).some((key) => /^body\.(retry|uid|metadata)/.test(key) || numbers.includes(key.slice(5)));
  return html`<details class="card" open=${open || wrong}><summary><h2>Advanced</h2></summary><div class="stack">
    <${Field} label="Retries" name="retry" loc="" type="select" options=${[['', 'As the profile says'], ['list', 'Own waits'], ...(values.kept && !values.kept.delaysSeconds ? [['kept', 'As they are']] : [])]}
      hint=${values.retry !== 'list' && profile && `After ${sayRetry(values.retry ? values.kept : profile.retry)}.`} />
    ${values.retry === 'list' && html`<${Field} label="Waits, in seconds" name="delays" loc="body.retry" placeholder="5, 300, 1800" hint="One retry after each, separated by commas." />`}
    <${Field} label="Timeout, in seconds" name="timeoutSeconds" type="number" min="1" optional hint=${profile && `The profile’s is ${profile.timeoutSeconds} s.`} />
    <${Field} label="Throttle, in messages a second" name="throttleRate" type="number" min="1" optional hint="Messages beyond that rate wait." />
    <${Field} label="Pause after this many failures in a row" name="breakerFailures" type="number" min="0" optional hint=${`While it is paused, messages wait and one is tried now and then. ${profile ? `The profile’s is ${count(profile.breaker.failures)}; ` : ''}0 never pauses it.`} />
    <${Field} label="Disable after this many hours of failures" name="disableAfterHours" type="number" min="0" optional hint=${`Messages wait then until it is enabled again. ${profile ? `The profile’s is ${count(profile.disableAfterHours)}; ` : ''}0 never disables it.`} />
    ${surface === 'console' && html`<${Field} label="UID" name="uid" optional hint="Your own ID for it, usable wherever the API takes its ID." />
      <${Pairs} legend="Metadata" hint="Whatever you want to find again here." name="metadata" locs=${['body.metadata']} add="Add Metadata" form=${form} />`}
  </div></details>`;
}

/* The choice of events and of entities */

/** Groups of items by their paths; a group with nothing but one group in it, and one of a single item, is none. */
function grow(items, depth = 0) {
  const groups = new Map();
  const nodes = [];
  for (const item of items) {
    const key = item.path[depth];
    if (key === undefined) nodes.push({ item });
    else if (groups.has(key)) groups.get(key).push(item);
    else {
      groups.set(key, [item]);
      nodes.push({ key });
    }
  }
  return nodes.flatMap((node) => {
    if (node.item) return [node];
    const within = groups.get(node.key);
    let children = grow(within, depth + 1);
    while (children.length === 1 && children[0].children) ({ children } = children[0]);
    return within.length === 1 ? children : [{ label: node.key, children, names: within.map(({ name }) => name) }];
  });
}

const drawnMax = 1000;

const isPattern = (name) => name.includes('*');

/**
 * Everything by one switch ("Send Me Everything"), or a selection from a searchable tree of checkboxes: one stop for Tab, arrow keys
 * within. value: null for everything, or the names chosen; patterns: those with a `*`, too, of which an item that is `byName` is not one.
 */
function Picker({ label, all, loc, items, value, onChange, columns, patterns }) {
  const id = useId();
  const box = useRef();
  const [search, setSearch] = useState('');
  const [last, setLast] = useState([]);
  const [here, setHere] = useState(null);
  const errors = useErrors(loc);
  const word = search.trim().toLowerCase();
  const pattern = patterns && isPattern(word) && search.trim();
  const takenBy = (one) => items.filter(({ name, byName }) => !byName && takes(one, name));
  const shown = useMemo(() => (pattern ? takenBy(pattern) : items.filter(({ name, hint, path: at }) => !word || [name, hint, ...at].some((one) => one?.toLowerCase().includes(word)))), [items, word]);
  const tree = useMemo(() => grow(shown.slice(0, drawnMax)), [shown]);
  const chosen = new Set(value);
  const asked = [...chosen].filter((name) => patterns && isPattern(name)).map((one) => [one, takenBy(one).map(({ name }) => name)]);
  const also = new Map(asked.flatMap(([one, names]) => names.map((name) => [name, one])));
  const put = (names, on) => {
    for (const name of names) chosen[on ? 'add' : 'delete'](name);
    onChange([...chosen]);
  };
  const add = () => {
    put([pattern], true);
    setSearch('');
  };
  const toggleAll = ({ target }) => {
    if (target.checked) setLast(value);
    onChange(target.checked ? null : last);
  };
  const move = (event) => {
    const boxes = [...box.current.querySelectorAll('input')];
    const at = boxes.indexOf(event.target);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: boxes.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    boxes[to]?.focus();
  };
  let n = 0;
  const first = tree[0]?.label ?? tree[0]?.item.name;
  const stop = shown.some(({ name }) => name === here) || tree.some((node) => node.label === here) ? here : first;
  const draw = (node) => {
    const key = `${id}-${n++}`;
    const names = node.names ?? [node.item.name];
    const on = names.filter((name) => chosen.has(name)).length;
    const isSome = on > 0 || names.some((name) => also.has(name));
    const name = node.label ?? node.item.name;
    const by = !chosen.has(name) && also.get(name);
    const hint = [by && `Taken by ${by}.`, node.item?.hint].filter(Boolean).join(' ');
    return html`<li key=${name}><div class=${`node ${node.label ? 'group' : ''}`}>
      <input type="checkbox" id=${key} checked=${on === names.length} indeterminate=${isSome && on < names.length} tabindex=${stop === name ? 0 : -1}
        aria-describedby=${hint ? `${key}-hint` : null} onFocus=${() => setHere(name)} onChange=${({ target }) => put(names, target.checked)} />
      <div><label for=${key}>${name}</label>${hint && html` <span class="hint" id=${`${key}-hint`}>${hint}</span>`}</div></div>
      ${node.children && html`<ul>${node.children.map(draw)}</ul>`}</li>`;
  };
  return html`<fieldset aria-describedby=${errors.length ? `${id}-error` : null}><legend class="visually-hidden">${label}</legend>
    <label class="row switch"><input type="checkbox" role="switch" checked=${value === null} aria-invalid=${errors.length ? 'true' : null} onChange=${toggleAll} />${all}</label>
    <${Errors} loc=${loc} id=${`${id}-error`} of=${value ?? []} />
    ${value !== null && html`<div class="filters">
        <input class="search" type="search" aria-label=${`Search ${label.toLowerCase()}`} placeholder=${patterns ? 'Search, or a pattern: invoice.*' : 'Search'} value=${search} onInput=${({ target }) => setSearch(target.value)}
          onKeyDown=${(event) => { if (event.key === 'Enter') { event.preventDefault(); if (pattern) add(); } }} />
        ${pattern ? html`<${Button} class="small" onClick=${add}>Add the pattern ${pattern}<//>` : html`<${Button} class="small" onClick=${() => put(shown.map(({ name }) => name), true)}>Choose ${word ? 'these' : 'all'}<//>
        <${Button} class="small" disabled=${!value.length} onClick=${() => put(shown.map(({ name }) => name), false)}>Clear<//>`}
        <span class="muted small" role="status">${pattern ? `It takes ${shown.length} of ${items.length}` : `${items.filter(({ name }) => chosen.has(name) || also.has(name)).length} of ${items.length} chosen`}</span>
      </div>
      ${patterns && html`<p class="hint">In a pattern, * is one part between dots, and ** at the end is one or more.</p>`}
      ${asked.length > 0 && html`<ul class="plain" aria-label="Patterns">${asked.map(([one, names]) => html`<li class="row" key=${one}><code>${one}</code>
        <span class="hint">takes ${names.length} of ${items.length}${names.length > 0 && `: ${names.slice(0, 6).join(', ')}${names.length > 6 ? ', …' : ''}`}</span>
        <${Button} kind="quiet" class="small" aria-label=${`Remove ${one}`} onClick=${() => put([one], false)}>Remove<//></li>`)}</ul>`}
      ${tree.length ? html`<div class="tree-box" ref=${box} role="group" aria-label=${`${label}, arrow keys move`} onKeyDown=${move}><ul class=${`tree ${columns ? 'columns' : ''}`}>${tree.map(draw)}</ul></div>${shown.length > drawnMax && html`<p class="hint">These are the first ${drawnMax} of ${shown.length}: search for others.</p>`}` : html`<p class="muted">${items.length ? 'Nothing has this in its name.' : 'There are no event types yet.'}</p>`}`}
  </fieldset>`;
}
