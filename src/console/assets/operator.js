// What the operator's pages share.

import { list, path } from './api.js';
import { Button, Dialog, Empty, Field, Form, Loaded, Pager, Table, confirm, duration, html, pagePath, stay, useApp, useEffect, useId, useState } from './ui.js';

export const col = (label, cell, kind) => ({ label, cell, class: kind });

/** A row's button; screen readers hear whose it is. */
export const act = (label, name, onClick) => html`<${Button} kind="quiet" class="small" aria-label=${`${label} ${name}`} onClick=${onClick}>${label}<//>`;

/** A list's table and pages; empty: [title, what to do]. The rest goes to Table. */
export const Listing = ({ of, query, setQuery, empty, ...rest }) => html`<${Loaded} of=${of}>${(page) => (page.data.length
  ? html`<${Table} rows=${page.data} ...${rest} />${query && html`<${Pager} page=${page} query=${query} setQuery=${setQuery} />`}`
  : html`<${Empty} title=${empty[0]}><p>${empty[1]}</p><//>`)}<//>`;

/** Asks before `run`, and names what goes: destroy('Delete', 'Acme', …). Gives a promise of whether it went. */
export async function destroy(verb, name, text, run, cancel) {
  const what = `${verb} ${name}`.trim();
  const yes = await confirm({ title: `${what}?`, text, action: what, danger: true, run, cancel });
  if (yes) document.querySelector('h1')?.focus(); // What had the focus may go.
  return yes;
}

/** A form in a dialog, which asks before it is closed with something unsaved. The rest goes to Form. */
export function FormDialog({ title, form, onClose, wide, ...rest }) {
  const close = async () => (!form.dirty || await stay()) && onClose();
  return html`<${Dialog} title=${title} wide=${wide} onClose=${close} foot=${false}><${Form} form=${form} cancel=${close} ...${rest} /><//>`;
}

/** A field that offers what find(text, signal) gives: [[value, label]]; onFound gets a value that is one of them, or ''. The rest goes to Field. */
export function Finder({ find, value, onFound, ...rest }) {
  const id = useId();
  const [offers, setOffers] = useState([]);
  useEffect(() => {
    const abort = new AbortController();
    const timer = setTimeout(() => find(value, abort.signal).then((found) => {
      setOffers(found);
      onFound?.(found.some(([key]) => key === value) ? value : '');
    }, () => {}), 200);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [value]);
  return html`<${Field} value=${value} list=${id} spellcheck="false" ...${rest} />
    <datalist id=${id}>${offers.map(([key, label]) => html`<option value=${key}>${label}</option>`)}</datalist>`;
}

/** Applications by a part of their name, uid or id, for Finder. */
export const findApps = async (search, signal) => (await list('/app', { search, limit: 20 }, { signal })).data.map(({ id, uid, name }) => [uid ?? id, name]);

/** An application's page, by its name, which is looked up where it is not given. */
export function AppLink({ id, name }) {
  const app = useApp(name === undefined ? id : null);
  return html`<a href=${pagePath(id)}>${name ?? (app.name || id)}</a>`;
}
export const EndpointLink = ({ app, id, url }) => html`<a class="break" href=${pagePath(app, path`/endpoint/${id}`)}>${url ?? id}</a>`;

/** A text's words; null for none. */
export const words = (text) => text.match(/[^\s,]+/g);

/** Says when failures are tried again. */
export const sayRetry = ({ delaysSeconds, firstSeconds, factor = 2, maxDelaySeconds = 3600, giveUpAfterSeconds, jitter }) => (!delaysSeconds
  ? `After ${duration(firstSeconds)}, each wait ${factor} times the last up to ${duration(maxDelaySeconds)}, for ${duration(giveUpAfterSeconds)} in all`
  : delaysSeconds.length ? `After ${delaysSeconds.map(duration).join(', ')}` : 'Never') + (jitter ? `; each ± ${Math.round(jitter * 100)} %` : '');
