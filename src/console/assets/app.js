// The app of both surfaces: finds out who is signed in, shows the sign-in page or the layout, and in it the
// page of the address. A page's module is loaded when it is first gone to, ./NAME.js by the tables below.
// In both tables the first pattern that fits counts; ":x" is one part of the path, given as params.x.

import { ApiError, api, base, bePortalOf, onSessionOver, pagePath, portalOf, surface } from './api.js';
import {
  Button, Dialog, ErrorBox, Field, Form, LinkButton, Loading, Page, Session, Time, Toasts, appParts, brand, html, render, useEffect, useForm, useState,
} from './ui.js';
import { isGuarded, navigate, useLocation } from './router.js';

/** Pages of one application: below /portal/APPLICATION, and on the console below /console/app/:app. */
const ofApplication = [
  ['', 'endpoints'],
  ['/new', 'endpoint-form'],
  ['/endpoint/:ep/edit', 'endpoint-form'],
  ['/endpoint/:ep/test', 'test-event'],
  ['/endpoint/:ep/filter', 'filter'],
  ['/endpoint/:ep/transformation', 'transformation'],
  ['/endpoint/:ep/samples', 'samples'],
  ['/endpoint/:ep/secret', 'secret'],
  ['/endpoint/:ep/replay', 'replay'],
  ['/endpoint/:ep', 'endpoint'],
  ['/endpoint/:ep/:tab', 'endpoint'],
  ['/messages', 'messages'],
  ['/message/:msg', 'messages'],
  ['/attempt/:msg/:attempt', 'attempt'],
  ['/keys', 'keys'],
  ['/events', 'catalogue'],
  ['/events/:name', 'catalogue'],
  ['/notifications', 'contact'],
];
const ofConsole = [
  ['', 'overview'],
  ['/applications', 'applications'],
  ...ofApplication.map(([pattern, name]) => [`/app/:app${pattern}`, name]),
  ['/event-types', 'event-types'],
  ['/event-types/:name', 'event-types'],
  ['/tokens', 'tokens'],
  ['/tokens/:token', 'tokens'],
  ['/profiles', 'profiles'],
  ['/profiles/:name', 'profiles'],
  ['/lanes', 'lanes'],
  ['/jobs', 'jobs'],
  ['/operational', 'operational'],
  ['/sessions', 'sessions'],
  ['/jobs/:job', 'jobs'],
];
const ofPortal = [...ofApplication, ['/sessions', 'sessions']];
/** Of addresses behind the base. */
const routes = (surface === 'portal' ? ofPortal : ofConsole).map(([pattern, name]) => [
  new RegExp(`^${pattern.replace(/:(\w+)/g, '(?<$1>[^/]+)')}/?$`), name,
]);

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function match(pathname) {
  for (const [pattern, name] of routes) {
    const found = pattern.exec(pathname.slice(base.length));
    if (!found) continue;
    const params = Object.entries(found.groups ?? {}).map(([key, value]) => [key, decoded(value)]);
    return { name, params: Object.fromEntries(params) };
  }
  return { name: null, params: {} };
}

/** What the navigation offers: [label, address, whether it is here]. */
function menu(session, pathname) {
  const { may, applicationId, role } = session;
  const entry = (label, to, ...also) => [label, to, [to, ...also].some((start) => pathname === start || (start !== base && pathname.startsWith(`${start}/`)))];
  if (applicationId) {
    const within = { webhooks: ['/new', '/endpoint', '/attempt'], messages: ['/message'] };
    return appParts(session).map(([key, label, rest]) => {
      const to = pagePath(applicationId, rest);
      const [text, address, here] = entry(label, to, ...(within[key] ?? []).map((part) => pagePath(applicationId, part)));
      return [text, address, rest ? here : pathname === to || within.webhooks.some((part) => pathname.startsWith(pagePath(applicationId, part)))];
    });
  }
  return [
    may.includes('readStatus') && entry('Overview', base),
    (may.includes('listApplications') || role === 'webhook_user') && entry('Applications', `${base}/applications`, `${base}/app`),
    may.includes('readEventTypes') && entry('Event types', `${base}/event-types`),
    may.includes('readTokens') && entry('Tokens', `${base}/tokens`),
    may.includes('readProfiles') && entry('Profiles', `${base}/profiles`),
    may.includes('readLanes') && entry('Lanes', `${base}/lanes`),
    may.includes('readJobs') && entry('Jobs', `${base}/jobs`),
    may.includes('readOwnEndpoints') && entry('Operational webhooks', `${base}/operational`),
  ].filter(Boolean);
}

