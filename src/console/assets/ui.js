// The pages' components. A page is a module whose default export is a component; it gets {session, params,
// app} (app: the application's id, of the address or the session) and gives a Page:
//
//   export default function Things({ app }) {
//     const [query, setQuery] = useQuery();
//     const things = useLoad((signal) => list(appPath(app, '/thing'), query, { signal }), [app, query.iterator]);
//     return html`<${Page} title="Things" app=${app}>
//       <${Loaded} of=${things}>${(page) => html`<${Table} … /><${Pager} page=${page} query=${query} setQuery=${setQuery} />`}<//>
//     <//>`;
//   }
//
// What the classes look like is in style.css, at its head.

import { createContext, html, render, useContext, useEffect, useLayoutEffect, useMemo, useRef, useState } from './vendor/preact-htm.js';
import { api, appPath, base, pagePath, path, sayWait, surface } from './api.js';
import { hasMoved, navigate, setGuard, useQuery } from './router.js';

export { createContext, html, render, useContext, useEffect, useLayoutEffect, useMemo, useRef, useState };

let ids = 0;
/** An id of its own for an element. */
export const useId = () => useState(() => `u${++ids}`)[0];

/** The session: who is signed in, and what `may` be done. */
export const Session = createContext(null);
export const useSession = () => useContext(Session);

/** Whether the session may do this: may('changeEndpoints'). */
export function useMay() {
  const { may } = useSession();
  return (what) => may.includes(what);
}

/** The name that the operator gave the portal; postrider's own on the console. */
/** What the operator calls things (portal.labels); on the console, what we do. */
export const labels = {
  menu: 'Webhooks', add_webhook: 'Add Webhook', url: 'URL', secret: 'Secret', all_events: 'Send Me Everything', all_entities: 'All entities',
  ...JSON.parse(document.documentElement.dataset.labels || '{}'),
};
export const brand = document.documentElement.dataset.name || 'postrider';

/* Loading */

/**
 * Loads something and keeps it: old data stays while it is loaded anew. Stops when the component goes.
 * @param {(signal: AbortSignal) => Promise<any>} load
 * @param {any[]} deps loads again when one of them changes
 * @param {{every?: number}} [options] every: milliseconds after which it is loaded again, while it is seen; after
 *   errors twice as long for each, up to a minute, and never before the server wants to be asked again; what
 *   the server refuses for a while is loaded again after that, also without it
 * @returns {{data: any, error: Error|null, loading: boolean, reload: () => void, set: (data: any) => void}}
 */
export function useLoad(load, deps, { every } = {}) {
  const [state, setState] = useState({ loading: true, error: null });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    let timer;
    let pause = every;
    let isThere = false;
    const run = async () => {
      let next;
      try {
        next = { data: await load(abort.signal), error: null };
        pause = every;
        isThere = true;
      } catch (error) {
        next = { error };
        const wait = (error.wait ?? 0) * 1000;
        // Where nothing is shown yet, it is asked for again as soon as the server says.
        pause = every && (isThere || !wait) ? Math.max(Math.min(2 * pause, 60000), every, wait) : wait;
      }
      if (abort.signal.aborted) return;
      setState((old) => ({ ...old, ...next, loading: false }));
      if (pause) timer = setTimeout(again, pause);
    };
    const again = () => (document.hidden ? document.addEventListener('visibilitychange', again, { once: true }) : run());
    setState((old) => ({ ...old, loading: true }));
    run();
    return () => {
      abort.abort();
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', again);
    };
  }, [...deps, turn]);
  return { ...state, reload: () => setTurn((n) => n + 1), set: (data) => setState((old) => ({ ...old, data })) };
}

/** Shows what useLoad gave: loading (not before 150 ms), the error with "Try again" where it is not loaded again by itself, or children(data). */
export function Loaded({ of, children }) {
  const { data, error, loading, reload } = of;
  if (data === undefined) return error ? html`<${ErrorBox} error=${error} retry=${reload} />` : html`<${Loading} />`;
  return html`${error && html`<${ErrorBox} error=${error} retry=${reload} />`}
    <div class=${loading ? 'reloading' : ''} aria-busy=${loading}>${children(data)}</div>`;
}

