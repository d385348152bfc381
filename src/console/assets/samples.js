// Code that verifies this endpoint's requests, by its own scheme, in several languages.

import { api, appPath, pagePath, path, surface } from './api.js';
import { EndpointPage, useEndpoint } from './history.js';
import { useQuery } from './router.js';
import { schemeOf, written } from './scheme.js';
import { Button, Code, Empty, LinkButton, LinkTo, Loaded, html, useLoad, useMay } from './ui.js';

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
      <p>Nothing in requests of the profile ${endpoint.profile} tells them from anybody’s. Give the endpoint Basic authentication or a secret header, and the code that checks it shows here.</p>
      ${may('changeEndpoints') && html`<${LinkButton} to=${pagePath(app, path`/endpoint/${endpoint.id}/edit`)}>Edit the endpoint<//>`}<//>`
    : !scheme.isClear ? html`<${Empty} title="No sample for this signature"><p>The header ${scheme.header} is made by a template that code written here could not follow: <code>${scheme.content?.length ? scheme.format : ''}</code> Ask ${surface === 'portal' ? 'whoever sends these webhooks' : 'the settings of the profile'} how it is verified.</p><//>`
      : html`<${Sample} scheme=${scheme} app=${app} endpoint=${endpoint} />`)}<//>`;
}

/** The scheme in a sentence. */
function sayScheme({ algorithm, hash, header, encoding = 'hex', key, separator, user }) {
  const name = html`<code>${header}</code>`;
  if (algorithm === 'static') return html`${name} holds the secret itself: compare it, in constant time.`;
  if (algorithm === 'basic') return html`${name} is Basic authentication with the user name <code>${user}</code> and the password that was given.`;
  const how = algorithm === 'ed25519' ? 'an Ed25519 signature' : `an HMAC with ${hash.toUpperCase().replace('SHA', 'SHA-')}`;
  return html`${name} holds ${how} in ${encoding === 'hex' ? 'hexadecimal' : 'Base64'}${key === 'whsec' && algorithm !== 'ed25519' ? ', with the bytes behind whsec_ as the key' : ''}${separator ? '. While a secret is rotated there are several signatures, and one that fits is enough' : ''}.`;
}

function Sample({ app, endpoint, scheme }) {
  const may = useMay();
  const [query, setQuery] = useQuery({ language: 'node', by: scheme.family && scheme.algorithm === 'hmac' ? 'library' : 'hand' });
  const { language, by } = query;
  const template = useLoad(async (signal) => {
    const answer = await fetch(`/console/assets/sample-${language in languages ? language : 'node'}.txt`, { signal });
    if (!answer.ok) throw new Error('The sample did not load.');
    return answer.text();
  }, [language]);
  const choice = (name, value, label) => html`<${Button} class="small" aria-pressed=${query[name] === value ? 'true' : 'false'} onClick=${() => setQuery({ [name]: value })}>${label}<//>`;
  const withLibrary = by === 'library' && scheme.family && scheme.algorithm === 'hmac';
  return html`<div class="stack">
    <p>${sayScheme(scheme)}</p>
    <div class="spread"><div class="row" role="group" aria-label="Language">${Object.entries(languages).map(([key, label]) => choice('language', key, label))}</div>
      ${scheme.family && scheme.algorithm === 'hmac' && html`<div class="row" role="group" aria-label="By">${choice('by', 'library', scheme.family === 'svix' ? 'Svix library' : 'Standard Webhooks library')}${choice('by', 'hand', 'Without a library')}</div>`}</div>
    <${Loaded} of=${template}>${(text) => html`<${Code} label=${`Sample in ${languages[language]}`} text=${written(text, scheme, withLibrary)} />`}<//>
    <p class="muted">The code reads the secret from the environment variable <code>WEBHOOK_SECRET</code>${scheme.algorithm === 'ed25519' ? ', the public key' : scheme.algorithm === 'basic' ? ', the password' : ''}. ${!scheme.user && may('readSecrets') && html`<${LinkTo} to=${pagePath(app, path`/endpoint/${endpoint.id}/secret`)}>Where to find it<//>${' '}`}
      It must see the bytes of the body as they came: JSON that was parsed and written again has another signature. Repeats of a message carry the same message id.</p>
  </div>`;
}
