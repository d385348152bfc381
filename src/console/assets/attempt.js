// One attempt: what became of it and why, the request and the answer, and the other attempts of its delivery.

import { api, appPath, list, pagePath, path } from './api.js';
import { Attempts, DeliveryState, Facts, Next, endpointName, firstCrumb, isUnderWay, loadMessage, notSent, resend, sayAttempt, sayFailure, sayMs } from './history.js';
import { Button, Code, Copy, LinkTo, Loaded, Page, Status, Time, html, prettyJson, toast, useLoad, useMay, useState } from './ui.js';

const ofConnection = ['content-length', 'host', 'date', 'connection', 'transfer-encoding'];
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Whether the request's body was the payload; a profile can make another one of it. */
const isPayload = ({ request }, payload) => !request.headers['content-length'] || +request.headers['content-length'] === new Blob([payload]).size;

/** The request as a curl command. A value that is not shown is a variable of the shell's. */
export function asCurl({ request, url }, payload) {
  const header = ([name, value]) => (value === '***' ? `${quoted(`${name}: `)}"$${name.toUpperCase().replace(/\W/g, '_')}"` : quoted(value ? `${name}: ${value}` : `${name};`));
  const hasBody = request.method !== 'GET';
  // No word of a shell's holds a NUL: printf writes it.
  const isPiped = hasBody && payload.includes('\0');
  const printed = () => quoted(payload.replaceAll('\\', '\\\\').replaceAll('%', '%%').replaceAll('\0', '\\000'));
  const names = Object.keys(request.headers).map((name) => name.toLowerCase());
  return (hasBody && !isPayload({ request }, payload) ? '# The profile made another body of this payload, which the signature is of.\n' : '') + [
    `${isPiped ? `printf ${printed()} | ` : ''}curl --include --globoff --request ${request.method} ${quoted(url)}`,
    ...Object.entries(request.headers).filter(([name]) => !ofConnection.includes(name.toLowerCase())).map((pair) => `--header ${header(pair)}`),
    // Where there is none, curl adds its own.
    ...(hasBody && !names.includes('content-type') ? [`--header 'content-type:'`] : []),
    ...(hasBody ? [isPiped ? '--data-binary @-' : `--data-raw ${quoted(payload)}`] : []),
  ].join(' \\\n  ');
}

export default function OneAttempt({ app, params: { msg, attempt: id } }) {
  const may = useMay();
  const mayRead = may('readHistory');
  const about = (what) => appPath(app, what);
  const [every, setEvery] = useState(0);
  const load = useLoad(async (signal) => {
    const [attempt, [message, payload]] = await Promise.all([api('GET', about(path`/msg/${msg}/attempt/${id}`), null, { signal }), loadMessage(app, msg, signal)]);
    const { data } = await list(about(path`/msg/${msg}/endpoint`), { limit: 250 }, { signal });
    // Nothing more happens at an endpoint that was deleted.
    const delivery = data.find((one) => one.id === attempt.endpointId && !one.deleted);
    const all = delivery ? await list(about(path`/attempt/msg/${msg}`), { endpoint_id: delivery.id, limit: 50, with_content: false }, { signal }) : { data: [attempt] };
    setEvery(isUnderWay(delivery) ? 5000 : 0);
    return { attempt, message, payload, delivery, all: all.data };
  }, [app, msg, id, every], { every });
  const { attempt, message, delivery, payload } = load.data ?? {};
  const to = (rest) => pagePath(app, rest);
  return html`<${Page} title=${message ? `Attempt: ${message.eventType}` : 'Attempt'} app=${app} badge=${attempt && html`<${Status} of=${attempt.statusText} />`}
    crumbs=${[...firstCrumb(app), ...(delivery ? [[endpointName(delivery), to(path`/endpoint/${delivery.id}`)]] : [])]}
    actions=${attempt && html`
      ${Object.keys(attempt.request.headers).length > 0 && (payload !== null || attempt.request.method === 'GET') && html`<${Copy} kind="" label="Copy as curl" text=${asCurl(attempt, payload)} />`}
      ${delivery && may('sendAgain') && html`<${Button} kind="primary" onClick=${() => resend(app, msg, delivery, load.reload)}>Send again<//>`}`}>
    <${Loaded} of=${load}>${({ all }) => html`<${Told} attempt=${attempt} delivery=${delivery} />
      <section class="card" aria-label="Facts"><${Facts} of=${[
        ['Endpoint', delivery ? html`<${LinkTo} to=${to(path`/endpoint/${delivery.id}`)}>${delivery.url}<//>` : 'Deleted'],
        ['Message', html`<${LinkTo} class="mono" to=${to(path`/message/${message.id}`)}>${message.id}<//>${message.eventId && html`<br />${message.eventId}`}`],
        ['Attempt', sayAttempt(attempt)],
        ['Began', html`<${Time} at=${attempt.timestamp} exact />`],
        ['From publishing to answer', sayMs(attempt.latencyMs)],
        ['Took', sayTimings(attempt)],
        attempt.sentAgain && ['Note', 'The request was made once more on a new connection: the one before closed without an answer.'],
      ]} /></section>
      <div class="split section"><${Sent} attempt=${attempt} payload=${payload} message=${message} where=${delivery && mayRead && about(path`/endpoint/${delivery.id}`)} /><${Answered} attempt=${attempt} /></div>
      <div class="spread section-head"><h2>All attempts of this delivery</h2>${delivery && html`<span class="row"><${DeliveryState} of=${delivery} />${delivery.nextAttempt && !delivery.held && html`<span>next attempt <${Next} of=${delivery} /></span>`}</span>`}</div>
      <${Attempts} app=${app} rows=${all} here=${attempt.id} caption="All attempts of this delivery" />`}<//>
  <//>`;
}

