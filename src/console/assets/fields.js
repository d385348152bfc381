// Controls that several forms have: an object's text, rows of a name and a value, and the choice of a message.

import { appPath, list } from './api.js';
import { Button, Field, html, prettyJson, sayTime, useEffect, useErrors, useLayoutEffect, useLoad, useRef, useState } from './ui.js';

/* JSON as a text, whose bytes stay */

/** The texts of an object's values, by their names. */
export function members(json) {
  const found = {};
  let depth = 0;
  let word;
  let name;
  let from;
  for (const { 0: token, index } of json.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]/g)) {
    depth += '{['.includes(token) - '}]'.includes(token);
    if (depth === 1 && token === ':') [name, from] = [word, index + 1];
    else if (name != null && (depth === 1 ? token === ',' : !depth)) {
      found[name] = json.slice(from, index).trim();
      name = null;
    } else if (depth === 1 && name == null && token[0] === '"') word = JSON.parse(token);
  }
  return found;
}

export const isObject = (value) => value && typeof value === 'object' && !Array.isArray(value);

/** What is wrong with an object's text, if anything. */
export function wrongIn(text) {
  try {
    return isObject(JSON.parse(text)) ? '' : 'This must be a JSON object.';
  } catch ({ message }) {
    return `This is not JSON: ${message}`;
  }
}

/** A field for an object's text, which says what is wrong with it as one types; judge gives further sentences. */
export function Json({ value, after, judge, ...rest }) {
  const wrong = value.trim() && wrongIn(value);
  const doubts = judge && value.trim() && !wrong ? judge(JSON.parse(value)) : [];
  return html`<${Field} type="textarea" class="code-input" spellcheck="false" value=${value} error=${useErrors(rest.loc).includes(wrong) ? null : wrong} ...${rest} />
    ${doubts.length > 0 && html`<div class="notice warn" role="status">${doubts.slice(0, 8).map((text) => html`<p>${text}</p>`)}</div>`}
    <div class="row"><${Button} class="small" disabled=${wrong || !value} onClick=${() => rest.onInput(prettyJson(value))}>Format<//>${after}</div>`;
}

/* Names and values */

/** What is wrong at a place that has no Field; of: the list that it is, whose items are named. */
export function Errors({ loc, id, of }) {
  const errors = useErrors(loc, of).map((text) => text.replace(/^(\d+): /, (_, at) => `${of[at]} `));
  return errors.length > 0 && html`<p class="field-error" id=${id} role="alert" tabindex="-1">${errors.join(' · ')}</p>`;
}

/** Rows of a name and a value. */
export function Pairs({ legend, hint, name, locs, add, form, secrets }) {
  const rows = form.values[name];
  const box = useRef();
  const put = (next) => form.set(name, next, locs[0]);
  const edit = (key, changes) => put(rows.map((row) => (row.key === key ? { ...row, ...changes } : row)));
  const added = useRef(false);
  useLayoutEffect(() => {
    if (added.current) box.current.querySelector('li:last-child > input').focus();
    added.current = false;
  });
  const more = () => {
    added.current = true;
    put([...rows, { key: Math.max(-1, ...rows.map(({ key }) => key)) + 1, name: '', value: '' }]);
  };
  const remove = (key) => {
    put(rows.filter((row) => row.key !== key));
    box.current.querySelector('.add').focus();
  };
  return html`<fieldset ref=${box}><legend>${legend}</legend><p class="hint">${hint}</p>
    <ul class="pairs">${rows.map((row, i) => html`<li key=${row.key}>
      <input aria-label=${`Name of ${legend.toLowerCase()} ${i + 1}`} placeholder="Name" value=${row.name} readonly=${!!row.was && row.was !== 'plain'} spellcheck=${false} autocomplete="off" onInput=${({ target }) => edit(row.key, { name: target.value })} />
      <input aria-label=${`Value of ${row.name || i + 1}`} type=${row.secret ? 'password' : 'text'} placeholder=${row.was && row.secret ? 'Unchanged' : 'Value'} value=${row.value} spellcheck=${false} autocomplete=${row.secret ? 'new-password' : 'off'} onInput=${({ target }) => edit(row.key, { value: target.value })} />
      <span class="row">${secrets && html`<label class="row"><input type="checkbox" checked=${!!row.secret} disabled=${row.was === 'sensitive' || row.was === 'auth'} onChange=${({ target }) => edit(row.key, { secret: target.checked })} />Secret</label>`}
        <${Button} kind="quiet" class="small" aria-label=${`Remove ${row.name || `row ${i + 1}`}`} onClick=${() => remove(row.key)}>Remove<//></span>
    </li>`)}</ul>
    ${locs.map((loc) => html`<${Errors} loc=${loc} />`)}
    <div><${Button} class="small add" onClick=${more}>${add}<//></div></fieldset>`;
}

export const pairs = (object) => Object.entries(object ?? {}).map(([name, value], key) => ({ name, value, key }));
export const filled = (rows) => rows.filter(({ name, value }) => name.trim() || value);
export const object = (rows) => Object.fromEntries(rows.map(({ name, value }) => [name.trim(), value]));

/* Messages */

/**
 * One of the application's last messages, or another by its id, as the form's messageId. any: what it says where
 * none need be chosen.
 */
export function MessagePick({ app, form: { values: { messageId }, set }, any }) {
  const [byId, setById] = useState(false);
  const load = useLoad((signal) => list(appPath(app, '/msg'), { limit: 20, with_content: false }, { signal }), [app]);
  const last = load.data?.data ?? [];
  const newest = last[0]?.id;
  useEffect(() => { if (!any && newest) set('messageId', newest); }, [newest]);
  const choose = (id) => {
    setById(id === 'id');
    set('messageId', id === 'id' ? '' : id);
  };
  const none = any ?? (load.loading ? 'Loading…' : !newest && 'No messages yet');
  return html`<${Field} label="Message" type="select" loc="" value=${byId ? 'id' : messageId} onInput=${choose}
      options=${[...(none ? [['', none]] : []), ...last.map(({ id, eventType, timestamp }) => [id, `${eventType}, ${sayTime(timestamp)}`]), ['id', 'Another, by its ID…']]} />
    ${byId && html`<${Field} label="Message ID" name="messageId" class="mono" spellcheck=${false} placeholder="msg_…" />`}`;
}
