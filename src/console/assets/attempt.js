// One attempt: what became of it and why, the request and the answer, and the other attempts of its delivery.

import { api, appPath, list, pagePath, path, surface } from './api.js';
import { Attempts, DeliveryState, endpointName, Next, loadMessage, resend, sayAttempt, sayFailure, sayMs } from './history.js';
import { Button, Code, Copy, LinkTo, Loaded, Page, Status, Time, html, useLoad, useMay, useState } from './ui.js';

const over = ['content-length', 'host', 'date', 'connection', 'accept-encoding', 'transfer-encoding'];
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** The request as a curl command. A value that is not shown is a variable of the shell's. */
export function asCurl({ request, url }, payload) {
  const header = ([name, value]) => (value === '***' ? `${quoted(`${name}: `)}"$${name.toUpperCase().replace(/\W/g, '_')}"` : quoted(value ? `${name}: ${value}` : `${name};`));
  const parts = [
    `curl --include --globoff --request ${request.method} ${quoted(url)}`,
    ...Object.entries(request.headers).filter(([name]) => !over.includes(name.toLowerCase())).map((pair) => `--header ${header(pair)}`),
    ...(request.method === 'GET' ? [] : [`--data-raw ${quoted(payload)}`]),
  ];
  return parts.join(' \\\n  ');
}

export default function OneAttempt({ app, params: { msg, attempt: id } }) {
  const may = useMay();
  const load = useLoad(async (signal) => {
    const [attempt, [message, payload]] = await Promise.all([api('GET', appPath(app, path`/msg/${msg}/attempt/${id}`), null, { signal }), loadMessage(app, msg, signal)]);
    const [endpoint, states, all] = await Promise.all([
      api('GET', appPath(app, path`/endpoint/${attempt.endpointId}`), null, { signal }).catch(() => null),
      list(appPath(app, path`/msg/${msg}/endpoint`), { limit: 250 }, { signal }),
      list(appPath(app, path`/attempt/msg/${msg}`), { endpoint_id: attempt.endpointId, limit: 50, with_content: false }, { signal }).catch(() => ({ data: [attempt] })),
    ]);
    return { attempt, message, payload, endpoint, all: all.data, delivery: states.data.find((one) => one.id === attempt.endpointId) };
  }, [app, msg, id], { every: 5000 });
  const { attempt, message, endpoint, payload } = load.data ?? {};
  const to = (rest) => pagePath(app, rest);
  return html`<${Page} title=${message ? `Attempt: ${message.eventType}` : 'Attempt'} app=${app} badge=${attempt && html`<${Status} of=${attempt.statusText} />`}
    crumbs=${[...(surface === 'portal' ? [['Webhooks', to('')]] : []), ...(attempt ? [[endpointName(endpoint), to(path`/endpoint/${attempt.endpointId}`)]] : [])]}
    actions=${attempt && html`
      ${attempt.request.method && Object.keys(attempt.request.headers).length > 0 && html`<${Copy} kind="" label="Copy as curl" text=${asCurl(attempt, payload)} />`}
      ${endpoint && may('sendAgain') && html`<${Button} kind="primary" onClick=${() => resend(app, msg, endpoint, load.reload)}>Send again<//>`}`}>
    <${Loaded} of=${load}>${(data) => html`<${Told} ...${data} />
      <section class="card" aria-label="Facts"><dl class="facts">
        <dt>Endpoint</dt><dd>${data.endpoint ? html`<${LinkTo} to=${to(path`/endpoint/${data.endpoint.id}`)}>${data.endpoint.url}<//>` : 'Deleted'}</dd>
        <dt>Message</dt><dd><${LinkTo} class="mono" to=${to(path`/message/${data.message.id}`)}>${data.message.id}<//>${data.message.eventId && html`<br />${data.message.eventId}`}</dd>
        <dt>Attempt</dt><dd>${sayAttempt(data.attempt)}</dd>
        <dt>Began</dt><dd><${Time} at=${data.attempt.timestamp} exact /></dd>
        <dt>From publishing to answer</dt><dd>${sayMs(data.attempt.latencyMs)}</dd>
        <dt>Took</dt><dd>${sayTimings(data.attempt)}</dd>
        ${data.attempt.sentAgain && html`<dt>Note</dt><dd>The request was made once more on a new connection: the one before closed without an answer.</dd>`}
      </dl></section>
      <div class="split section">
        <${Sent} ...${data} /><${Answered} attempt=${data.attempt} />
      </div>
      <div class="spread section-head"><h2>All attempts of this delivery</h2>${data.delivery && html`<span class="row"><${DeliveryState} of=${data.delivery} /><${Next} of=${data.delivery} /></span>`}</div>
      <${Attempts} app=${app} rows=${data.all} here=${data.attempt.id} withMessage=${false} caption="All attempts of this delivery" />`}<//>
  <//>`;
}

