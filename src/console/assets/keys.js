// The application's API keys: made here, shown once, revoked here.

import { api, appPath, list, pagePath, path } from './api.js';
import { act } from './history.js';
import { FormDialog } from './operator.js';
import { useQuery } from './router.js';
import { Button, Copy, Dialog, Empty, Field, Loaded, NotAllowed, Page, Pager, Table, Time, html, useForm, useLoad, useMay, useSession, useState } from './ui.js';

export default function KeysPage({ app }) {
  const may = useMay();
  return may('readKeys') ? html`<${Keys} app=${app} change=${may('ownKeys')} />` : html`<${Page} title="API keys" app=${app} tab="keys"><${NotAllowed} /><//>`;
}

function Keys({ app, change }) {
  const where = appPath(app, '/token');
  const [query, setQuery] = useQuery();
  const keys = useLoad((signal) => list(where, { limit: 50, iterator: query.iterator }, { signal }), [where, query.iterator]);
  const [making, setMaking] = useState(false);
  const [made, setMade] = useState(null);
  const revoke = (key) => act({
    title: `Revoke “${key.name}”?`,
    text: `Whatever uses the API key “${key.name}” is refused from now on. This cannot be undone.`,
    action: `Revoke “${key.name}”`,
    danger: true,
    run: () => api('DELETE', where + path`/${key.id}`),
  }, `“${key.name}” is revoked.`, keys.reload);
  const ended = ({ expiresAt }) => expiresAt && Date.parse(expiresAt) <= Date.now();
  const columns = [
    { label: 'Name', cell: ({ name, description, madeByLink }) => html`<span>${name}</span>${description && html`<div class="small">${description}</div>`}${madeByLink && html`<div class="muted small">Made through a link${madeByLink.sessionId && ` (${madeByLink.sessionId})`}</div>`}` },
    // Keys of Ocrolus's API configure one each.
    keys.data?.data.some(({ accountEndpoint }) => accountEndpoint) && { label: 'Endpoint', class: 'grow', cell: ({ accountEndpoint }) => accountEndpoint && html`<a class="break" href=${pagePath(app, path`/endpoint/${accountEndpoint.id}`)}>${accountEndpoint.url}</a>` },
    { label: 'Created', cell: ({ createdAt }) => html`<${Time} at=${createdAt} />` },
    { label: 'Last used', cell: ({ lastUsedAt, lastUsedFrom }) => (lastUsedAt ? html`<div><${Time} at=${lastUsedAt} />${lastUsedFrom && html`<div class="muted small">from ${lastUsedFrom}</div>`}</div>` : html`<span class="muted">Never</span>`) },
    { label: 'Expires', cell: (key) => (key.expiresAt ? html`<span>${ended(key) && 'Expired '}<${Time} at=${key.expiresAt} /></span>` : html`<span class="muted">Never</span>`) },
    change && { label: '', class: 'end', cell: (key) => html`<${Button} kind="danger" class="small" aria-label=${`Revoke ${key.name}`} onClick=${() => revoke(key)}>Revoke<//>` },
  ].filter(Boolean);
  const create = change && html`<${Button} kind="primary" onClick=${() => setMaking(true)}>Create an API key<//>`;
  return html`<${Page} title="API keys" app=${app} tab="keys" actions=${create} intro="For programs that manage webhooks by the API. Send a key as “Authorization: Bearer KEY” or “Api-Key: KEY”.">
    <${Loaded} of=${keys}>${(page) => (page.data.length ? html`<${Table} caption="API keys" columns=${columns} rows=${page.data} /><${Pager} page=${page} query=${query} setQuery=${setQuery} />`
    : html`<${Empty} title="No API keys yet"><p>${change ? 'Create one for each program, so that each can be revoked alone.' : 'Programs of this application have none.'}</p><//>`)}<//>
    ${making && html`<${Create} where=${where} onClose=${() => setMaking(false)} then=${(key) => { setMaking(false); setMade(key); keys.reload(); }} />`}
    ${made && html`<${Dialog} title=${`The API key “${made.name}”`} onClose=${() => setMade(null)} foot=${html`<${Button} kind="primary" onClick=${() => setMade(null)}>I have stored it<//>`}>
      <p><strong>Copy it now.</strong> It is shown this once and cannot be shown again.</p>
      <span class="row"><code>${made.token}</code><${Copy} text=${made.token} label="Copy key" /></span>
    <//>`}
  <//>`;
}

/** When a key may end. One that a link makes lives no longer than the operator lets it. */
const ends = (max) => [
  ['', max ? `As late as allowed, in ${max} ${max === 1 ? 'day' : 'days'}` : 'Never'],
  ...[['30', 'In 30 days'], ['90', 'In 90 days'], ['365', 'In a year']].filter(([days]) => !max || days < max),
];

function Create({ where, onClose, then }) {
  const form = useForm({ name: '', description: '', expires: '' });
  const { apiKeyDaysMax } = useSession();
  const create = async ({ name, description, expires }) => then(await api('POST', where, { name: name.trim(), description: description.trim() || undefined, ...(expires && { expiresAt: new Date(Date.now() + expires * 86400000).toISOString() }) }));
  return html`<${FormDialog} title="Create an API key" form=${form} onClose=${onClose} onSubmit=${create} submit="Create" check=${({ name }) => (name.trim() ? {} : { 'body.name': 'Enter a name.' })}>
    <${Field} label="Name" name="name" autofocus hint="What will use it, such as “Billing service”." />
    <${Field} label="Description" name="description" optional hint="Who looks after it, and where it runs." />
    <${Field} label="Expires" name="expires" loc="body.expiresAt" type="select" options=${ends(apiKeyDaysMax)} />
  <//>`;
}
