// Code that verifies this endpoint's requests, by its own scheme, in several languages.

import { api, appPath, pagePath, path } from './api.js';
import { EndpointPage, Switch, useEndpoint } from './history.js';
import { useQuery } from './router.js';
import { schemeOf, written } from './scheme.js';
import { Code, Empty, LinkButton, LinkTo, Loaded, html, useLoad, useMay } from './ui.js';

const languages = { node: 'Node.js', python: 'Python', go: 'Go', ruby: 'Ruby', php: 'PHP', java: 'Java' };

export default function Samples({ app, params: { ep } }) {
  const of = useEndpoint(app, ep);
  return html`<${EndpointPage} app=${app} of=${of} ep=${ep} part="/samples" title="Code samples"
    intro="Verify each request before you believe it: anybody can send to a public URL.">${(endpoint) => html`<${Of} app=${app} endpoint=${endpoint} />`}<//>`;
}

function Of({ app, endpoint }) {
  const may = useMay();
  const where = appPath(app, path`/endpoint/${endpoint.id}`);
  const load = useLoad(async (signal) => {
    const get = (what) => api('GET', what, null, { signal });
    const [profile, headers, secret] = await Promise.all([get(path`/profile/${endpoint.profile}`), get(`${where}/headers`), may('readSecrets') ? get(`${where}/secret`) : null]);
    return schemeOf(profile, endpoint, { isPublicKey: secret?.key.startsWith('whpk_'), ownHeader: [...endpoint.authHeaderNames, ...headers.sensitive][0] });
  }, [where]);
  return html`<${Loaded} of=${load}>${(scheme) => (!scheme ? html`<${Empty} title="Requests are not signed">
      <p>Nothing in requests of the profile ${endpoint.profile} proves where they come from. Give the endpoint Basic authentication or a secret header, and the code that checks it shows here.</p>
      ${may('changeEndpoints') && html`<${LinkButton} to=${pagePath(app, path`/endpoint/${endpoint.id}/edit`)}>Edit the endpoint<//>`}<//>`
    : !scheme.isClear ? html`<${Empty} title="No sample for this signature"><p>The header <code>${scheme.header}</code> is signed over what a receiver cannot see from the request alone.</p><//>`
      : html`<${Sample} scheme=${scheme} app=${app} endpoint=${endpoint} />`)}<//>`;
}

/** The scheme in a sentence. */
function sayScheme({ algorithm, hash, header, content, encoding = 'hex', key, separator, user }) {
  const name = html`<code>${header}</code>`;
  if (algorithm === 'static') return html`${name} holds the secret itself: compare it, in constant time.`;
  if (algorithm === 'basic') return html`${name} is Basic authentication with the user name <code>${user}</code> and the password that was given.`;
  const how = algorithm === 'ed25519' ? 'an Ed25519 signature' : `an HMAC with ${hash.toUpperCase().replace('SHA', 'SHA-')}`;
  const what = content.map((part) => part.text ?? `{${part.name.replace('payload.', '')}}`).join('');
  return html`${name} holds ${how} over <code>${what}</code>, in ${encoding === 'hex' ? 'hexadecimal' : 'Base64'}${key === 'whsec' && algorithm !== 'ed25519' ? ', with the bytes behind whsec_ as the key' : ''}${separator ? '. While a secret is rotated there are several signatures, and one that fits is enough' : ''}.`;
}

function Sample({ app, endpoint, scheme }) {
  const may = useMay();
  const hasLibrary = scheme.family && scheme.algorithm === 'hmac';
  const [query, setQuery] = useQuery({ language: 'node', by: hasLibrary ? 'library' : 'hand' });
  const { by } = query;
  const language = query.language in languages ? query.language : 'node';
  const template = useLoad(async (signal) => {
    const answer = await fetch(`/console/assets/sample-${language}.txt`, { signal });
    if (!answer.ok) throw new Error('The sample did not load.');
    return { label: `Sample in ${languages[language]}`, text: await answer.text() };
  }, [language]);
  return html`<div class="stack">
    <p>${sayScheme(scheme)}</p>
    <div class="spread"><${Switch} label="Language" value=${language} options=${Object.entries(languages)} onChange=${(to) => setQuery({ language: to })} />
      ${hasLibrary && html`<${Switch} label="By" value=${by} options=${[['library', scheme.family === 'svix' ? 'Svix library' : 'Standard Webhooks library'], ['hand', 'Without a library']]} onChange=${(to) => setQuery({ by: to })} />`}</div>
    <${Loaded} of=${template}>${({ label, text }) => html`<${Code} label=${label} text=${written(text, scheme, hasLibrary && by === 'library')} />`}<//>
    <p class="muted">The code reads the secret from the environment variable <code>WEBHOOK_SECRET</code>${scheme.algorithm === 'ed25519' ? ', the public key' : scheme.algorithm === 'basic' ? ', the password' : ''}. ${!scheme.user && may('readSecrets') && html`<${LinkTo} to=${pagePath(app, path`/endpoint/${endpoint.id}/secret`)}>Where to find it<//>${' '}`}
      ${scheme.content.some(({ name }) => name === 'body') && 'It must see the bytes of the body as they came: JSON that was parsed and written again has another signature.'}</p>
  </div>`;
}
