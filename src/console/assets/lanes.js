// The lanes that have work: how deep each is, how old its head, what is in flight.

import { list } from './api.js';
import { AppLink, EndpointLink, Listing, col } from './operator.js';
import { Page, Status, Time, base, count, html, useLoad } from './ui.js';

const held = { 'by-hand': 'By the operator', restored: 'By the operator, since the restore', disabled: 'The endpoint is disabled', unverified: 'The endpoint is not verified' };
const because = { open: 'Failed too often: probes only', resting: 'The receiver asked for a rest', hanging: 'Time-outs: one at a time', throttled: 'At its rate limit', 'host-busy': 'Many requests to its host' };

/** When the lane sends next, as far as that is known. */
function NextAttempt({ state, nextDueAt, nextProbeAt }) {
  if (state === 'held') return html`<span class="muted">–</span>`;
  const at = Math.max(Date.parse(nextDueAt), Date.parse(nextProbeAt) || 0);
  return at < Date.now() ? 'now' : html`<${Time} at=${new Date(at).toISOString()} />`;
}

export default function Lanes() {
  const lanes = useLoad((signal) => list('/lane', { limit: 100 }, { signal }), [], { every: 5000 });
  const columns = [
    col('Endpoint', ({ applicationId: app, applicationName, endpointId, url }) => (app
      ? html`<${EndpointLink} app=${app} id=${endpointId} url=${url} /><br /><span class="small"><${AppLink} id=${app} name=${applicationName} /></span>` : html`<a class="break" href=${`${base}/operational`}>${url}</a><br /><span class="small muted">Operational webhook</span>`)),
    col('State', ({ state, heldReason }) => html`<div><${Status} of=${state} />${(held[heldReason] ?? because[state]) && html`<p class="small muted">${held[heldReason] ?? because[state]}</p>`}</div>`),
    col('Waiting', ({ waiting, waitingIsMore }) => count(waiting) + (waitingIsMore ? '+' : ''), 'num'),
    col('In flight', ({ inFlight }) => count(inFlight), 'num'),
    col('Oldest due', ({ oldestDueAt }) => html`<${Time} at=${oldestDueAt} />`),
    col('Next attempt', NextAttempt),
  ];
  return html`<${Page} title="Lanes" intro="Each endpoint has a lane of its own, so that none holds up another. This is a list of up to 100 lanes that have work, the worst first, refreshed every 5 seconds.">
    <${Listing} of=${{ ...lanes, loading: false }} caption="Lanes with work" columns=${columns} rowKey=${(lane) => lane.endpointId} empty=${['Nothing waits', 'All that was published has been sent.']} />
    ${lanes.data?.total > lanes.data?.data.length && html`<p class="muted">${count(lanes.data.total)} lanes have work.</p>`}
  <//>`;
}
