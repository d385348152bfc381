// The applications, each a customer of the operator: search, add, change, delete, links to the portal.

import { api, appPath, list, path } from './api.js';
import { FormDialog, Listing, act, col, destroy, words } from './operator.js';
import { Button, Code, Dialog, Field, Page, Search, Time, forgetApp, html, pagePath, toast, useForm, useLoad, useMay, useQuery, useState } from './ui.js';

export default function Applications({ session }) {
  const may = useMay();
  const [query, setQuery] = useQuery({ search: '' });
  const [open, setOpen] = useState(null);
  const { search, iterator } = query;
  const own = !may('listApplications') && (session.applications ?? []);
  const apps = useLoad(async (signal) => (own ? { data: own.filter(({ name, uid }) => `${name} ${uid}`.toLowerCase().includes(search.toLowerCase())), done: true }
    : list('/app', { search, iterator, limit: 50 }, { signal })), [search, iterator]);
  const close = () => setOpen(null);
  const done = (text) => {
    close();
    forgetApp();
    apps.reload();
    toast(text);
  };
  const remove = (app) => destroy('Delete', app.name, `${app.name} (${app.uid ?? app.id}) goes with all its endpoints, their secrets and what waits for them. This cannot be undone.`,
    () => api('DELETE', appPath(app.id))).then((yes) => yes && done(`${app.name} was deleted.`));
  const columns = [
    col('Application', ({ id, uid, name }) => html`<a href=${pagePath(id)}>${name}</a><br /><code class="muted">${uid ?? id}</code>`),
    !own && col('Rate limit', ({ throttleRate }) => (throttleRate ? `${throttleRate}/s` : html`<span class="muted">None</span>`)),
    !own && col('Created', ({ createdAt }) => html`<${Time} at=${createdAt} />`),
    (may('changeApplications') || may('changeSessions')) && col('', (app) => html`<div class="row">
      ${may('changeSessions') && act('Portal access', `for ${app.name}`, () => setOpen([Portal, app]))}${may('changeApplications') && html`${act('Edit', app.name, () => setOpen([Edit, app]))}${act('Delete', app.name, () => remove(app))}`}</div>`, 'end'),
  ].filter(Boolean);
  const empty = search ? ['No application found', `None has “${search}” in its name, UID or ID.`] : ['No applications yet', own ? 'No endpoint was granted to you.' : may('createApplications') ? 'Add one for each customer who shall receive webhooks.' : 'Nobody receives webhooks yet.'];
  return html`<${Page} title="Applications" intro="Each is one of your customers, with endpoints, messages and keys of its own."
      actions=${may('createApplications') && html`<${Button} kind="primary" onClick=${() => setOpen([Edit])}>Add application<//>`}>
    <div class="filters"><${Search} value=${search} label="Search by name, UID or ID" onSearch=${(text) => setQuery({ search: text })} /></div>
    <${Listing} of=${apps} query=${query} setQuery=${setQuery} caption="Applications" columns=${columns} empty=${empty} />
    ${open && html`<${open[0]} app=${open[1]} onClose=${close} done=${done} />`}
  <//>`;
}

const toLines = (metadata) => Object.entries(metadata ?? {}).map((pair) => pair.join('=')).join('\n');
const fromLines = (text) => Object.fromEntries(text.split('\n').filter((line) => line.trim()).map((line) => line.match(/^([^=]*)=?(.*)$/).slice(1).map((part) => part.trim())));

function Edit({ app, onClose, done }) {
  const before = toLines(app?.metadata);
  const form = useForm({ name: app?.name ?? '', uid: app?.uid ?? '', throttleRate: app?.throttleRate ?? '', metadata: before });
  const save = async ({ name, uid, throttleRate, metadata }) => {
    const body = { name: name.trim(), uid: uid.trim() || null, throttleRate: +throttleRate || null, metadata: metadata === before ? app?.metadata : fromLines(metadata) };
    await (app ? api('PATCH', appPath(app.id), body) : api('POST', '/app', body));
    done(`${body.name} was ${app ? 'saved' : 'added'}.`);
  };
  return html`<${FormDialog} title=${app ? `Edit ${app.name}` : 'Add application'} form=${form} onClose=${onClose} onSubmit=${save} submit=${app ? 'Save' : 'Add application'}>
    <${Field} label="Name" name="name" />
    <${Field} label="UID" name="uid" optional spellcheck="false" hint="Your own ID for it." />
    <${Field} label="Rate limit" name="throttleRate" type="number" min="1" optional hint="Messages a second, for all its endpoints together." />
    <${Field} label="Metadata" name="metadata" type="textarea" rows="3" optional spellcheck="false" hint="One name=value on each line." />
  <//>`;
}

const capabilities = [
  ['ViewEndpointSecret', 'Read secrets'], ['ManageEndpointSecret', 'Read and rotate secrets'],
  ['CreateAttempts', 'Resend, replay and test'], ['ManageEndpoint', 'Change endpoints and API keys'],
];

function Portal({ app, onClose, done }) {
  const form = useForm({ expiry: '604800', access: 'all', chosen: [], flags: '' });
  const [link, setLink] = useState(null);
  const { access, chosen } = form.values;
  const title = `Portal access for ${app.name}`;
  const create = async ({ expiry, flags }) => {
    const { url } = await api('POST', path`/auth/app-portal-access/${app.id}`, {
      expiry: +expiry, readOnly: access === 'read' || undefined, capabilities: access === 'some' ? ['ViewBase', ...chosen] : undefined, featureFlags: words(flags),
    });
    setLink({ url, until: Date.now() + expiry * 1000 });
  };
  const end = () => destroy('End all links of', app.name, `Everybody who came by a link to the portal of ${app.name} is signed out at once, and no link works any more.`,
    () => api('POST', path`/auth/app/${app.id}/expire-all`, {})).then((yes) => yes && done(`All portal links of ${app.name} have ended.`));
  if (link) {
    return html`<${Dialog} title=${title} onClose=${onClose} foot=${html`<${Button} onClick=${() => setLink(null)}>Another link<//><${Button} kind="primary" onClick=${onClose}>Done<//>`}>
      <p>Whoever opens this link is signed in. It works until <${Time} at=${new Date(link.until).toISOString()} exact /> and is shown only now.</p>
      <div class="wrap"><${Code} text=${link.url} label="Portal link" /></div><//>`;
  }
  return html`<${FormDialog} title=${title} form=${form} onClose=${onClose} onSubmit=${create} submit="Create link" guard=${false}>
    <${Field} label="The link works for" name="expiry" type="select" options=${[['3600', '1 hour'], ['86400', '1 day'], ['604800', '7 days']]} />
    <${Field} label="It allows" name="access" type="select" options=${[['all', 'Everything'], ['read', 'Looking only, without secrets'], ['some', 'Looking, and what is chosen here']]} />
    ${access === 'some' && html`<fieldset><legend>Allowed</legend>${capabilities.map(([key, label]) => html`<${Field} key=${key} type="checkbox" label=${label}
      value=${chosen.includes(key)} onInput=${(on) => form.set('chosen', on ? [...chosen, key] : chosen.filter((one) => one !== key))} />`)}</fieldset>`}
    <${Field} label="Feature flags" name="flags" optional spellcheck="false" hint="The portal also shows event types that have one of these flags." />
    <p class="small row">Links given out before go on working. <${Button} class="small" onClick=${end}>End all links<//></p>
  <//>`;
}