export const Loading = () => html`<p class="loading" role="status"><span class="spinner" aria-hidden="true"></span> Loading…</p>`;

/** An error; retry: what "Try again" does, or what happens by itself where the server says when. */
export const ErrorBox = ({ error, retry }) => html`<div class=${`notice ${retry && error.wait ? 'warn' : 'bad'}`} role="alert">
  <p>${error.status === 404 ? 'This does not exist (any more), or you may not see it.' : retry && error.wait ? `${error.reason} ${sayWait('This page asks again', error.wait)}` : error.message}</p>
  ${retry && !error.wait && html`<${Button} onClick=${retry}>Try again<//>`}
</div>`;

/** What a list shows that has nothing: what it would show, and what to do next (children). */
export const Empty = ({ title, children }) => html`<div class="empty"><h2>${title}</h2>${children}</div>`;

/** In place of what the session may not do. */
export const NotAllowed = () => html`<${Empty} title="Not allowed"><p>What you are signed in with does not allow this.</p><//>`;

/* Pages */

const names = new Map();
/** The application {id, uid, name}, read once. */
export function useApp(app) {
  const known = useSession()?.applications?.find(({ id, uid }) => id === app || uid === app);
  const load = useLoad(async (signal) => {
    if (known || !app || names.has(app)) return known ?? names.get(app);
    const got = await api('GET', appPath(app), null, { signal });
    names.set(app, got);
    return got;
  }, [app]);
  return load.data ?? known ?? names.get(app) ?? { id: app, name: '' };
}

/** Forgets an application's name that was changed. */
export const forgetApp = () => names.clear();

/** The parts of an application that the session sees, as [key, label, address below it]. */
export const appParts = ({ may, mail }) => [
  ['webhooks', labels.menu, ''],
  ['messages', 'Messages', '/messages'],
  may.includes('readKeys') && ['keys', 'API keys', '/keys'],
  ['events', 'Event catalogue', '/events'],
  mail && may.includes('readEndpoints') && ['notifications', 'Notifications', '/notifications'],
].filter(Boolean);

/**
 * A page: sets the document's title and takes the focus to its heading when one has come from another page.
 * @param {string} title
 * @param {[string, string][]} [crumbs] [label, address] of the pages above
 * @param {any} [actions] buttons beside the heading
 * @param {any} [intro] a sentence below it
 * @param {string} [app] the application it belongs to: the console shows it in the breadcrumbs
 * @param {string} [tab] on the console: shows the application's parts as tabs, this one ('webhooks', …) chosen
 * @param {any} [badge] beside the heading
 */
export function Page({ title, crumbs = [], actions, intro, app, tab, badge, children }) {
  const heading = useRef();
  const session = useSession();
  const { may, applicationId } = session;
  const { name } = useApp(surface === 'console' ? app : null);
  useEffect(() => { document.title = [...new Set([title, name, brand])].filter(Boolean).join(' · '); }, [title, name]);
  useEffect(() => { if (hasMoved()) heading.current.focus({ preventScroll: true }); }, []);
  const inConsole = surface === 'console' && app;
  const above = [
    ...(inConsole && may.includes('listApplications') ? [['Applications', `${base}/applications`]] : []),
    ...(inConsole ? [[name || '…', pagePath(app)]] : []),
    ...crumbs,
  ];
  return html`<div class="page">
    ${above.length > 0 && html`<nav class="crumbs" aria-label="Breadcrumbs"><ol>${above.map(([label, to]) => html`<li><a href=${to}>${label}</a></li>`)}</ol></nav>`}
    <div class="page-head">
      <div class="page-title"><h1 ref=${heading} tabindex="-1">${title}</h1>${badge}</div>
      ${actions && html`<div class="actions">${actions}</div>`}
    </div>
    ${intro && html`<p class="intro">${intro}</p>`}
    <${Warnings} />
    ${inConsole && tab && !applicationId && html`<${Tabs} label="Application" tabs=${appParts(session).map(([key, label, rest]) => [label, pagePath(app, rest), key === tab])} />`}
    ${children}
  </div>`;
}

