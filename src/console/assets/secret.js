// An endpoint's signing secret: what it is, the ones before it that still count, and rotating it.

import { api, appPath, pagePath, path } from './api.js';
import { Secret } from './endpoint.js';
import { EndpointPage, useEndpoint } from './history.js';
import { Copy, Dialog, Field, Form, LinkTo, Loaded, Time, html, useForm, useLoad, useMay, useState } from './ui.js';

const overlaps = [['0', 'None: only the new one counts, at once'], ['3600', '1 hour'], ['21600', '6 hours'], ['86400', '1 day'], ['259200', '3 days'], ['604800', '7 days']];

export default function SigningSecret({ app, params: { ep } }) {
  const of = useEndpoint(app, ep);
  return html`<${EndpointPage} app=${app} of=${of} ep=${ep} part="/secret" title="Signing secret">${(endpoint) => html`<${About} app=${app} endpoint=${endpoint} />`}<//>`;
}

function About({ app, endpoint }) {
  const may = useMay();
  const where = appPath(app, path`/endpoint/${endpoint.id}/secret`);
  const load = useLoad(async (signal) => {
    const [secret, profile] = await Promise.all([api('GET', where, null, { signal }), api('GET', path`/profile/${endpoint.profile}`, null, { signal })]);
    return { isPublic: secret.key.startsWith('whpk_'), previous: secret.previous ?? [], profile };
  }, [where]);
  const [version, setVersion] = useState(0);
  return html`<${Loaded} of=${load}>${({ isPublic, previous, profile }) => {
    const { signatures = [], standardWebhooks } = profile;
    const signs = standardWebhooks !== null || signatures.length > 0;
    const overlapping = standardWebhooks !== null || signatures.some(({ separator }) => separator);
    return html`<section class="card stack" aria-label="The secret in use">
        ${!signs && html`<p class="notice warn">Requests of the profile ${profile.name} are not signed: nothing uses this secret. They are known by Basic authentication or a header, which the endpoint’s settings have.</p>`}
        <div><h2>${isPublic ? 'Public key' : 'In use'}</h2><p class="hint">${isPublic ? 'Receivers verify with it; the private key is never shown.' : 'Keep it where the receiver’s other secrets are, never in its code.'} <${LinkTo} to=${pagePath(app, path`/endpoint/${endpoint.id}/samples`)}>How to verify with it<//></p></div>
        <${Secret} where=${appPath(app, path`/endpoint/${endpoint.id}`)} version=${version} />
        ${previous.length > 0 && html`<div class="notice warn"><p><strong>Overlap.</strong> Requests are signed with ${previous.length > 1 ? `${previous.length} earlier secrets` : 'the secret before it'}, too:</p>
          <ul>${previous.map(({ expiresAt }, at) => html`<li>${previous.length > 1 ? `Earlier secret ${at + 1}` : 'The earlier secret'} counts until <${Time} at=${expiresAt} exact /> (<${Time} at=${expiresAt} />)</li>`)}</ul></div>`}
      </section>
      ${may('changeSecrets') && html`<${Rotate} key=${version} where=${where} profile=${profile} overlapping=${overlapping} isPublic=${isPublic} then=${() => { setVersion(version + 1); load.reload(); }} />`}`;
  }}<//>`;
}

function Rotate({ where, profile, overlapping, isPublic, then }) {
  const form = useForm({ how: 'generate', key: '', overlap: '86400' });
  const [made, setMade] = useState(null);
  const { values: { how, key, overlap }, set } = form;
  const rotate = async () => {
    const answer = await api('POST', `${where}/rotate`, { ...(how === 'given' && { key }), gracePeriodSeconds: +overlap });
    setMade(answer.key);
  };
  const choice = (value, label, says) => html`<label><input type="radio" name="how" value=${value} checked=${how === value} onChange=${() => set('how', value)} /><span><strong>${label}</strong><span class="hint">${says}</span></span></label>`;
  return html`<div class="section-head"><h2>Rotate</h2></div>
    <${Form} form=${form} onSubmit=${rotate} submit="Rotate the secret" check=${() => (how === 'given' && !key ? { 'body.key': 'Enter the new secret.' } : {})}>
      <div class="card">
        <p class="muted">${overlapping ? 'During the overlap each request carries a signature by each secret. Rotate, give the receiver the new secret before the overlap ends, and remove the old one there: no request is refused meanwhile.'
    : 'This profile’s requests carry one signature, by the newest secret alone. Let the receiver take both secrets first, then rotate, then remove the old one there.'}</p>
        <fieldset><legend>New secret</legend><div class="choices">
          ${choice('generate', 'Generated', 'Random, in the form that the profile has.')}${choice('given', 'Given', 'One of your own.')}
        </div></fieldset>
        ${how === 'given' && html`<${Field} label="Secret" name="key" type="password" class="mono" autocomplete="new-password" hint=${`Takes ${profile.secretHint}.`} />`}
        ${overlapping && html`<${Field} label="Overlap: how long the old secret counts, too" name="overlap" loc="body.gracePeriodSeconds" type="select" options=${overlaps} />`}
      </div>
    <//>
    ${made && html`<${Dialog} title="The secret is rotated" onClose=${then}>
      <p>${isPublic ? 'This is the new public key' : 'This is the new secret'}${overlapping && +overlap ? '; give it to the receiver before the overlap ends' : ', which counts from now on'}.</p>
      <span class="row"><code>${made}</code><${Copy} text=${made} label="Copy secret" /></span>
    <//>`}`;
}
