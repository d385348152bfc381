// What waits: the questions before endpoints are held, released or enabled, and before messages that wait are let go
// of; the try of an endpoint that gets nothing else; and the notice of all that the operator holds.

import { api, appPath, list } from './api.js';
import { Button, Field, Time, base, confirm, count, html, isUnverified, toast, useId, useLoad, useMay, useState } from './ui.js';

const endpoints = (n) => (n === 1 ? '1 endpoint is' : `${count(n)} endpoints are`);

/** Asks, does it, says what `said` makes of the API's answer, and goes on. */
async function change(where, question, said, then) {
  let answer;
  const run = async () => { answer = await api('POST', where, question.body?.()); };
  if (!await confirm({ ...question, run })) return;
  document.querySelector('h1')?.focus(); // The button that had the focus may go.
  toast(said(answer));
  then();
}

const sayChanged = (done) => ({ changed }) => (changed ? `${endpoints(changed)} ${done}.` : `Nothing had to be ${done}.`);

/** what: how the question names it. */
export const hold = (where, what, then) => change(`${where}/hold`, {
  title: `Hold ${what}?`,
  text: 'Nothing is sent until it is released, whatever asks for it. What is published meanwhile is accepted and waits.',
  action: 'Hold',
}, sayChanged('held'), then);

/** The field for the pace of what waits. */
function Pace({ error, label, onInput }) {
  const [rate, setRate] = useState('');
  const type = (value) => {
    setRate(value);
    onInput(value.trim());
  };
  return html`<${Field} label=${label} inputmode="numeric" optional value=${rate} onInput=${type} error=${error?.fields?.['body.rate']}
    hint="Only for what waits now; new messages do not wait for it. Left empty, it is sent as fast as the usual limits allow." />`;
}

/** A question with a field for the pace, which goes into the call's body. */
function paced(question, label = 'Send at most this many a second') {
  let rate = '';
  return {
    ...question,
    text: (error) => html`<p>${question.text}</p><${Pace} error=${error} label=${label} onInput=${(value) => { rate = value; }} />`,
    body: () => {
      if (rate && !/^\d+$/.test(rate)) throw Object.assign(new Error('This is not a number.'), { fields: { 'body.rate': 'Enter a whole number.' } });
      return rate ? { rate: Number(rate) } : undefined;
    },
  };
}

/** Releases one endpoint, or all at `where`. */
export const release = (where, what, then, text = 'What waits is sent now.') => change(`${where}/release`, paced({
  title: `Release ${what}?`, text, action: 'Release',
}, where.includes('/endpoint/') ? undefined : 'Send each endpoint at most this many a second'), sayChanged('released'), then);

/** How many messages wait for an endpoint now; 10,000 are counted. */
async function waitingFor(endpoint, where) {
  const [one] = (await list(where.slice(0, where.lastIndexOf('/')), { with_health: true, search: endpoint.id, limit: 1 })).data;
  return one?.health.waiting ?? 0;
}

const messages = (n) => (n === 1 ? '1 message' : `${count(n)} messages`);
const counted = (n) => (n >= 10000 ? `${count(n)} messages or more` : messages(n));

/** Enables an endpoint: says how many messages wait for it, and asks how fast they are sent. */
export async function enable({ endpoint, name, where, then }) {
  const n = await waitingFor(endpoint, where).catch((error) => toast(error.message, 'bad'));
  if (n === undefined) return;
  const wait = `${counted(n)} ${n === 1 ? 'waits' : 'wait'}. `;
  const text = endpoint.hold ? `${n ? wait : ''}“${name}” stays held by the operator: messages wait until it is released.`
    : isUnverified(endpoint) ? `${n ? wait : ''}A challenge is sent to “${name}” now. What waits is sent once it is verified.`
      : n ? `${wait}${n === 1 ? 'It is' : 'They are'} sent now, beside what is published from now on.` : `Nothing waits for “${name}”. What is published from now on is sent.`;
  const question = { title: `Enable “${name}”?`, text, action: 'Enable' };
  // A release has a pace of its own.
  await change(`${where}/enable`, n && !endpoint.hold ? paced(question) : question, () => 'The endpoint is enabled.', then);
}

/** Asks for a try of an endpoint that gets nothing but tries: its breaker; nothing where that was refused. */
export async function probe(where) {
  try {
    const { breaker } = await api('POST', `${where}/probe`);
    document.querySelector('h1')?.focus();
    toast('The next message is tried at once.');
    return breaker;
  } catch (error) {
    return void toast(error.message, 'bad');
  }
}

/** Lets go of what waits for an endpoint that gets nothing. */
export async function letGo({ endpoint, name, where, then }) {
  const n = await waitingFor(endpoint, where).catch((error) => toast(error.message, 'bad'));
  if (n === undefined) return;
  if (!n) {
    toast('Nothing waits any more.');
    then();
    return;
  }
  await change(`${where}/cancel-held`, {
    title: `Let go of ${counted(n)}?`,
    text: html`<p>${n === 1 ? 'It is not sent to' : 'None of them is sent to'} <strong class="break">${name}</strong>, and ${n === 1 ? 'it counts' : 'they count'} as failed there. ${n === 1 ? 'The message stays' : 'The messages stay'}: “Recover and replay” can send ${n === 1 ? 'it' : 'them'} after all.</p>`,
    action: `Let go of ${counted(n)}`,
    danger: true,
  }, ({ canceled }) => `${messages(canceled)} ${canceled === 1 ? 'was' : 'were'} let go of.`, then);
}

/** The notice of all that is held, for the overview. */
export function AllHeld({ of: { endpoints: n, waiting, since }, reload }) {
  const id = useId();
  const may = useMay();
  const all = waiting === 1 ? 'The one delivery that waits is' : `The ${count(waiting)} deliveries that wait are`;
  const wait = waiting === 1 ? '1 delivery waits' : `${count(waiting)} deliveries wait`;
  return html`<section class="notice warn" aria-labelledby=${id}><h2 id=${id}>${endpoints(n)} held</h2>
    <p>${n === 1 ? 'Since' : 'The first since'} <${Time} at=${since} exact />. ${wait}. Nothing is sent to ${n === 1 ? 'it until it is released' : 'these endpoints until they are released, one by one, by application or all at once'}.</p>
    <div class="row">${may('holdAll') && html`<${Button} onClick=${() => release('', 'all that is held', reload, `${endpoints(n)} held. ${all} sent now.`)}>Release all<//>`}
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