/** Links that look like tabs: tabs = [[label, address, isCurrent]]. Where they do not all fit, the current one is in sight. */
export function Tabs({ tabs, label }) {
  const nav = useRef();
  const place = tabs.findIndex(([, , current]) => current);
  useLayoutEffect(() => {
    const strip = [nav.current, nav.current.firstElementChild].find((one) => one.scrollWidth > one.clientWidth);
    const link = nav.current.querySelector('[aria-current]');
    if (strip && link) strip.scrollLeft += link.getBoundingClientRect().left - strip.getBoundingClientRect().left - 24;
  }, [place]);
  return html`<nav class="tabs" aria-label=${label} ref=${nav}><ul>${tabs.map(([text, to, current]) => html`
    <li><a href=${to} aria-current=${current ? 'page' : null}>${text}</a></li>`)}</ul></nav>`;
}

/* Small things */

/** A button; kind: 'primary', 'danger', 'quiet' or none. With busy it waits. */
export const Button = ({ kind, busy, children, class: more, ...rest }) => html`<button type="button" ...${rest}
  class=${`button ${kind ?? ''} ${more ?? ''}`} disabled=${rest.disabled || busy} aria-busy=${busy ? 'true' : null}>${children}</button>`;

/** A link that looks like a button. */
export const LinkButton = ({ kind, to, children, ...rest }) => html`<a ...${rest} class=${`button ${kind ?? ''}`} href=${to}>${children}</a>`;

/** An ordinary link to a page. */
export const LinkTo = ({ to, children, ...rest }) => html`<a ...${rest} href=${to}>${children}</a>`;

/** A word with its colour and sign; kind: 'good', 'bad', 'warn', 'info' or none. */
export const Badge = ({ kind, children, ...rest }) => html`<span ...${rest} class=${`badge ${kind ?? ''}`}>${children}</span>`;

const states = {
  good: 'healthy success delivered finished enabled ok', bad: 'failing fail failed critical open', warn: 'warning held resting unverified throttled host-busy hanging paused',
  info: 'pending sending waiting running retrying',
};
const words = { success: 'Succeeded', fail: 'Failed', unverified: 'Not verified', open: 'Breaker open' };
/** The badge of a state that the API names: healthy, failing, success, pending, held, … */
export function Status({ of }) {
  const kind = Object.keys(states).find((key) => states[key].split(' ').includes(of));
  return html`<${Badge} kind=${kind}>${words[of] ?? of[0].toUpperCase() + of.slice(1)}<//>`;
}
/** Whether the endpoint's messages are held until its URL answers a challenge. */
export const isUnverified = ({ verification }) => !!verification && verification.status !== 'verified';
/** An endpoint's state for its badge: first what keeps its messages back, then its health, where that is known. */
export const endpointState = (endpoint, health) => (endpoint.disabled ? 'disabled' : endpoint.hold ? 'held' : isUnverified(endpoint) ? 'unverified'
  : { open: 'paused', resting: 'resting' }[endpoint.breaker?.state] ?? health?.state);

const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto', style: 'short' });
const exactly = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'long' });
const shortly = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });
const withYear = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium' });

/** "5 min ago", "in 2 hr", "27 Nov, 16:04": an instant as one says it. */
export function sayTime(at) {
  const seconds = (Date.parse(at) - Date.now()) / 1000;
  const far = Math.abs(seconds);
  if (far < 10) return seconds > 0 ? 'in a moment' : 'just now';
  for (const [unit, size, end] of [['second', 1, 60], ['minute', 60, 3600], ['hour', 3600, 86400]]) {
    if (far < end) return relative.format(Math.round(seconds / size), unit).replace('.', '');
  }
  return (far < 15e6 ? shortly : withYear).format(new Date(at));
}

/** The exact instant in the reader's zone. */
export const sayExactTime = (at) => exactly.format(new Date(at));

