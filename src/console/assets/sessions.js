// Where one is signed in, and signing out there. Those who may revoke tokens see everybody.

import { api, list, path, surface } from './api.js';
import { AppLink, Listing, act, col, destroy } from './operator.js';
import { Badge, Button, Field, Page, Time, html, toast, useLoad, useMay, useQuery } from './ui.js';

const browsers = [[/Edg\w*\//, 'Edge'], [/OPR\//, 'Opera'], [/Firefox\//, 'Firefox'], [/Chrom\w+\//, 'Chrome'], [/Safari\//, 'Safari']];
const systems = [[/iPhone|iPad/, 'iOS'], [/Android/, 'Android'], [/Windows/, 'Windows'], [/Mac OS X/, 'macOS'], [/CrOS/, 'ChromeOS'], [/Linux/, 'Linux']];

/** A browser in words: "Firefox on Linux"; its own where nobody knows it. */
function sayBrowser(agent) {
  const find = (known) => known.find(([pattern]) => pattern.test(agent))?.[1];
  const [browser, system] = [find(browsers), find(systems)];
  if (!agent) return 'An unnamed browser';
  return browser ? browser + (system ? ` on ${system}` : '') : agent.slice(0, 60);
}

const said = ({ userAgent, address }) => `${sayBrowser(userAgent)}, ${address}`;

export default function Sessions({ session, signOut }) {
  const all = useMay()('changeTokens');
  const [query, setQuery] = useQuery({ of: '' });
  const { iterator, of } = query;
  const own = !all || of === 'own';
  const sessions = useLoad((signal) => list('/sessions', { limit: 50, iterator, own: own || null }, { signal }), [iterator, own]);
  const others = sessions.data && (sessions.data.data.some(({ current }) => !current) || !sessions.data.done);
  const credential = session.isPortalLink ? 'this link' : surface === 'portal' ? 'this API key' : 'this token';
  const expire = () => api('POST', '/sessions/expire-all', { own });
  const ask = (action, text, then) => destroy(action, '', text, expire).then((yes) => yes && then());
  const elsewhere = () => ask(own ? 'Sign out everywhere else' : 'Sign everybody else out', own
    ? `All other browsers that signed in with ${credential} are signed out. You stay signed in here.`
    : 'Everybody who is signed in to the console or to a portal is signed out, except for this browser. Tokens and links keep working.', () => {
    toast(own ? 'You are signed out everywhere else.' : 'Everybody else is signed out.');
    sessions.reload();
  });
  const everywhere = () => ask('Sign out everywhere', `All browsers that signed in with ${credential} are signed out, this one included.${session.isPortalLink ? ' The link ends with that: ask for a new one to come back.' : ''}`, signOut);
  const end = (one) => destroy('Sign out', said(one), 'That browser has to sign in again.', () => api('DELETE', path`/sessions/${one.id}`)).then((yes) => {
    if (!yes) return;
    toast('That browser is signed out.');
    sessions.reload();
  });
  const columns = [
    col('Browser', ({ userAgent, current }) => html`<span class="row tight"><span title=${userAgent}>${sayBrowser(userAgent)}</span>${current && html`<${Badge} kind="plain">This browser<//>`}</span>`),
    !own && col('Signed in with', (one) => html`<${With} of=${one} />`, 'words'),
    col('Address', ({ address }) => html`<span class="mono break">${address}</span>`, 'words'),
    col('Since', ({ begunAt }) => html`<${Time} at=${begunAt} />`),
    col('Last seen', ({ seenAt }) => html`<${Time} at=${seenAt} />`),
    col('', (one) => !one.current && act('Sign out', said(one), () => end(one)), 'end'),
  ].filter(Boolean);
  return html`<${Page} title="Signed-in browsers" intro=${own ? `Browsers that signed in with ${credential}. Sign out any that you do not know.` : 'Browsers signed in to the console or to a portal. They are signed out after 12 hours without use.'}
      actions=${html`${others && html`<${Button} onClick=${elsewhere}>${own ? 'Sign out everywhere else' : 'Sign everybody else out'}<//>`}
        ${own && html`<${Button} kind="danger" onClick=${everywhere}>Sign out everywhere<//>`}`}>
    ${all && html`<div class="filters"><${Field} label="Signed in with" type="select" value=${of} options=${[['', 'Any token or link'], ['own', 'My token']]} onInput=${(value) => setQuery({ of: value })} /></div>`}
    <${Listing} of=${sessions} query=${query} setQuery=${setQuery} caption="Signed-in browsers" columns=${columns} empty=${['Nobody is signed in', 'Programs that send their token with each request are not listed.']} />
  <//>`;
}

/** What somebody signed in with, and whose it is. */
function With({ of: { surface: at, name, isPortalLink, linkSessionId, applicationId, applicationName } }) {
  const what = isPortalLink ? `Portal link${linkSessionId ? ` (${linkSessionId})` : ''}` : name ?? 'A signed token';
  const where = at === 'portal' ? 'Portal of ' : 'Console of ';
  return html`<div><span>${what}</span><div class="small muted">${applicationId ? html`${where}<${AppLink} id=${applicationId} name=${applicationName ?? applicationId} />` : 'Console'}</div></div>`;
}
