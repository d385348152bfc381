// How an endpoint is, in words: its badge in lists, and the notice at the top of its page. There is one notice at a
// time, of what weighs most: it is disabled, held, not verified yet, paused after failures, left alone because its
// receiver asked for that, or failing.

import { enable, letGo, probe, release } from './hold.js';
import { Button, Status, Time, announce, count, endpointState, html, isUnverified, useId, useLayoutEffect, useMay, useRef, useState } from './ui.js';
import { Verification } from './verification.js';

const isOver = (at) => Date.parse(at) <= Date.now();
const causes = { 'by-hand': 'by hand', gone: 'by a 410', requested: 'by its receiver', failing: 'after failures' };

/** What stands below the badge in a list, by the state. */
const whys = {
  disabled: ({ disabledReason: reason, disabledAt, hold }) => (disabledAt || hold) && html`${causes[reason]} ${disabledAt && html`<${Time} at=${disabledAt} />`}${hold && `${disabledAt ? '; ' : ''}held by the operator`}`,
  held: ({ hold: { reason, since } }) => html`${reason === 'restored' ? 'restored ' : ''}<${Time} at=${since} />`,
  paused: ({ breaker: { nextProbeAt } }) => html`after failures${!isOver(nextProbeAt) && html`; next try <${Time} at=${nextProbeAt} />`}`,
  resting: ({ breaker: { nextProbeAt } }) => html`asked by its receiver${!isOver(nextProbeAt) && html`; next try <${Time} at=${nextProbeAt} />`}`,
  failing: ({ failingSince, disablesAt }) => failingSince && html`since <${Time} at=${failingSince} />${disablesAt && html`; will be disabled <${Time} at=${disablesAt} />`}`,
};

/** An endpoint's badge, and the reason; `health` where a list has it. */
export function EndpointState({ endpoint, health }) {
  const state = endpointState(endpoint, health) ?? (endpoint.failingSince ? 'failing' : 'enabled');
  const why = whys[state]?.(endpoint);
  return html`<div><${Status} of=${state} />${why && html`<p class="small muted">${why}</p>`}</div>`;
}

/** Which notice an endpoint's page has; `state` is that of its badge. */
function kindOf(endpoint, state) {
  if (endpoint.disabled) return 'disabled';
  if (endpoint.hold) return 'held';
  if (isUnverified(endpoint)) return 'unverified';
  if (['paused', 'resting'].includes(state)) return state;
  // One attempt of many that failed is no news.
  return endpoint.failingSince && (state === 'failing' || endpoint.disablesAt) && 'failing';
}

const titles = { 'by-hand': 'Disabled by hand', gone: 'Disabled: the receiver is gone', requested: 'Disabled at its receiver’s request', failing: 'Disabled after failures' };

/**
 * The notice on an endpoint's page; nothing where all is well.
 * @param {{state: string, waiting: number}} [health] as a list has it
 * @param {(endpoint: object) => void} set shows what is known anew
 * @param {() => void} reload reads the endpoint anew
 */
export function Notice({ endpoint, health, name, where, set, reload }) {
  const kind = kindOf(endpoint, endpointState(endpoint, health));
  const box = useRef();
  const last = useRef(kind);
  const hadFocus = useRef(false);
  // The notice that had the focus may be another now.
  hadFocus.current = !!box.current?.contains(document.activeElement);
  useLayoutEffect(() => {
    if (last.current === kind) return;
    last.current = kind;
    if (hadFocus.current && !box.current.contains(document.activeElement)) document.querySelector('h1')?.focus();
    announce(box.current.querySelector('h2')?.textContent ?? 'Messages are sent to this endpoint again.');
  }, [kind]);
  const View = { disabled: Disabled, held: Held, paused: Paused, resting: Paused, failing: Failing }[kind];
  return html`<div ref=${box}>${kind === 'unverified' ? html`<${Verification} endpoint=${endpoint} where=${where} reload=${reload} />`
    : View && html`<${View} key=${kind} endpoint=${endpoint} waiting=${health?.waiting} name=${name} where=${where} set=${set} reload=${reload} />`}</div>`;
}

/** A notice's box; `actions` are its buttons, where there are any. */
function Box({ kind = '', title, actions = [], children }) {
  const id = useId();
  return html`<section class=${`notice ${kind}`} aria-labelledby=${id}><h2 id=${id}>${title}</h2>${children}
    ${actions.some(Boolean) && html`<div class="row">${actions}</div>`}</section>`;
}

