// Holds: what the operator holds until it is released, an endpoint, an application's endpoints or all. The notices
// that say so, and the questions before something is held or released.

import { api, appPath, list } from './api.js';
import { Button, Time, base, confirm, count, html, toast, useId, useLoad, useMay } from './ui.js';

const endpoints = (n) => (n === 1 ? '1 endpoint is' : `${count(n)} endpoints are`);

/** Asks, and holds or releases what is at `where`; then says how many endpoints that changed. */
async function change(verb, done, where, question, then) {
  let changed = 0;
  const run = async () => { ({ changed } = await api('POST', `${where}/${verb}`)); };
  if (!await confirm({ ...question, run })) return;
  document.querySelector('h1')?.focus(); // The button that had the focus may go.
  toast(changed ? `${endpoints(changed)} ${done}.` : `Nothing had to be ${done}.`);
  then();
}

/** what: how the question names it. */
export const hold = (where, what, then) => change('hold', 'held', where, {
  title: `Hold ${what}?`,
  text: 'Nothing is sent until it is released, whatever asks for it. What is published meanwhile is accepted and waits.',
  action: 'Hold',
}, then);

export const release = (where, what, then, text = 'What waits is sent now, as fast as its usual limits allow.') => change('release', 'released', where, {
  title: `Release ${what}?`, text, action: 'Release',
}, then);

/** The notice of a held endpoint on its page; nothing where it is not held. `reload` reads the endpoint anew. */
export const Held = ({ endpoint, name, where, reload }) => endpoint.hold && html`<${HeldEndpoint} of=${endpoint.hold} name=${name} where=${where} reload=${reload} />`;

function HeldEndpoint({ of: { since, reason }, name, where, reload }) {
  const id = useId();
  const may = useMay()('holdEndpoints');
  return html`<section class="notice warn" aria-labelledby=${id}><h2 id=${id}>Held by the operator</h2>
    <p>Since <${Time} at=${since} exact />${reason === 'restored' ? ', when this server was restored from a copy' : ''}. Messages are accepted and wait. Nothing is sent until the endpoint is released.${may ? '' : ' Only the operator can release it.'}</p>
    ${may && html`<${Button} onClick=${() => release(where, `“${name}”`, reload)}>Release<//>`}
  </section>`;
}

/** The notice of all that is held, for the overview. */
export function AllHeld({ of: { endpoints: n, waiting, since }, reload }) {
  const id = useId();
  const may = useMay();
  const all = waiting === 1 ? 'The one delivery that waits is' : `The ${count(waiting)} deliveries that wait are`;
  const wait = waiting === 1 ? '1 delivery waits' : `${count(waiting)} deliveries wait`;
  return html`<section class="notice warn" aria-labelledby=${id}><h2 id=${id}>${endpoints(n)} held</h2>
    <p>${n === 1 ? 'Since' : 'The first since'} <${Time} at=${since} exact />. ${wait}. Nothing is sent to ${n === 1 ? 'it until it is released' : 'these endpoints until they are released, one by one, by application or all at once'}.</p>
    <div class="row">${may('holdAll') && html`<${Button} onClick=${() => release('', 'all that is held', reload, `${endpoints(n)} held. ${all} sent now, as fast as the usual limits allow.`)}>Release all<//>`}
      ${may('readLanes') && html`<a href=${`${base}/lanes`}>Lanes</a>`}${may('listApplications') && html`<a href=${`${base}/applications`}>Applications</a>`}</div>
  </section>`;
}

/** Buttons that hold and release all endpoints of an application, where somebody may. */
export function OfApplication({ app, changed }) {
  const may = useMay()('holdEndpoints');
  const some = useLoad(async (signal) => may && (await list(appPath(app, '/endpoint'), { status: 'held', limit: 1 }, { signal })).data.length > 0, [app, may], { every: 20000 });
  const then = () => {
    some.reload();
    changed();
  };
  return may && html`${some.data && html`<${Button} onClick=${() => release(appPath(app), 'all endpoints of this application', then)}>Release all<//>`}
    <${Button} onClick=${() => hold(appPath(app), 'all endpoints of this application', then)}>Hold all<//>`;
}
