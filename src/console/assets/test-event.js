// Sends a test to an endpoint: an event type's example, which may be edited first. Shows what came of it.

import { api, appPath, list, listAll, pagePath, path } from './api.js';
import { Body } from './attempt.js';
import { EndpointPage, FormFinder, Outcome, findChannels, sayFailure, sayMs, takes, useEndpoint } from './history.js';
import { payloadProblem, withPayload } from './messages.js';
import { words } from './operator.js';
import { useQuery } from './router.js';
import { Button, Empty, Field, Form, LinkButton, LinkTo, Loaded, Time, announce, html, isUnverified, prettyJson, toast, useEffect, useForm, useLoad, useState } from './ui.js';

export default function SendTest({ app, params: { ep } }) {
  const of = useEndpoint(app, ep);
  const types = useLoad((signal) => listAll('/event-type', {}, { signal, max: 1000 }), []);
  return html`<${EndpointPage} app=${app} of=${of} ep=${ep} part="/test" title="Send a test"
    intro="A test goes to this endpoint alone, whatever events it receives. It is signed and retried like any message, and marked as a test in the log.">${(endpoint) => html`
    ${endpoint.disabled || endpoint.hold || isUnverified(endpoint) ? html`<${Empty} title=${`This endpoint is ${endpoint.disabled ? 'disabled' : endpoint.hold ? 'held by the operator' : 'not verified yet'}`}><p>${endpoint.disabled ? 'Enable it to send a test.' : endpoint.hold ? 'A test can be sent once it is released.' : 'A test can be sent once its URL has answered a challenge.'}</p><${LinkButton} to=${pagePath(app, path`/endpoint/${ep}`)}>To the endpoint<//><//>`
    : html`<${Loaded} of=${types}>${(all) => (all.length ? html`<${Test} app=${app} endpoint=${endpoint} types=${all} />`
      : html`<${Empty} title="There are no event types"><p>A test sends an event type’s example; no event type is registered yet.</p><//>`)}<//>`}`}<//>`;
}

/** An event type's example as it was registered. */
async function exampleOf(name) {
  const { example, schemas } = await api('GET', path`/event-type/${name}`, null, { exact: true });
  const newest = Object.entries(schemas ?? {}).sort(([a], [b]) => b - a)[0]?.[1];
  return example ?? newest?.examples?.[0] ?? null;
}

function Test({ app, endpoint, types }) {
  const [query] = useQuery({ event: '' });
  const wanted = types.find(({ name }) => endpoint.eventTypes?.some((one) => takes(one, name)))?.name;
  const form = useForm({ eventType: types.some(({ name }) => name === query.event) ? query.event : wanted ?? types[0].name, payload: '', channels: '' });
  const { values, set } = form;
  const [example, setExample] = useState(undefined);
  const [sent, setSent] = useState(null);
  useEffect(() => {
    let left = false;
    exampleOf(values.eventType).then((found) => {
      if (left) return;
      const text = found ? prettyJson(JSON.stringify(found)) : '{\n  \n}';
      setExample(found ? text : null);
      set('payload', text);
    }, (error) => {
      setExample('');
      toast(error.message, 'bad');
    });
    return () => { left = true; };
  }, [values.eventType]);
  const send = async () => {
    setSent(null);
    setSent(await api('POST', appPath(app, path`/endpoint/${endpoint.id}/simulate`), withPayload({ eventType: values.eventType, channels: words(values.channels) ?? undefined }, values.payload)));
  };
  const problem = payloadProblem(values.payload);
  return html`<div class="split wide-first">
    <${Form} form=${form} guard=${false} submit="Send the test" onSubmit=${send} check=${() => (problem ? { 'body.payload': problem } : {})}><div class="card">
      <${Field} label="Event" name="eventType" type="select" options=${types.map(({ name }) => [name, name])}
        hint=${example === null ? 'It has no example: write the payload yourself.' : types.find(({ name }) => name === values.eventType)?.description} />
      <${Field} label="Payload" name="payload" type="textarea" rows="14" class="code-input" spellcheck=${false} aria-busy=${example === undefined ? 'true' : null}
        hint=${problem && values.payload ? problem : html`JSON, sent exactly as written here. ${example && values.payload !== example && html`<${Button} kind="quiet" class="small" onClick=${() => set('payload', example)}>Back to the example<//>`}`} />
      <${FormFinder} form=${form} label="Channels" optional name="channels" find=${findChannels} hint="Separated by commas." />
    </div><//>
    ${sent ? html`<${Result} key=${sent.id} app=${app} endpoint=${endpoint} message=${sent} />` : html`<section class="card" aria-label="Result"><h2>Result</h2><p class="muted">The receiver’s answer appears here.</p></section>`}
  </div>`;
}

/** Waits for the first attempt. */
function Result({ app, endpoint, message }) {
  const [every, setEvery] = useState(500);
  const load = useLoad(async (signal) => {
    const { data } = await list(appPath(app, path`/attempt/msg/${message.id}`), { endpoint_id: endpoint.id, limit: 1 }, { signal });
    if (data[0]) setEvery(0);
    return data[0] ?? null;
  }, [message.id, every > 0], { every });
  const attempt = load.data;
  const advice = sayFailure(attempt?.failure?.kind)[1];
  useEffect(() => { if (attempt) announce(attempt.failure ? `The test failed: ${attempt.failure.detail}` : 'The test was delivered.'); }, [attempt?.id]);
  return html`<section class="card stack" aria-labelledby="result"><h2 id="result">Result</h2>
    ${!attempt ? html`<p class="loading"><span class="spinner" aria-hidden="true"></span> Sent; waiting for the answer…</p>` : html`
      <div class="spread"><${Outcome} of=${attempt} /><span class="muted"><${Time} at=${attempt.timestamp} />, took ${sayMs(attempt.responseDurationMs)}</span></div>
      ${attempt.failure && html`<div class="notice bad"><p>${attempt.failure.detail}</p>${advice && html`<p>${advice}</p>`}${attempt.nextAttemptAt && html`<p>Next attempt: <${Time} at=${attempt.nextAttemptAt} /></p>`}</div>`}
      ${attempt.response && html`<${Body} text=${attempt.response} label="Response body" />`}
      <p><${LinkTo} to=${pagePath(app, path`/attempt/${message.id}/${attempt.id}`)}>The attempt, with request and response<//></p>`}
  </section>`;
}