const sayWaiting = (n) => n > 0 && html` <strong>${count(n)}${n >= 10000 ? ' or more' : ''}</strong> ${n === 1 ? 'message waits' : 'messages wait'}.`;

const letGoOf = (waiting, what) => waiting > 0 && html`<${Button} onClick=${() => letGo(what)}>Let go of what waits…<//>`;

const reasons = {
  gone: ', when the receiver answered 410 Gone, which says that it wants no more',
  requested: html`, when the receiver asked for it in an answer, with the header <code>webhook-delivery: disable</code>`,
};

function Disabled({ endpoint, waiting, name, where, reload }) {
  const may = useMay()('changeEndpoints');
  const { disabledReason: reason, disabledAt: at, failingSince, hold } = endpoint;
  const since = reason === 'failing' ? html`, because every attempt since <${Time} at=${failingSince} exact /> had failed` : reasons[reason];
  return html`<${Box} kind=${titles[reason] && reason !== 'by-hand' ? 'bad' : 'warn'} title=${titles[reason] ?? 'Disabled'} actions=${[
    may && html`<${Button} onClick=${() => enable({ endpoint, name, where, then: reload })}>Enable<//>`,
    may && letGoOf(waiting, { endpoint, name, where, then: reload })]}>
    <p>${at && html`Since <${Time} at=${at} exact />${since}. `}Messages are accepted and wait. Nothing is sent until the endpoint is enabled.${sayWaiting(waiting)}</p>
    ${(hold || isUnverified(endpoint)) && html`<p>${hold ? 'The operator holds it, too: once it is enabled, messages wait until it is released.' : 'It is not verified yet: challenges are sent once it is enabled.'}</p>`}
  <//>`;
}

function Held({ endpoint, waiting, name, where, reload }) {
  const may = useMay();
  const { since, reason } = endpoint.hold;
  const mayRelease = may('holdEndpoints');
  return html`<${Box} kind="warn" title="Held by the operator" actions=${[
    mayRelease && html`<${Button} onClick=${() => release(where, `“${name}”`, reload)}>Release<//>`,
    may('changeEndpoints') && letGoOf(waiting, { endpoint, name, where, then: reload })]}>
    <p>Since <${Time} at=${since} exact />${reason === 'restored' ? ', when this server was restored from a copy' : ''}. Messages are accepted and wait. Nothing is sent until the endpoint is released.${sayWaiting(waiting)}${mayRelease ? '' : ' Only the operator can release it.'}</p>
  <//>`;
}

const Warning = ({ at }) => at && html`<p>If nothing succeeds until <strong><${Time} at=${at} exact /></strong>, the endpoint is disabled.</p>`;

/** Its breaker is open, or its receiver asked for a rest. */
function Paused({ endpoint, waiting, where, set }) {
  const may = useMay()('sendAgain');
  const [busy, setBusy] = useState(false);
  const { breaker: { state, nextProbeAt: next }, failures, failingSince, disablesAt } = endpoint;
  const isDue = isOver(next);
  const ask = async () => {
    setBusy(true);
    const breaker = await probe(where);
    if (breaker) set({ ...endpoint, breaker });
    setBusy(false);
  };
  return html`<${Box} kind=${state === 'open' ? 'warn' : ''} title=${state === 'open' ? 'Paused after failures' : 'Left alone, as its receiver asked'}
      actions=${[may && !isDue && html`<${Button} busy=${busy} onClick=${ask}>Try now<//>`]}>
    <p>${state === 'open' ? html`Nothing is sent but a try now and then, because ${failures > 1 ? `the last ${count(failures)} attempts` : 'the last attempt'} failed, since <${Time} at=${failingSince} exact />.`
    : html`The receiver answered with <code>Retry-After</code>, so nothing is sent until <${Time} at=${next} exact />; then one message is tried.`} Messages are accepted and wait. As soon as one is delivered, the rest follows.${sayWaiting(waiting)}</p>
    <p>${!isDue ? html`The next try is <${Time} at=${next} />.` : waiting === 0 ? 'The next message that is published is tried at once.' : 'The next message that is due is tried at once.'}</p>
    <${Warning} at=${disablesAt} />
  <//>`;
}

function Failing({ endpoint: { failures, failingSince, disablesAt } }) {
  return html`<${Box} kind="warn" title="Attempts fail">
    <p>${failures > 1 ? `The last ${count(failures)} attempts` : 'The last attempt'} failed, ${failures > 1 ? 'all ' : ''}since <${Time} at=${failingSince} exact />. Messages are retried by their schedule.</p>
    <${Warning} at=${disablesAt} />
  <//>`;
}
