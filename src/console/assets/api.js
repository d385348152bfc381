// The way to the server. Every call goes to /api/v1 of this origin and names the surface, by which alone
// the server looks at the session's cookie. A portal has a cookie of its own for each application, so that
// those of several customers work beside each other; which one is meant stands in the address. Errors come as
// ApiError; a session that is over is told to whoever asked by onSessionOver (the app, which then shows the
// sign-in page).

const { surface: here } = document.documentElement.dataset;

/** "console" or "portal". @type {string} */
export const surface = here;

/** The application whose portal this is, by the address; none on the console, and until somebody signed in. */
export let portalOf = here === 'portal' ? /^\/portal\/(app_[0-9A-Za-z]{27})(?=\/|$)/.exec(location.pathname)?.[1] : undefined;

const below = (application) => (application ? `/portal/${application}` : `/${here}`);

/** Where this surface's pages are. */
export let base = below(portalOf);

/** From now on this is the portal of that application. */
export function bePortalOf(application) {
  portalOf = application;
  base = below(application);
}

/**
 * A refusal. `fields` has what is wrong by its place, {'body.url': 'must be https'}; status 0: no answer.
 * `wait`: seconds after which the same may be answered (429 and 503), 0 where the server says nothing of it;
 * `reason` is the message without them.
 */
export class ApiError extends Error {
  constructor(status, code, reason, fields = {}, wait = 0) {
    super(wait ? `${reason} ${sayWait('Try again', wait)}` : reason);
    Object.assign(this, { status, code, reason, fields, wait });
  }
}

/** "Try again in 5 seconds." */
export const sayWait = (what, seconds) => `${what} in ${seconds === 1 ? 'a second' : `${seconds} seconds`}.`;

let sessionOver = () => {};
/** Sets what is called when the server no longer knows the session. */
export const onSessionOver = (call) => { sessionOver = call; };

/**
 * Calls the API.
 * @param {string} method
 * @param {string} path below /api/v1, such as '/app/acme/endpoint'; its parts encoded by the caller (see `path`)
 * @param {object|string} [body] a string is sent as it is: JSON whose bytes matter
 * @param {{signal?: AbortSignal, query?: object, exact?: boolean, text?: boolean}} [options] query: null, '' and undefined are
 *   left out, lists repeat the name; exact: numbers that JavaScript would spell otherwise (99.90) come as
 *   objects which JSON.stringify writes as they were; text: what was answered comes as text, byte for byte
 * @returns {Promise<any>} what was answered; null where there is nothing
 */
export async function api(method, path, body, { signal, query, exact, text: asText } = {}) {
  let answer;
  let text;
  try {
    answer = await fetch(`/api/v1${path}${queryString(query)}`, {
      method,
      signal,
      credentials: 'same-origin',
      headers: { 'X-Postrider-Surface': portalOf ? `${surface}:${portalOf}` : surface, ...(body != null && { 'Content-Type': 'application/json' }) },
      body: body == null || typeof body === 'string' ? body : JSON.stringify(body),
    });
    text = await answer.text();
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(0, 'no_answer', 'The server does not answer. Check the connection and try again.');
  }
  if (answer.ok && asText) return text;
  let content = null;
  try {
    content = text && (exact ? exactJson(text) : JSON.parse(text));
  } catch { /* What is not JSON has no detail to show. */ }
  if (answer.ok) return content || null;
  const detail = content?.detail;
  const fields = {};
  if (Array.isArray(detail)) for (const { loc, msg } of detail) fields[loc.join('.')] ??= msg;
  if (answer.status === 401 && path !== '/session') sessionOver();
  const wait = answer.status === 429 || answer.status === 503 ? Number(answer.headers.get('Retry-After')) || 0 : 0;
  const reason = (wait && busy(answer.status, method === 'POST' && path === '/session'))
    || (detail && typeof detail === 'string' ? `${detail[0].toUpperCase()}${detail.slice(1).replace(/\.$/, '')}.`
      : Object.keys(fields).length ? 'Some of what was entered cannot be taken.' : `The server answered ${answer.status}.`);
  throw new ApiError(answer.status, content?.code ?? 'error', reason, fields, wait);
}

/** Why the server refuses for a while; nothing where its own words, with the names of settings, are for the reader. */
function busy(status, isSignIn) {
  if (status === 429 && isSignIn) return 'There were too many attempts to sign in.';
  return surface === 'portal' && (status === 429 ? 'There were too many requests at once.' : 'The server is busy.');
}

function exactNumber(_key, value, context) {
  return typeof value === 'number' && context && context.source !== String(value) ? JSON.rawJSON(context.source) : value;
}

/** JSON whose numbers JSON.stringify writes as they were. */
export const exactJson = (text) => JSON.parse(text, JSON.rawJSON ? exactNumber : undefined);

/** '?a=1&b=2', or '' where nothing is left. */
export function queryString(query) {
  const out = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    for (const one of [value].flat()) if (one != null && one !== '') out.append(name, one);
  }
  const text = out.toString();
  return text && `?${text}`;
}

/** A path with its values encoded: path`/app/${app}/endpoint`. */
export const path = (parts, ...values) => String.raw({ raw: parts }, ...values.map(encodeURIComponent));

/** A page of a list: {data, iterator, prevIterator, done}. */
export const list = (where, query, options) => api('GET', where, null, { ...options, query });

/** All of a list, page by page, up to `max` of it. */
export async function listAll(where, query, { signal, max = 5000 } = {}) {
  const all = [];
  for (let iterator; ;) {
    const page = await list(where, { limit: 250, ...query, iterator }, { signal });
    all.push(...page.data);
    if (page.done || !page.iterator || all.length >= max) return all;
    iterator = page.iterator;
  }
}

/** The API's path of something of an application: appPath('acme', '/endpoint'). */
export const appPath = (app, rest = '') => path`/app/${app}` + rest;

/** The page of something of an application: '/portal/app_…/keys', '/console/app/acme/keys'. */
export const pagePath = (app, rest = '') => (surface === 'portal' ? base + rest : base + appPath(app, rest));
