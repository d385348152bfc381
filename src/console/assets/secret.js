// An endpoint's signing secret: what it is, the ones before it that still count, and rotating it.

import { api, appPath, pagePath, path } from './api.js';
import { Secret } from './endpoint.js';
import { Choices, EndpointPage, useEndpoint } from './history.js';
import { Copy, Dialog, Field, Form, LinkTo, Loaded, Time, html, useForm, useLoad, useMay, useState } from './ui.js';

const overlaps = [['0', 'None: only the new one counts, at once'], ['3600', '1 hour'], ['21600', '6 hours'], ['86400', '1 day'], ['259200', '3 days'], ['604800', '7 days']];

export default function SigningSecret({ app, params: { ep } }) {
  const of = useEndpoint(app, ep);
  return html`<${EndpointPage} app=${app} of=${of} ep=${ep} part="/secret" title="Signing secret">${(endpoint) => html`<${About} app=${app} endpoint=${endpoint} />`}<//>`;
}

function About({ app, endpoint }) {
  const may = useMay();
  const where = appPath(app, path`/endpoint/${endpoint.id}`);
  const load = useLoad((signal) => Promise.all([api('GET', `${where}/secret`, null, { signal }), api('GET', path`/profile/${endpoint.profile}`, null, { signal })]), [where]);
  const [version, setVersion] = useState(0);
  return html`<${Loaded} of=${load}>${([{ key, previous = [] }, { signatures, standardWebhooks, secretHint }]) => {
    const isPublic = key.startsWith('whpk_');
    const overlapping = standardWebhooks || !signatures || signatures.some(({ separator }) => separator);
    if (!standardWebhooks && signatures?.length === 0) return html`<p class="notice">Requests of the profile ${endpoint.profile} are not signed. Receivers know them by Basic authentication or a secret header, which are in the endpoint’s settings.</p>`;
    return html`<section class="card stack" aria-labelledby="used">
        <div><h2 id="used">${isPublic ? 'Public key' : 'In use'}</h2><p class="hint">${isPublic ? 'Receivers verify with it; the private key is never shown.' : 'Keep it with the receiver’s other secrets, never in its code.'} <${LinkTo} to=${pagePath(app, path`/endpoint/${endpoint.id}/samples`)}>How to verify with it<//></p></div>
        <${Secret} where=${where} version=${version} />
        ${overlapping && previous.length > 0 && html`<div class="notice warn"><p>Overlap: requests are also signed with ${previous.length > 1 ? `${previous.length} earlier secrets` : 'the earlier secret'}.</p>
          <ul>${previous.map(({ expiresAt }, at) => html`<li>${previous.length > 1 ? `Earlier secret ${at + 1}` : 'The earlier secret'} counts until <${Time} at=${expiresAt} exact /> (<${Time} at=${expiresAt} />)</li>`)}</ul></div>`}
      </section>
      ${may('changeSecrets') && html`<${Rotate} key=${version} where=${where} hint=${secretHint} overlapping=${overlapping} isPublic=${isPublic} then=${() => { setVersion(version + 1); load.reload(); }} />`}`;
  }}<//>`;
}

function Rotate({ where, hint, overlapping, isPublic, then }) {
  const form = useForm({ how: 'generate', key: '', overlap: '86400' });
  const [made, setMade] = useState(null);
  const isGiven = form.values.how === 'given';
  const rotate = async ({ key, overlap }) => setMade((await api('POST', `${where}/secret/rotate`, { ...(isGiven && { key }), gracePeriodSeconds: +overlap })).key);
  return html`<div class="section-head"><h2>Rotate</h2></div>
    <${Form} form=${form} onSubmit=${rotate} submit="Rotate the secret" check=${({ key }) => (isGiven && !key ? { 'body.key': 'Enter the new secret.' } : {})}>
      <div class="card">
        <p class="muted">${overlapping ? 'During the overlap each request carries a signature by each secret. Rotate, give the receiver the new secret before the overlap ends, and remove the old one there: no request is refused meanwhile.'
    : 'This profile’s requests carry one signature, by the newest secret alone. Let the receiver take both secrets first, then rotate, then remove the old one there.'}</p>
        <${Choices} label="New secret" name="how" form=${form} options=${[['generate', 'Generated', 'Random, in the form that the profile has.'], ['given', 'Given', 'One of your own.']]} />
        ${isGiven && html`<${Field} label="Secret" name="key" type="password" class="mono" autocomplete="new-password" hint=${`Takes ${hint}.`} />`}
        ${overlapping && html`<${Field} label="Overlap: how long the old secret counts, too" name="overlap" loc="body.gracePeriodSeconds" type="select" options=${overlaps} />`}
      </div>
    <//>
    ${made && html`<${Dialog} title="The secret is rotated" onClose=${then}>
      <p>This is the new ${isPublic ? 'public key' : 'secret'}. ${overlapping && form.values.overlap > 0 ? 'Give it to the receiver before the overlap ends.' : 'It counts from now on.'}</p>
      <span class="row"><code>${made}</code><${Copy} text=${made} label="Copy secret" /></span>
    <//>`}`;
}
