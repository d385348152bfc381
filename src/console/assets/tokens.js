// Tokens of callers: the list, one with the endpoints granted to it, making and revoking.

import { api, appPath, list, path } from './api.js';
import { AppLink, EndpointLink, Finder, FormDialog, Listing, act, col, destroy, findApps } from './operator.js';
import {
  Addresses, Badge, Button, Code, Dialog, Field, LinkButton, Loaded, Page, Search, Table, Time, base, html, navigate, toast, useForm, useLoad, useMay, useQuery, useSession, useState,
} from './ui.js';

const here = `${base}/tokens`;
const roles = {
  owner: ['Owner', 'Everything, tokens included.'],
  publisher: ['Publisher', 'Publishes to every application and reads event types: for your backend.'],
  webhook_admin: ['Webhook admin', 'Every endpoint with its messages and attempts; grants endpoints to webhook users.'],
  webhook_user: ['Webhook user', 'The endpoints granted to it and those it makes in applications granted to it, with their messages and attempts.'],
  viewer: ['Viewer', 'Looks at everything but secrets, and changes nothing.'],
  application: ['Application', 'One application’s endpoints, messages and attempts, as that customer.'],
};
/** What a token can be limited to, as people say it. Which of them a role can use, the session tells. */
const scopes = {
  publish: 'Publish messages',
  read: 'Read applications, endpoints, messages and the rest, without secrets',
  endpoints: 'Create, change and delete endpoints',
  secrets: 'Read and rotate endpoints’ secrets',
  replays: 'Send again, replay, send tests',
  applications: 'Create, change and delete applications',
  event_types: 'Change event types',
  expunge: 'Delete payloads and answers',
  tokens: 'Tokens, API keys and grants',
  portal: 'Make and end links to the portal',
  status: 'Status and metrics',
  operational_webhooks: 'Operational webhooks',
};
const lines = (text) => text.split(/[\s,]+/).filter(Boolean);
const number = (n, what) => `${n} ${what}${n === 1 ? '' : 's'}`;
const never = html`<span class="muted">Never</span>`;
const used = ({ lastUsedAt, lastUsedFrom }) => (lastUsedAt ? html`<div><${Time} at=${lastUsedAt} />${lastUsedFrom && html`<div class=${`muted small ${lastUsedFrom.includes(':') ? '' : 'nowrap'}`}>from ${lastUsedFrom}</div>`}</div>` : never);
const ends = ({ expiresAt }) => (expiresAt ? html`<span><${Time} at=${expiresAt} />${Date.parse(expiresAt) < Date.now() && html` <${Badge} kind="bad">Expired<//>`}</span>` : never);
const revoke = ({ id, name }, then) => destroy('Revoke', name, `Whoever uses the token ${name} is refused from now on. This cannot be undone.`, () => api('DELETE', path`/token/${id}`)).then((yes) => {
  if (!yes) return;
  toast(`${name} was revoked.`);
  then();
});

export default ({ params }) => html`<${params.token ? One : All} id=${params.token} />`;

function All() {
  const may = useMay();
  const [query, setQuery] = useQuery();
  const [open, setOpen] = useState(false);
  const tokens = useLoad((signal) => list('/token', { limit: 50, iterator: query.iterator }, { signal }), [query.iterator]);
  const columns = [
    col('Token', ({ id, name, description }) => html`<div><a href=${here + path`/${id}`}>${name}</a>${description && html`<div class="small muted">${description}</div>`}</div>`),
    col('Role', ({ role, scopes: limits, allowedIps }) => html`<div><span title=${roles[role][1]}>${roles[role][0]}</span>${limits && html`<div class="small muted">${limits.join(', ')}</div>`}${allowedIps && html`<div class="small muted">from <${Addresses} of=${allowedIps} /></div>`}</div>`, 'words'),
    col('For', ({ applicationId, applicationName, endpointIds, applications }) => (applicationId ? html`<${AppLink} id=${applicationId} name=${applicationName} />` : html`<div class="muted nowrap">${[applications && number(applications.length, 'application'), endpointIds && number(endpointIds.length, 'endpoint')].filter(Boolean).map((one) => html`<div>${one}</div>`)}${!applications && !endpointIds && 'All'}</div>`)),
    col('Last used', used), col('Ends', ends),
    may('changeTokens') && col('', (token) => act('Revoke', token.name, () => revoke(token, tokens.reload)), 'end'),
  ].filter(Boolean);
  return html`<${Page} title="Tokens" intro="Credentials for calling the API and signing in here. The role says what each one allows."
      actions=${may('changeTokens') && html`<${Button} kind="primary" onClick=${() => setOpen(true)}>Create token<//>`}>
    <${Listing} of=${tokens} query=${query} setQuery=${setQuery} caption="Tokens" columns=${columns} empty=${['No tokens', 'There is no webhook user yet.']} />
    ${open && html`<${Create} onClose=${() => setOpen(false)} done=${tokens.reload} />`}
  <//>`;
}

/** Makes a token. Of a list's lines the one is named that is wrong. */
const post = (body) => api('POST', '/token', body).catch((error) => {
  for (const [place, wrong] of Object.entries(error.fields ?? {})) {
    const [, list, at] = /^body\.(allowedIps|applicationIds)\.(\d+)$/.exec(place) ?? [];
    if (list) error.fields[place] = `${body[list][at]}: ${wrong}`;
  }
  throw error;
});

function Create({ onClose, done }) {
  const { tokenRoles } = useSession();
  const form = useForm({ name: '', description: '', role: (tokenRoles.find(({ role }) => role === 'publisher') ?? tokenRoles[0]).role, app: '', apps: '', scopes: [], networks: '', days: '' });
  const [made, setMade] = useState(null);
  const { role, app, apps, scopes: chosen, networks } = form.values;
  const mayLimit = !['application', 'webhook_user'].includes(role); // A webhook user is granted applications later.
  const limited = mayLimit && lines(apps).length > 0;
  const offered = tokenRoles.find((one) => one.role === role)[limited ? 'scopesWithinApplications' : 'scopes'];
  // What was chosen stays, for the server to refuse: a token without it could be broader than was meant.
  const shown = [...offered, ...chosen.filter((one) => !offered.includes(one))];
  const create = async ({ name, description, days }) => {
    setMade(await post({ name, description: description.trim() || undefined, role, applicationId: role === 'application' ? app.trim() : undefined, applicationIds: limited ? lines(apps) : undefined,
      scopes: chosen.length ? chosen : undefined, allowedIps: lines(networks).length ? lines(networks) : undefined, expiresAt: days ? new Date(Date.now() + days * 864e5).toISOString() : undefined }));
    done();
  };
  if (made) {
    return html`<${Dialog} title=${`${made.name} was created`} onClose=${onClose} foot=${html`${role === 'webhook_user' && html`<${LinkButton} to=${here + path`/${made.id}`}>Grant endpoints<//>`}
      <${Button} kind="primary" onClick=${onClose}>I have copied it<//>`}><p>Copy the token now: it is not shown again.</p><div class="wrap"><${Code} text=${made.token} label="Token" /></div><//>`;
  }
  return html`<${FormDialog} title="Create token" form=${form} onClose=${onClose} onSubmit=${create} submit="Create token">
    <${Field} label="Name" name="name" hint="Who or what will use it." />
    <${Field} label="Description" name="description" optional />
    <fieldset><legend>Role</legend><div class="choices one">${Object.entries(roles).filter(([key]) => tokenRoles.some((one) => one.role === key)).map(([key, [label, text]]) => html`<label key=${key}>
      <input type="radio" name="role" checked=${role === key} onChange=${() => form.set('role', key)} /><span><strong>${label}</strong>${text}</span></label>`)}</div></fieldset>
    ${role === 'application' && html`<${Finder} label="Application" loc="body.applicationId" value=${app} onInput=${(text) => form.set('app', text)} find=${findApps} hint="Type a part of its name." />`}
    <${Field} label="Ends" name="days" loc="body.expiresAt" type="select" options=${[['', 'Never'], ['1', 'In a day'], ['30', 'In 30 days'], ['90', 'In 90 days'], ['365', 'In a year']]} />
    <details><summary>Limits</summary><div class="stack">
      <fieldset class="plain"><legend>Only these operations</legend><p class="hint">Choose none to allow all that the role may do.</p>${shown.map((name) => html`<${Field} key=${name} type="checkbox" label=${scopes[name] ?? name} loc=${`body.scopes.${chosen.indexOf(name)}`}
        value=${chosen.includes(name)} onInput=${(on) => form.set('scopes', on ? [...chosen, name] : chosen.filter((other) => other !== name))} />`)}</fieldset>
      ${mayLimit && html`<${Field} label="Only these applications" name="apps" loc="body.applicationIds" type="textarea" rows="2" optional spellcheck="false" hint="Their IDs or UIDs, one on each line." />`}
      <${Field} label="Only from these networks" name="networks" loc="body.allowedIps" type="textarea" rows="2" optional spellcheck="false" hint="Such as 192.0.2.0/24 or 192.0.2.7, one on each line." />
    </div></details>
  <//>`;
}

function One({ id }) {
  const may = useMay();
  const token = useLoad((signal) => api('GET', path`/token/${id}`, null, { signal }), [id]);
  const { name, role } = token.data ?? {};
  const limited = token.data && (token.data.scopes || token.data.allowedIps || (role !== 'webhook_user' && token.data.applications));
  const change = (method, granted, said, kind = 'endpoint') => api(method, path`/token/${id}/${kind}/${granted}`).then(() => toast(said), (error) => toast(error.message, 'bad')).then(token.reload);
  return html`<${Page} title=${name ?? 'Token'} crumbs=${[['Tokens', here]]} badge=${role && html`<${Badge} kind="plain">${roles[role][0]}<//>`} intro=${role && roles[role][1] + (limited ? ' Within the limits below.' : '')}
      actions=${role && may('changeTokens') && html`<${Button} kind="danger" onClick=${() => revoke(token.data, () => navigate(here))}>Revoke<//>`}>
    <${Loaded} of=${token}>${(one) => html`<div class="stack">
      <section class="card"><dl class="facts">${[['ID', html`<code>${id}</code>`], one.applicationId && ['Application', html`<${AppLink} id=${one.applicationId} name=${one.applicationName} />`],
    one.accountEndpoint && ['Its endpoint', html`<${EndpointLink} app=${one.applicationId} id=${one.accountEndpoint.id} url=${one.accountEndpoint.url} />`],
    one.madeByLink && ['Made through', `A link to the portal${one.madeByLink.sessionId ? ` (${one.madeByLink.sessionId})` : ''}`],
    one.description && ['Description', one.description],
    one.scopes && ['Only these operations', html`<ul class="plain">${one.scopes.map((key) => html`<li>${scopes[key]} <code class="muted">${key}</code></li>`)}</ul>`],
    role !== 'webhook_user' && one.applications && ['Only these applications', one.applications.length ? html`<ul class="plain">${one.applications.map((app) => html`<li><${AppLink} id=${app.id} name=${app.name} /></li>`)}</ul>` : 'None is left.'],
    one.allowedIps && ['Only from', html`<ul class="plain">${one.allowedIps.map((network) => html`<li><code>${network}</code></li>`)}</ul>`],
    ['Created', html`<${Time} at=${one.createdAt} />`], ['Last used', used(one)], ['Ends', ends(one)]].filter(Boolean).map(([dt, dd]) => html`<dt>${dt}</dt><dd>${dd}</dd>`)}</dl></section>
      ${role === 'webhook_user' && html`<${Applications} token=${one} change=${may('changeGrants') && change} /><${Grants} token=${one} change=${may('changeGrants') && change} />`}</div>`}<//>
  <//>`;
}

/** Where it may make endpoints. */
function Applications({ token: { applications = [] }, change }) {
  const [text, setText] = useState('');
  const [app, setApp] = useState('');
  const grant = () => {
    setText('');
    change('PUT', app, 'The application was granted.', 'application');
  };
  return html`<section class="card stack"><h2>Granted applications</h2><p class="hint">It may make endpoints there.</p>
    ${applications.length ? html`<${Table} caption="Granted applications" rows=${applications} columns=${[col('Application', ({ id, name }) => html`<${AppLink} id=${id} name=${name} />`),
    change && col('', ({ id, name }) => act('Take back', name, () => change('DELETE', id, 'The grant was taken back.', 'application')), 'end')].filter(Boolean)} />` : html`<p class="muted">None.</p>`}
    ${change && html`<${Finder} label="Grant an application" value=${text} onInput=${setText} onFound=${setApp} find=${findApps} hint="Type a part of its name, then choose it." />
      <div><${Button} disabled=${!app} onClick=${grant}>Grant it<//></div>`}</section>`;
}

function Grants({ token: { endpointIds, endpoints = [] }, change }) {
  const [text, setText] = useState('');
  const [app, setApp] = useState('');
  const [search, setSearch] = useState('');
  const found = useLoad(async (signal) => (app ? list(appPath(app, '/endpoint'), { limit: 20, search }, { signal }) : { data: [] }), [app, search]);
  const rows = endpointIds.map((id) => endpoints.find((one) => one.id === id) ?? { id });
  return html`<section class="card stack"><h2>Granted endpoints</h2>
      ${rows.length ? html`<${Table} caption="Granted endpoints" rows=${rows} columns=${[
    col('Endpoint', ({ id, applicationId, applicationName, url }) => (applicationId ? html`<${EndpointLink} app=${applicationId} id=${id} url=${url} /><br /><span class="small"><${AppLink} id=${applicationId} name=${applicationName} /></span>` : html`<code>${id}</code>`)),
    change && col('', ({ id, url }) => act('Take back', url ?? id, () => change('DELETE', id, 'The grant was taken back.')), 'end')].filter(Boolean)} />` : html`<p class="muted">None. What the token makes itself is granted to it.</p>`}</section>
    ${change && html`<section class="card stack"><h2>Grant an endpoint</h2>
      <${Finder} label="Application" value=${text} onInput=${setText} onFound=${setApp} find=${findApps} hint="Type a part of its name, then choose among its endpoints." />
      ${app && found.data && html`<${Search} label="Search its endpoints" value=${search} onSearch=${setSearch} />
        <${Table} caption="Its endpoints" rows=${found.data.data} columns=${[col('Endpoint', ({ url, description }) => html`<span>${url}</span>${description && html`<br /><span class="small muted">${description}</span>`}`),
    col('', ({ id, url }) => (endpointIds.includes(id) ? html`<${Badge} kind="good">Granted<//>` : act('Grant', url, () => change('PUT', id, `${url} was granted.`))), 'end')]} />`}</section>`}`;
}
