// Where the reader is. Addresses are real paths (History API); ordinary links to pages of this surface are
// followed without loading the document again. A dirty form sets a guard, which is asked before the page is
// left, by link, by the browser's buttons or by closing the tab.

import { useEffect, useState } from './vendor/preact-htm.js';
import { base, queryString } from './api.js';

const listeners = new Set();
let guard = null;
let index = history.state?.index ?? 0;
let passing = 0; // How many of our own steps through the history are yet to be told by popstate.
let moved = false;

/** Whether a page was shown before this one: only then does a page take the focus. */
export const hasMoved = () => moved;

/** Sets what is asked before leaving: a function that gives a promise of whether to go; null for none. */
export function setGuard(ask) {
  guard = ask;
}

/** Whether something would be lost. */
export const isGuarded = () => !!guard;

function tell(changedPage) {
  if (changedPage) moved = true;
  for (const listen of [...listeners]) listen();
}

/** Goes to a page; `replace` leaves no trace of this one; `force` asks no guard. */
export async function navigate(to, { replace = false, force = false } = {}) {
  const url = new URL(to, location.href);
  const changedPage = url.pathname !== location.pathname;
  if (changedPage && guard && !force && !(await guard())) return;
  if (changedPage) guard = null;
  if (replace) history.replaceState({ index }, '', url);
  else history.pushState({ index: ++index }, '', url);
  if (changedPage) scrollTo(0, 0);
  tell(changedPage);
}

addEventListener('popstate', async ({ state }) => {
  const target = state?.index ?? 0;
  if (passing) {
    passing -= 1;
    return;
  }
  if (guard) {
    const by = target - index;
    passing += 1;
    history.go(-by);
    if (!(await guard())) return;
    guard = null;
    history.go(by);
    return;
  }
  index = target;
  tell(true);
});

addEventListener('beforeunload', (event) => {
  if (guard) event.preventDefault();
});

document.addEventListener('click', (event) => {
  const link = event.target.closest?.('a[href]');
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  if (link.target || link.hasAttribute('download') || link.origin !== location.origin) return;
  if (link.pathname !== base && !link.pathname.startsWith(`${base}/`)) return;
  if (link.hash && link.pathname === location.pathname) return;
  event.preventDefault();
  navigate(link.href);
});

/** The address, kept up to date: {pathname, search}. */
export function useLocation() {
  const [, set] = useState(0);
  useEffect(() => {
    const listen = () => set((n) => n + 1);
    listeners.add(listen);
    return () => listeners.delete(listen);
  }, []);
  return location;
}

/**
 * Filters that live in the address's query string.
 * @param {object} defaults what holds for what is not there
 * @returns {[object, (changes: object, options?: {push?: boolean}) => void]} the values, all texts, and how to
 *   change some of them: what is empty or the default leaves the address; any change starts at the first page
 */
export function useQuery(defaults = {}) {
  const { pathname, search } = useLocation();
  const read = (from) => ({ ...defaults, ...Object.fromEntries(new URLSearchParams(from)) });
  const query = read(search);
  const change = (changes, { push = false } = {}) => {
    if (location.pathname !== pathname) return; // Too late: the page has been left.
    const next = { ...read(location.search), iterator: '', page: '', ...changes };
    for (const [name, value] of Object.entries(defaults)) if (next[name] === value) delete next[name];
    navigate(pathname + queryString(next), { replace: !push });
  };
  return [query, change];
}