/** An instant, with the exact one on hover. exact: shows that. */
export function Time({ at, exact }) {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => tick((n) => n + 1), 30000);
    return () => clearInterval(timer);
  }, []);
  return at ? html`<time datetime=${at} title=${sayExactTime(at)}>${exact ? sayExactTime(at) : sayTime(at)}</time>` : html`<span class="muted">–</span>`;
}

/** 1,234 */
export const count = new Intl.NumberFormat('en').format;
/** "90 s", "5 min", "2 h": a length of time. */
export const duration = (s) => (s < 120 ? `${s} s` : s < 7200 ? `${+(s / 60).toFixed(1)} min` : s < 172800 ? `${+(s / 3600).toFixed(1)} h` : `${+(s / 86400).toFixed(1)} d`);

/** Addresses and networks, none of which is broken over two lines where it need not be. end: what stands behind the last. */
export const Addresses = ({ of, end }) => of.map((one, i) => html`<span class="whole"><span class="mono">${one}</span>${i < of.length - 1 ? ',' : end}</span> `);

/** A button that copies; text: what, or a function that gives (a promise of) it. */
export function Copy({ text, label = 'Copy', kind = 'quiet' }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    const what = typeof text === 'function' ? await text() : text;
    try {
      await navigator.clipboard.writeText(what);
    } catch { // Without TLS there is no clipboard to ask for.
      const area = document.createElement('textarea');
      area.value = what;
      (document.querySelector('dialog[open]') ?? document.body).append(area);
      area.select();
      document.execCommand('copy');
      area.remove();
    }
    setDone(true);
    announce('Copied');
    setTimeout(setDone, 2000, false);
  };
  return html`<${Button} kind=${kind} class="small" onClick=${copy}>${done ? 'Copied' : label}<//>`;
}

/** JSON text with line breaks; its numbers and texts stay as they are written. What is no JSON stays whole. */
export function prettyJson(text) {
  try {
    JSON.parse(text);
  } catch {
    return text;
  }
  let depth = 0;
  const line = () => `\n${'  '.repeat(depth)}`;
  return text.replace(/"(?:[^"\\]|\\.)*"|[{[]\s*[}\]]|[{}[\],:]|\s+/g, (token) => {
    if (token[0] === '"') return token;
    if (/^\s/.test(token)) return '';
    if (/^[{[].*[}\]]$/s.test(token)) return token[0] + token.at(-1);
    if (token === '{' || token === '[') { depth += 1; return token + line(); }
    if (token === '}' || token === ']') { depth -= 1; return line() + token; }
    return token === ',' ? token + line() : ': ';
  });
}

/** A block of text in a fixed font, with a button that copies it. json: breaks its lines. */
export function Code({ text = '', label, json, copy = true }) {
  const shown = json ? prettyJson(text) : text;
  return html`<div class="code">${copy && html`<${Copy} text=${shown} />`}<pre tabindex="0" role="region" aria-label=${label}>${shown}</pre></div>`;
}

/* Telling */

let tellAll = () => {};
/** Says something at the foot of the page for some seconds; kind: 'good' or 'bad'. */
export const toast = (text, kind = 'good') => tellAll({ text, kind });
/** Says something to screen readers alone. */
export const announce = (text) => tellAll({ text, kind: 'hidden' });

/** The live region of toasts; the app has the one. */
export function Toasts() {
  const [all, setAll] = useState([]);
  useEffect(() => {
    tellAll = (one) => {
      const item = { ...one, id: ++ids };
      setAll((old) => [...old.slice(-2), item]);
      setTimeout(() => setAll((old) => old.filter((other) => other !== item)), one.kind === 'bad' ? 12000 : 5000);
    };
  }, []);
  return html`<div class="toasts" role="status" aria-live="polite">${all.map(({ id, text, kind }) => html`
    <p key=${id} class=${kind === 'hidden' ? 'visually-hidden' : `toast ${kind}`}>${text}</p>`)}</div>`;
}

let warned = null;
/** Keeps warnings for the page at this address, which shows them when it is opened next. */
export function warnAt(address, texts) {
  warned = texts?.length ? { address, texts } : null;
}