/** The first page of who has no overview. */
function home({ may, role, applicationId }) {
  if (surface === 'portal' || may.includes('readStatus')) return null;
  return applicationId ? pagePath(applicationId) : base + (role === 'publisher' ? '/event-types' : '/applications');
}

function App() {
  const [session, setSession] = useState(undefined);
  const [ended, setEnded] = useState('');
  const [again, setAgain] = useState(false);
  const [failed, setFailed] = useState(null);
  const begin = () => {
    setFailed(null);
    start().then((found) => setSession(placed(found)), (error) => {
      // Whoever is signed in stays so: the server is busy, or away for a moment.
      if (error.wait) setTimeout(begin, error.wait * 1000);
      if (error.wait || error.status === 0) return setFailed(error);
      linked = null;
      setEnded(error instanceof ApiError && error.status === 401 ? 'This link has expired or was ended.' : error.message);
      setSession(null);
    });
  };
  useEffect(() => {
    onSessionOver(() => {
      setEnded('Your session has ended.');
      if (document.querySelector('form.dirty')) setAgain(true); // What was entered stays behind a dialog.
      else setSession(null);
    });
    begin();
  }, []);
  const signOut = async () => {
    if (isGuarded()) {
      await navigate(base);
      if (isGuarded()) return;
    }
    try {
      await api('DELETE', '/session');
    } catch (error) {
      if (error.status !== 401) throw error;
    }
    setEnded('You are signed out.');
    setSession(null);
    navigate(base, { replace: true, force: true });
  };
  if (failed) return html`<main class="sign-in" id="main"><${Brand} /><h1>${failed.wait ? 'One moment' : 'No answer'}</h1><${ErrorBox} error=${failed} retry=${begin} /></main>`;
  if (session === undefined) return html`<${Loading} />`;
  if (!session) return html`<${SignIn} told=${ended} onSignedIn=${(next) => setSession(placed(next))} />`;
  const signedInAgain = (next) => {
    setSession(placed(next));
    setAgain(false);
  };
  return html`<${Session.Provider} value=${session}><${Layout} session=${session} signOut=${signOut} />
    ${again && html`<${Dialog} title="Sign in again" onClose=${() => setAgain(false)} foot=""><p>${ended} What you entered is still here.</p><${Credential} onSignedIn=${signedInAgain} /><//>`}<//>`;
}

/** A link's token, until the server has taken it. */
let linked = null;
/** Who is signed in: by the token of a portal's link, which leaves the address at once, or by the cookie. */
async function start() {
  const token = new URLSearchParams(location.hash.slice(1)).get('token');
  if (token) {
    history.replaceState(history.state, '', location.pathname + location.search);
    linked = token;
  }
  if (linked) {
    const session = await api('POST', '/session', { token: linked });
    linked = null;
    return session;
  }
  const session = await api('GET', '/session');
  return session.signedIn === false ? null : session;
}

/**
 * Lets the address of a portal name the application, so that a reload and a second tab keep it whatever other
 * portals this browser is signed in to. What the address led to in another application's is not here.
 */
function placed(session) {
  const application = session?.applicationId;
  if (portal && application && application !== portalOf) {
    const rest = portalOf ? '' : location.pathname.slice(base.length) + location.search;
    bePortalOf(application);
    history.replaceState(history.state, '', base + rest.replace(/^\/$/, ''));
  }
  return session;
}

const portal = surface === 'portal';

function SignIn({ told, onSignedIn }) {
  useEffect(() => { document.title = `Sign in · ${brand}`; }, []);
  return html`<${Toasts} /><main class="sign-in" id="main">
    <${Brand} />
    <h1>Sign in</h1>
    ${told && html`<p class="notice" role="status">${told}</p>`}
    ${portal && html`<p>Open the link that ${brand} gave you again, or sign in with an API key.</p>`}
    <${Credential} onSignedIn=${onSignedIn} />
  </main>`;
}