/** What became of it, in words. */
function Told({ attempt: { failure, responseStatusCode: code, responseDurationMs: ms }, delivery }) {
  if (!failure) return html`<div class="notice good"><p>The receiver answered <strong>${code}</strong> after ${sayMs(ms)}. The message is delivered.</p></div>`;
  const [words, advice, detail = failure.detail] = sayFailure(failure.kind);
  return html`<div class="notice bad"><p><strong>${words}.</strong> ${detail}</p>${advice && html`<p>${advice}</p>`}
    <p>${delivery?.held ? `The endpoint is ${delivery.hold ? 'held by the operator' : delivery.disabled ? 'disabled' : 'not verified'}: the message waits until it is ${delivery.hold ? 'released' : delivery.disabled ? 'enabled' : 'verified'}.` : delivery?.statusText === 'success' ? 'A later attempt delivered it.'
    : delivery?.nextAttempt ? html`Next attempt: <${Next} of=${delivery} />` : 'It is not tried again by itself.'}</p></div>`;
}

function sayTimings({ responseDurationMs, timings }) {
  const parts = [['name lookup', timings.dnsUs], ['connecting', timings.connectUs], ['TLS', timings.tlsUs], ['first byte after', timings.firstByteUs]];
  const said = parts.filter(([, us]) => us != null).map(([name, us]) => `${name} ${us < 1000 ? `${us} µs` : sayMs(us / 1000)}`);
  return html`${sayMs(responseDurationMs)}${said.length > 0 && html` <span class="muted">(${said.join(', ')})</span>`}`;
}

const Headers = ({ of, label }) => Object.keys(of).length > 0 && html`<h3>${label}</h3><div class="wrap"><${Code} label=${label} text=${Object.entries(of).map((pair) => pair.join(': ')).join('\n')} /></div>`;

/** A body: JSON with line breaks or as it is. */
export function Body({ text, label, level = 'h3' }) {
  const [raw, setRaw] = useState(false);
  const isJson = /^\s*[{[]/.test(text) && prettyJson(text) !== text;
  return html`<div class="spread"><${level}>${label}<//>${isJson && html`<${Button} class="small" aria-pressed=${raw ? 'true' : 'false'} onClick=${() => setRaw(!raw)}>As sent<//>`}</div>
    <${Code} label=${label} text=${text} json=${isJson && !raw} />`;
}

/** A message's payload, which can be any text, or deleted. */
export const Payload = ({ text, level = 'h3' }) => (text ? html`<${Body} text=${text} label="Payload" level=${level} />`
  : html`<${level}>Payload<//><p class="muted">${text === null ? 'The payload was deleted.' : 'Empty: requests have no body.'}</p>`);

const Sent = ({ attempt: { request, url, failure }, payload, message, where }) => {
  const isMade = request.method !== 'GET' && payload !== null && !isPayload({ request }, payload);
  const masked = Object.keys(request.headers).filter((name) => request.headers[name] === '***');
  return html`<section class="card stack" aria-labelledby="sent"><h2 id="sent">Request</h2>
  ${notSent.includes(failure?.kind) && html`<p>No request was made. It would have been:</p>`}
  <p class="mono break"><strong>${request.method}</strong> ${url}</p>
  <${Headers} of=${request.headers} label="Request headers" />
  ${masked.length > 0 && html`<p class="hint">Not shown, because secret: ${masked.join(', ')}.</p>`}
  ${request.method === 'GET' && html`<p class="hint">A GET has no body. The message’s payload is:</p>`}
  <${Payload} text=${payload} />
  ${isMade && html`<p class="hint">The endpoint’s transformation or profile made another body of it.</p>${where && html`<${Made} where=${where} id=${message.id} />`}`}
  ${message.channels && html`<p class="hint">Channels: ${message.channels.join(', ')}</p>`}
</section>`;
};

/** The body that is made of a message today: the one of an attempt is not kept. */
function Made({ where, id }) {
  const [made, setMade] = useState(null);
  const show = () => api('POST', `${where}/transformation-preview`, { messageIds: [id] }).then(({ data: [one] }) => setMade(one.request?.body ?? one.error.message), (error) => toast(error.message, 'bad'));
  return made === null ? html`<div><${Button} class="small" onClick=${show}>Show the body as it is made today<//></div>` : html`<${Body} text=${made} label="Body as it is made today" />`;
}

const Answered = ({ attempt }) => html`<section class="card stack" aria-labelledby="answered"><h2 id="answered">Response</h2>
  ${attempt.responseStatusCode ? html`<p><strong>${attempt.responseStatusCode}</strong> after ${sayMs(attempt.responseDurationMs)}</p>
    <${Headers} of=${attempt.responseHeaders} label="Response headers" />
    ${attempt.response ? html`<${Body} text=${attempt.response} label="Response body" />` : html`<p class="hint">Without a body.</p>`}
    ${attempt.responseTruncated && html`<p class="hint">The body was longer than what is kept.</p>`}` : html`<p>${notSent.includes(attempt.failure?.kind) ? 'No request was made.' : 'No response came.'}</p>`}
</section>`;