/** The warnings that were kept for this page, until they are dismissed or it is left. */
function Warnings() {
  const [texts, setTexts] = useState([]);
  // Filled after it is there, so that screen readers say it.
  useEffect(() => {
    if (warned?.address === location.pathname) setTexts(warned.texts);
    warned = null;
  }, []);
  return html`<div role="status">${texts.length > 0 && html`<div class="notice warn">
    ${texts.map((text) => html`<p>${text}</p>`)}
    <${Button} class="small" onClick=${() => setTexts([])}>Dismiss<//></div>`}</div>`;
}

/* Dialogs */

/** A modal dialog; Escape and "Close" call onClose. foot: its buttons. */
export function Dialog({ title, onClose, children, foot, wide }) {
  const ref = useRef();
  const id = useId();
  useLayoutEffect(() => {
    const dialog = ref.current;
    dialog.showModal();
    return () => dialog.close(); // Gives the focus back to where it was.
  }, []);
  const onCancel = (event) => {
    event.preventDefault();
    onClose();
  };
  return html`<dialog ref=${ref} class=${wide ? 'wide' : ''} aria-labelledby=${id} onCancel=${onCancel}>
    <h2 id=${id}>${title}</h2>
    <div class="dialog-body">${children}</div>
    <div class="dialog-foot">${foot ?? html`<${Button} onClick=${onClose}>Close<//>`}</div>
  </dialog>`;
}

/**
 * Asks; gives a promise of the answer. A destructive act names what goes in the text and in `action`
 * ("Delete Acme"). `run` is awaited before the dialog closes; its error is shown in it.
 * `text` may be a function of that error, which shows what is wrong with its fields.
 * @param {{title: string, text: any, action: string, danger?: boolean, cancel?: string, run?: () => Promise<any>}} question
 * @returns {Promise<boolean>}
 */
export function confirm(question) {
  const host = document.body.appendChild(document.createElement('div'));
  return new Promise((resolve) => {
    const end = (answer) => {
      render(null, host);
      host.remove();
      resolve(answer);
    };
    render(html`<${Question} ...${question} end=${end} />`, host);
  });
}

function Question({ title, text, action, danger, cancel = 'Cancel', run, end }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const go = async () => {
    if (!run) return end(true);
    setBusy(true);
    try {
      await run();
      return end(true);
    } catch (failure) {
      setError(failure);
      setTimeout(() => document.querySelector('dialog[open] [aria-invalid=true]')?.focus(), 30);
      return setBusy(false);
    }
  };
  return html`<${Dialog} title=${title} onClose=${() => end(false)} foot=${html`
      <${Button} onClick=${() => end(false)}>${cancel}<//>
      <${Button} kind=${danger ? 'danger' : 'primary'} busy=${busy} onClick=${go}>${action}<//>`}>
    ${error && !(typeof text === 'function' && Object.keys(error.fields ?? {}).length) && html`<${ErrorBox} error=${error} />`}
    ${typeof text === 'function' ? text(error) : typeof text === 'string' ? html`<p>${text}</p>` : text}
  <//>`;
}

/* Tables */

/**
 * A table whose rows stack at narrow widths.
 * @param {string} caption what it lists, for screen readers
 * @param {{label: string, cell: (row: any) => any, class?: string}[]} columns the first one heads its row
 */
export const Table = ({ caption, columns, rows, rowKey = (row) => row.id }) => html`<div class="table-box"><table role="table">
  <caption class="visually-hidden">${caption}</caption>
  <thead role="rowgroup"><tr role="row">${columns.map((c) => html`<th scope="col" role="columnheader" class=${c.class}>${c.label || html`<span class="visually-hidden">Actions</span>`}</th>`)}</tr></thead>
  <tbody role="rowgroup">${rows.map((row) => html`<tr role="row" key=${rowKey(row)}>${columns.map((c, i) => (i
    ? html`<td role="cell" class=${c.class} data-label=${c.label}>${c.cell(row)}</td>`
    : html`<th scope="row" role="rowheader" class=${c.class}>${c.cell(row)}</th>`))}</tr>`)}</tbody>
</table></div>`;