function Credential({ onSignedIn }) {
  const form = useForm({ token: '' });
  const signIn = async ({ token }) => {
    try {
      onSignedIn(await api('POST', '/session', { token: token.trim() }));
    } catch (error) {
      if (error.status === 401) error.fields = { 'body.token': `This ${portal ? 'API key' : 'token'} is not valid: mistyped, expired or revoked.` };
      throw error;
    }
  };
  return html`<${Form} form=${form} onSubmit=${signIn} submit="Sign in" guard=${false}
      check=${({ token }) => (token.trim() ? {} : { 'body.token': `Enter ${portal ? 'an API key' : 'a token'}.` })}>
      <${Field} label=${portal ? 'API key' : 'Token'} name="token" type="password" autocomplete="current-password" spellcheck=${false}
        hint=${portal ? null : 'The owner’s first token is in the file owner.token in the data directory.'} />
    <//>`;
}

const logo = document.documentElement.dataset.logo || (surface === 'console' && '/console/assets/icon.svg');
const Brand = () => html`<span class="brand">${logo && html`<img src=${logo} alt="" />`}<span>${brand}</span></span>`;

function Layout({ session, signOut }) {
  const { pathname } = useLocation();
  const [open, setOpen] = useState(false);
  useEffect(() => setOpen(false), [pathname]);
  const away = pathname.replace(/\/$/, '') === base ? home(session) : null;
  useEffect(() => { if (away) navigate(away, { replace: true }); }, [away]);
  return html`<a class="skip" href="#main">Skip to content</a>
    <header class="top">
      <a class="home" href=${base}><${Brand} /></a>
      <${Button} class="menu-button" aria-expanded=${open ? 'true' : 'false'} aria-controls="menu" onClick=${() => setOpen(!open)}>Menu<//>
    </header>
    <div class=${`side ${open ? 'open' : ''}`} id="menu"><div>
      <nav aria-label="Main"><ul>${menu(session, pathname).map(([label, to, here]) => html`<li><a href=${to} aria-current=${here ? (pathname === to ? 'page' : 'true') : null}>${label}</a></li>`)}</ul></nav>
      <section class="who" aria-label="Account">
        <p><strong>${session.isPortalLink ? 'Portal link' : session.name ?? 'Signed in'}</strong><br />${(session.applicationId && session.applications?.[0]?.name) || `Role: ${session.role.replace('_', ' ')}`}</p>
        <a href=${`${base}/sessions`} aria-current=${pathname === `${base}/sessions` ? 'page' : null}>Signed-in browsers</a>
        <${Button} class="small" onClick=${signOut}>Sign out<//>
      </section>
    </div></div>
    <main id="main" tabindex="-1"><${Expiry} at=${session.expiresAt} />${!away && html`<${Current} session=${session} pathname=${pathname} signOut=${signOut} />`}</main>
    <${Toasts} />`;
}

/** Says that the session ends, in its last ten minutes. */
function Expiry({ at }) {
  const [left, setLeft] = useState(Infinity);
  useEffect(() => {
    if (!at) return undefined;
    const look = () => setLeft(Date.parse(at) - Date.now());
    look();
    const timer = setInterval(look, 20000);
    return () => clearInterval(timer);
  }, [at]);
  return left < 600000 && html`<p class="notice warn" role="status">Your session ends <${Time} at=${at} />.</p>`;
}

/** The page of the address; the one before stays until this one's module is there. */
function Current({ session, pathname, signOut }) {
  const [shown, setShown] = useState(null);
  useEffect(() => {
    let left = false;
    const { name, params } = match(pathname);
    const show = (View, error) => { if (!left) setShown({ View, params, pathname, error }); };
    if (name) import(`./${name}.js`).then((module) => show(module.default), (error) => show(Broken, error));
    else show(NotFound);
    return () => { left = true; };
  }, [pathname]);
  if (!shown) return html`<${Loading} />`;
  const { View, params, error } = shown;
  return html`<${View} key=${shown.pathname} session=${session} signOut=${signOut} params=${params} error=${error} app=${params.app ?? session.applicationId} />`;
}

const NotFound = () => html`<${Page} title="Page not found"><div class="empty"><p>There is no page at this address.</p><${LinkButton} to=${base}>Go to the first page<//></div><//>`;

const Broken = ({ error }) => html`<${Page} title="This page did not load"><${ErrorBox} error=${error} retry=${() => location.reload()} /><//>`;

addEventListener('hashchange', () => { if (location.hash.startsWith('#token=')) location.reload(); });
const first = match(location.pathname).name;
if (first) import(`./${first}.js`).catch(() => {}); // Comes while the session is asked for.
render(html`<${App} />`, document.getElementById('app'));