/** What became of it, in words. */
function Told({ attempt: { failure, responseStatusCode: code, responseDurationMs: ms, nextAttemptAt: next }, delivery }) {
  if (!failure) return html`<div class="notice good"><p>The receiver answered <strong>${code}</strong> after ${sayMs(ms)}. The message is delivered.</p></div>`;
  const [words, meaning] = sayFailure(failure.kind);
  const waits = delivery?.nextAttempt && delivery.statusText !== 'success';
  return html`<div class="notice bad"><p><strong>${words}.</strong> ${failure.detail}</p>${meaning && html`<p>${meaning}</p>`}
    <p>${delivery?.held ? 'The endpoint is disabled: the message is held until it is enabled.' : waits ? html`Next attempt: <${Time} at=${delivery.nextAttempt} />`
    : delivery?.statusText === 'success' ? 'A later attempt delivered it.' : next ? html`Next attempt: <${Time} at=${next} />` : 'It is not tried again by itself.'}</p></div>`;
}

function sayTimings({ responseDurationMs, timings }) {
  const parts = [['name lookup', timings.dnsUs], ['connecting', timings.connectUs], ['TLS', timings.tlsUs], ['first byte after', timings.firstByteUs]];
  const said = parts.filter(([, us]) => us != null).map(([name, us]) => `${name} ${us < 1000 ? `${us} µs` : sayMs(us / 1000)}`);
  return html`${sayMs(responseDurationMs)}${said.length > 0 && html` <span class="muted">(${said.join(', ')})</span>`}`;
}

const Headers = ({ of, label }) => (Object.keys(of).length ? html`<h3>${label}</h3><${Code} label=${label} text=${Object.entries(of).map((pair) => pair.join(': ')).join('\n')} />` : null);

/** JSON with line breaks or as it is. */
export function Body({ text, label, level = 'h3' }) {
  const [raw, setRaw] = useState(false);
  const isJson = /^\s*[{[]/.test(text);
  return html`<div class="spread"><${level}>${label}<//>${isJson && html`<${Button} class="small" aria-pressed=${raw ? 'true' : 'false'} onClick=${() => setRaw(!raw)}>As sent<//>`}</div>
    <${Code} label=${label} text=${text} json=${isJson && !raw} />`;
}

const Sent = ({ attempt: { request, url }, payload, message }) => html`<section class="card stack" aria-labelledby="sent"><h2 id="sent">Request</h2>
  <p class="mono break"><strong>${request.method}</strong> ${url}</p>
  <${Headers} of=${request.headers} label="Request headers" />
  ${request.masked.length > 0 && html`<p class="hint">Not shown, because they are secret: ${request.masked.join(', ')}.</p>`}
  ${request.method === 'GET' ? html`<p class="hint">A GET has no body. The message’s payload was:</p>` : null}
  <${Body} text=${payload} label="Payload" />
  ${message.channels && html`<p class="hint">Channels: ${message.channels.join(', ')}</p>`}
</section>`;

const Answered = ({ attempt }) => html`<section class="card stack" aria-labelledby="answered"><h2 id="answered">Response</h2>
  ${attempt.responseStatusCode ? html`<p><strong>${attempt.responseStatusCode}</strong> after ${sayMs(attempt.responseDurationMs)}</p>
    <${Headers} of=${attempt.responseHeaders} label="Response headers" />
    ${attempt.response ? html`<${Body} text=${attempt.response} label="Response body" />` : html`<p class="hint">The response had no body.</p>`}
    ${attempt.responseTruncated && html`<p class="hint">It was longer than what is kept.</p>`}`
    : html`<p>No response came.</p>`}
</section>`;
