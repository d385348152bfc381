// Who hears by e-mail of an application's endpoints: the address, the code that verifies it, and what is mailed.

import { api, appPath, sayWait } from './api.js';
import { act } from './history.js';
import { Badge, Button, Empty, Field, Form, Loaded, NotAllowed, Page, Time, announce, html, toast, useForm, useId, useLoad, useMay, useState } from './ui.js';

const title = 'Notifications';
const intro = 'We write when an endpoint keeps failing, when deliveries failed for good, before and when it is disabled, and when it is well again: at most one message an hour for an endpoint.';

export default function Notifications({ app, session }) {
  const may = useMay();
  if (!may('readEndpoints')) return html`<${Page} title=${title} app=${app} tab="notifications"><${NotAllowed} /><//>`;
  return html`<${Page} title=${title} app=${app} tab="notifications" intro=${session.mail && intro}>
    ${session.mail ? html`<${Contact} where=${appPath(app, '/contact')} />` : html`<${Empty} title="No e-mail"><p>This server sends no e-mail.</p><//>`}
  <//>`;
}

function Contact({ where }) {
  const change = useMay()('changeContact');
  const contact = useLoad((signal) => api('GET', where, null, { signal }), [where]);
  const [changing, setChanging] = useState(false);
  const set = (next) => {
    setChanging(false);
    contact.set(next);
  };
  const shown = (next, text) => {
    set(next);
    if (text) toast(text);
    document.querySelector('h1')?.focus(); // What had the focus goes.
  };
  return html`<${Loaded} of=${contact}>${(now) => {
    if (!change) return now.address ? html`<${Address} of=${now} />` : html`<${Empty} title="Nobody hears of failures"><p>No address was given, so nothing is mailed.</p><//>`;
    if (!now.address || changing) return html`<${Give} where=${where} before=${now.address} shown=${shown} cancel=${now.address && (() => setChanging(false))} />`;
    return html`<div class="stack"><${Address} of=${now}>
        <${Button} onClick=${() => setChanging(true)}>Change the address<//>
        <${Button} kind="danger" onClick=${() => remove(where, now, () => shown({ address: null }))}>Remove<//>
      <//>
      ${!now.verified && html`<${Code} where=${where} of=${now} set=${set} shown=${shown} />`}</div>`;
  }}<//>`;
}

const remove = (where, { address }, then) => act({
  title: 'Remove the address?',
  text: `Nothing is mailed to ${address} any more, whatever happens to the endpoints.`,
  action: 'Remove',
  danger: true,
  run: () => api('DELETE', where),
}, 'Nothing is mailed any more.', then);

/** The address and its state, with buttons. */
function Address({ of: { address, verified, verifiedAt }, children }) {
  const id = useId();
  return html`<section class="card stack" aria-labelledby=${id}><h2 id=${id}>Address</h2>
    <div class="row"><strong class="break">${address}</strong><${Badge} kind=${verified ? 'good' : 'warn'}>${verified ? 'Verified' : 'Not verified'}<//></div>
    <p class="muted">${verified ? html`Verified <${Time} at=${verifiedAt} />.` : 'Nothing but the code is mailed until the address is verified.'}</p>
    ${children && html`<div class="row">${children}</div>`}
  </section>`;
}

/** Asks for a code; says when that can be done if not now. */
async function ask(where, body) {
  try {
    return await api('PUT', where, body);
  } catch (error) {
    if (error.status === 429 && error.wait) error.message = `There can be one code a minute, and five an hour. ${sayWait('The next can be mailed', error.wait)}`;
    throw error;
  }
}

function Give({ where, before, shown, cancel }) {
  const answersFor = useMay()('changeApplications');
  const form = useForm({ address: before ?? '', verified: false });
  const { verified } = form.values;
  const save = async ({ address }) => {
    const next = await ask(where, { address: address.trim(), ...(verified && { verified }) });
    shown(next, next.verified ? 'The address is set.' : `A code is on its way to ${next.address}.`);
  };
  return html`<${Form} form=${form} onSubmit=${save} submit=${verified ? 'Save' : 'Mail a code'} cancel=${cancel} check=${({ address }) => (address.trim() ? {} : { 'body.address': 'Enter an address.' })}>
    <div class="card">
      <${Field} label="E-mail address" name="address" type="email" autocomplete="email" spellcheck="false" hint="Somebody must read its mail, so a code of six digits goes there first." />
      ${answersFor && html`<${Field} label="Without a code" name="verified" type="checkbox" hint="You answer for it that the address is the customer’s own." />`}
    </div>
  <//>`;
}

function Code({ where, of: { address, codeExpiresAt, nextCodeAt }, set, shown }) {
  const id = useId();
  const form = useForm({ code: '' });
  const [busy, setBusy] = useState(false);
  const verify = async ({ code }) => {
    try {
      shown(await api('POST', `${where}/verify`, { code: code.replace(/\s/g, '') }), 'The address is verified.');
    } catch (error) {
      // The last try may have been used up.
      if (error.status === 422 || error.status === 409) api('GET', where).then(set, () => {});
      throw error;
    }
  };
  const again = async () => {
    setBusy(true);
    try {
      set(await ask(where, { address }));
      announce(`Another code is on its way to ${address}.`);
    } catch (error) {
      toast(error.message, 'bad');
    }
    setBusy(false);
  };
  return html`<section class="notice warn" aria-labelledby=${id}><h2 id=${id}>${codeExpiresAt ? 'Enter the code' : 'Ask for another code'}</h2>
    <p>${codeExpiresAt ? html`It is in a mail to <span class="break">${address}</span>, and counts until <${Time} at=${codeExpiresAt} exact />.` : 'The last code does not count any more: it is too old, or was tried too often.'}</p>
    ${codeExpiresAt && html`<${Form} form=${form} onSubmit=${verify} submit="Verify" guard=${false} check=${({ code }) => (/^\s*(\d\s*){6}$/.test(code) ? {} : { 'body.code': 'Enter the six digits.' })}>
      <${Field} label="Code" name="code" inputmode="numeric" autocomplete="one-time-code" maxlength="12" class="mono" />
    <//>`}
    <div class="row"><${Button} busy=${busy} onClick=${again}>Mail another code<//>${nextCodeAt && Date.parse(nextCodeAt) > Date.now() && html`<span class="small">The next can be mailed <${Time} at=${nextCodeAt} />.</span>`}</div>
  </section>`;
}
