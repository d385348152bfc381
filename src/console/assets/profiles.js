// Profiles: what requests look like. The list, and one with a request as it would be sent, made anew as one types.

import { api, list, path } from './api.js';
import { Listing, col, sayRetry } from './operator.js';
import { Badge, Code, Field, Loaded, Page, base, html, useEffect, useLoad, useState } from './ui.js';

const here = `${base}/profiles`;
const Default = ({ of }) => of.isDefault && html` <${Badge} kind="info">Default<//>`;
const saySuccess = ({ status, body, contentType }) => [status.join(', ').replace('200-299', 'any 2xx'), body != null && `the body “${body}”`, contentType].filter(Boolean).join(', ');
/** How requests are signed, a text for each header. */
const saySigned = ({ standardWebhooks, signatures = [] }) => [standardWebhooks && `Standard Webhooks, in ${standardWebhooks}-… headers`, ...signatures.map(({ header, algorithm, encoding, content }) => (
  algorithm === 'static' ? `${header}: the secret itself` : `${header}: ${algorithm}, ${encoding ?? 'hex'}, of ${content ?? 'the body'}`))].filter(Boolean);

export default ({ params }) => html`<${params.name ? One : All} name=${params.name} />`;

function All() {
  const profiles = useLoad((signal) => list('/profile', { limit: 250 }, { signal }), []);
  return html`<${Page} title="Profiles" intro="How requests look, how they are signed, and which answers count as success. Profiles are defined in config.toml.">
    <${Listing} of=${profiles} caption="Profiles" rowKey=${(one) => one.name} columns=${[
    col('Profile', (one) => html`<a href=${here + path`/${one.name}`}>${one.name}</a><${Default} of=${one} />`), col('Description', ({ description }) => description),
    col('Methods', ({ methods }) => methods.join(', ')), col('Success', ({ success }) => saySuccess(success))]} />
  <//>`;
}

function One({ name }) {
  const profile = useLoad((signal) => api('GET', path`/profile/${name}`, null, { signal }), [name]);
  return html`<${Page} title=${name} crumbs=${[['Profiles', here]]} badge=${profile.data && html`<${Default} of=${profile.data} />`} intro=${profile.data?.description}>
    <${Loaded} of=${profile}>${(one) => html`<div class="stack"><section class="card"><dl class="facts">${[
    ['Methods', one.methods.join(', ')], ['Success', `${saySuccess(one.success)}, within ${one.timeoutSeconds} s`], ['Tried again', sayRetry(one.retry)],
    ['Signed', saySigned(one).map((text) => html`<div>${text}</div>`)], ['Secret', one.secretHint], ['Its headers', html`<code>${one.headerNames.join(', ') || 'none'}</code>`]].filter(([, dd]) => dd.length !== 0).map(([dt, dd]) => html`<dt>${dt}</dt><dd>${dd}</dd>`)}</dl></section>
      <${Preview} profile=${one} /></div>`}<//>
  <//>`;
}

/** A request as HTTP/1.1 writes it. */
function asText({ method, url, headers, body }) {
  const { pathname, search } = new URL(url);
  return [`${method} ${pathname}${search} HTTP/1.1`, ...Object.entries(headers).map((pair) => pair.join(': ')), '', body ?? ''].join('\n');
}

function Preview({ profile }) {
  const { methods, exampleRequest, secretHint } = profile;
  const [start] = useState({ url: 'https://example.com/webhooks', method: methods[0] });
  const [values, setValues] = useState(start);
  const [{ request, error }, setState] = useState({ request: exampleRequest });
  useEffect(() => {
    if (values === start) return undefined;
    const abort = new AbortController();
    const timer = setTimeout(async () => {
      const { payload, ...rest } = Object.fromEntries(Object.entries(values).filter(([, value]) => value.trim()));
      try {
        if (payload) JSON.parse(payload);
        const body = JSON.stringify(rest); // The payload's bytes go as they were typed.
        setState({ request: await api('POST', path`/profile/${profile.name}/preview`, payload ? `${body.slice(0, -1)},"payload":${payload}}` : body, { signal: abort.signal }) });
      } catch (failure) {
        if (failure instanceof SyntaxError) failure.fields = { 'body.payload': `This is not JSON: ${failure.message}` };
        if (failure.name !== 'AbortError') setState((old) => ({ ...old, error: failure }));
      }
    }, 300);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [values]);
  const wrong = Object.entries(error?.fields ?? {});
  const shown = ['url', 'method', 'secret', 'eventType', 'payload'];
  const others = wrong.filter(([key]) => !shown.includes(key.split('.')[1]));
  const field = (label, name, more) => html`<${Field} label=${label} value=${values[name] ?? ''} onInput=${(value) => setValues((old) => ({ ...old, [name]: value }))} spellcheck="false"
    error=${wrong.filter(([key]) => key.split('.')[1] === name).map(([, text]) => text).join(' · ')} ...${more} />`;
  return html`<div class="split">
    <section class="card stack"><h2>Try it</h2>
      ${field('URL', 'url')}${methods.length > 1 && field('Method', 'method', { type: 'select', options: methods.map((one) => [one, one]) })}
      ${field('Secret', 'secret', { optional: true, hint: `${secretHint}; an example where there is none` })}${field('Event type', 'eventType', { optional: true })}
      ${field('Payload', 'payload', { optional: true, type: 'textarea', class: 'code-input', rows: 8, hint: 'JSON as it is published; an example where there is none' })}</section>
    <section class="card stack" aria-live="polite"><h2>The request as it would be sent</h2>
      ${error && html`<div class="notice bad">${(others.length ? others : wrong.length ? [] : [['', error.message]]).map(([key, text]) => html`<p>${key.replace('body.', '')} ${text}</p>`)}<p>Nothing can be sent of this. The last that could:</p></div>`}
      ${request && html`<div class="wrap"><${Code} text=${asText(request)} label="Request" /></div>`}</section></div>`;
}