/** "Previous" and "Next" of a list's page, kept in the address by useQuery. */
export function Pager({ page, query, setQuery, label = 'Pages' }) {
  const number = +query.page || 1;
  const back = query.iterator?.startsWith('-');
  if (number === 1 && (page.done || !page.iterator)) return null;
  const go = (to, iterator) => {
    setQuery(to > 1 ? { page: to, iterator } : {}, { push: true });
    scrollTo(0, 0);
  };
  return html`<nav class="pager" aria-label=${label}>
    <${Button} disabled=${number === 1} onClick=${() => go(number - 1, page.prevIterator)}>Previous<//>
    <span>Page ${count(number)}</span>
    <${Button} disabled=${(page.done && !back) || !page.iterator} onClick=${() => go(number + 1, page.iterator)}>Next<//>
  </nav>`;
}

/** A search field that waits until one has stopped typing. */
export function Search({ value = '', onSearch, label = 'Search', placeholder }) {
  const [text, setText] = useState(value);
  const timer = useRef();
  useEffect(() => { setText(value); }, [value]);
  const type = (event) => {
    const next = event.target.value;
    setText(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => onSearch(next.trim()), 250);
  };
  return html`<input class="search" type="search" aria-label=${label} placeholder=${placeholder ?? label} value=${text} onInput=${type} />`;
}

/* Forms */

const FormContext = createContext(null);

const idle = { busy: false, error: null, fields: {} };
const isAt = (loc) => (key) => key === loc || key.startsWith(`${loc}.`);

/**
 * A form's values and what is wrong with them.
 * @param {object} initial
 * @returns {{values: object, set: (name: string, value: any) => void, dirty: boolean, busy: boolean, fields: object}}
 */
export function useForm(initial) {
  const [start] = useState(() => JSON.stringify(initial));
  const [values, setValues] = useState(initial);
  const [state, setState] = useState(idle);
  return {
    ...state,
    values,
    setState,
    dirty: JSON.stringify(values) !== start,
    set(name, value, loc = `body.${name}`) {
      setValues((old) => ({ ...old, [name]: value }));
      setState((old) => ({ ...old, fields: Object.fromEntries(Object.entries(old.fields).filter(([key]) => !isAt(loc)(key))) }));
    },
  };
}

export const stay = () => confirm({ title: 'Leave without saving?', text: 'What you entered here has not been saved and would be lost.', action: 'Leave', cancel: 'Stay', danger: true });

/**
 * A form. onSubmit's ApiError is shown: beside the Field whose place it names, or above. Asks before it is
 * left with something unsaved. check: (values) => ({'body.url': 'what is wrong'}), before anything is sent.
 * cancel: where "Cancel" goes, an address or a function.
 */
export function Form({ form, onSubmit, check, submit = 'Save', cancel, children, danger, guard = true }) {
  const ref = useRef();
  const places = useRef(new Set()).current;
  const { values, busy, error, fields, setState } = form;
  const at = (loc) => Object.keys(fields).filter(isAt(loc));
  const claimed = new Set([...places].flatMap(at));
  const others = Object.keys(fields).filter((key) => !claimed.has(key));
  const guarded = guard && form.dirty && !busy;
  useLayoutEffect(() => {
    if (!guard) return undefined;
    setGuard(guarded ? stay : null);
    return () => setGuard(null);
  }, [guarded]);
  const showFirst = () => setTimeout(() => {
    const found = (what) => ref.current?.querySelector(what);
    (found('[aria-invalid=true]') ?? found('.field-error[tabindex]') ?? found('.form-error'))?.focus();
  }, 30);
  const send = async (event) => {
    event.preventDefault();
    if (busy) return;
    const wrong = check?.(values) ?? {};
    const refuse = (error, fields) => {
      setState({ busy: false, error: Object.keys(fields).length ? null : error, fields });
      showFirst();
    };
    if (Object.keys(wrong).length) return void refuse(null, wrong);
    setState({ ...idle, busy: true });
    if (guard) setGuard(null);
    try {
      await onSubmit(values);
      setState(idle);
    } catch (failure) {
      refuse(failure, failure.fields ?? {});
    }
  };
  return html`<${FormContext.Provider} value=${{ ...form, places, errorsAt: (loc, placed) => at(loc).map((key) => (placed && key !== loc ? `${key.slice(loc.length + 1)}: ` : '') + fields[key]) }}>
    <form ref=${ref} novalidate class=${guard && form.dirty ? 'dirty' : ''} onSubmit=${send}>
      ${(error || others.length > 0) && html`<div class="notice bad form-error" role="alert" tabindex="-1">
        ${error && html`<p>${error.message}</p>`}${others.map((key) => html`<p>${key.replace(/^body\./, '')}: ${fields[key]}</p>`)}</div>`}
      ${children}
      <div class="form-foot">
        <${Button} type="submit" kind=${danger ? 'danger' : 'primary'} busy=${busy}>${submit}<//>
        ${cancel && (typeof cancel === 'string' ? html`<${LinkButton} to=${cancel}>Cancel<//>` : html`<${Button} onClick=${cancel}>Cancel<//>`)}
      </div>
    </form>
  <//>`;
}

/** What is wrong at a place, for controls that are no Field; placed: each text says where within it. */
export function useErrors(loc, placed) {
  const context = useContext(FormContext);
  context?.places.add(loc);
  useEffect(() => () => context?.places.delete(loc), [loc]);
  return context?.errorsAt(loc, placed) ?? [];
}

/**
 * A labelled control with its hint and error.
 * @param {string} label
 * @param {string} [name] the form's value it edits; else give value and onInput(value)
 * @param {string} [loc] the place of its errors, 'body.NAME' where absent
 * @param {string} [type] of an input; 'textarea', 'checkbox', 'select' (with options [[value, label]])
 * @param {boolean} [placed] its errors say where in it they are
 * @param {any} [hint]
 * @param {any} [after] beside the control, such as a button
 */
export function Field({ label, name, loc = `body.${name}`, type = 'text', hint, value, onInput, options, after, hideLabel, optional, error, placed, ...rest }) {
  const context = useContext(FormContext);
  const id = useId();
  const errors = [error, ...useErrors(loc, placed)].filter(Boolean);
  const now = value ?? context?.values[name] ?? '';
  const given = (event) => {
    const next = type === 'checkbox' ? event.target.checked : event.target.value;
    if (onInput) onInput(next);
    else context.set(name, next, loc);
  };
  const common = {
    ...rest, id, name,
    'aria-invalid': errors.length ? 'true' : null,
    'aria-describedby': [hint && `${id}-hint`, errors.length && `${id}-error`].filter(Boolean).join(' ') || null,
  };
  const said = html`${hint && html`<p class="hint" id=${`${id}-hint`}>${hint}</p>`}
    ${errors.length > 0 && html`<p class="field-error" id=${`${id}-error`}>${errors.join(' · ')}</p>`}`;
  if (type === 'checkbox') {
    return html`<div class="field check"><input ...${common} type="checkbox" checked=${!!now} onChange=${given} />
      <div><label for=${id}>${label}</label>${said}</div></div>`;
  }
  const control = type === 'select' ? html`<select ...${common} value=${now} onChange=${given}>${options.map(([key, text]) => html`<option value=${key} selected=${key === now}>${text}</option>`)}</select>`
    : type === 'textarea' ? html`<textarea rows="4" ...${common} value=${now} onInput=${given}></textarea>`
      : html`<input autocomplete="off" ...${common} type=${type} value=${now} onInput=${given} />`;
  return html`<div class="field">
    <label for=${id} class=${hideLabel ? 'visually-hidden' : ''}>${label}${optional && html` <span class="muted">(optional)</span>`}</label>
    ${after ? html`<div class="with-after">${control}${after}</div>` : control}
    ${said}
  </div>`;
}

/** The path helpers, so that pages need one import less. */
export { base, navigate, pagePath, path, surface, useQuery };
