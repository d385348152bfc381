// Event types: the list by groups, one with its schemas and example, the import of an OpenAPI document.
// Schemas and examples stay as they are written: their bytes are cut out of the answer and put into the request.

import { api, list, path } from './api.js';
import { Errors, Json, isObject, members, wrongIn } from './fields.js';
import { Choices } from './history.js';
import { FormDialog, col, destroy, words } from './operator.js';
import {
  Badge, Button, Code, Dialog, Empty, ErrorBox, Field, Form, Loaded, Page, Pager, Search, Table, Time, base, count, html, navigate, prettyJson, toast, useErrors, useForm, useLoad, useMay, useQuery, useState,
} from './ui.js';

const here = `${base}/event-types`;
const pageOf = (name) => here + path`/${name}`;
const Flags = ({ of }) => html`${of.archived && html` <${Badge}>Archived<//>`}${of.deprecated && html` <${Badge} kind="warn">Deprecated<//>`}`;

export default ({ params }) => html`<${params.name ? One : All} name=${params.name} />`;

function All() {
  const change = useMay()('changeEventTypes');
  const [query, setQuery] = useQuery({ search: '', archived: '' });
  const [Open, setOpen] = useState(null);
  const { search, archived, iterator } = query;
  const types = useLoad((signal) => list('/event-type', { search, iterator, limit: 100, include_archived: archived }, { signal }), [search, archived, iterator]);
  const groups = (all) => [...Map.groupBy(all, ({ groupName }) => groupName ?? '')].sort(([a], [b]) => !a - !b || a.localeCompare(b));
  const columns = [
    col('Event type', (type) => html`<a href=${pageOf(type.name)}>${type.name}</a><${Flags} of=${type} />`), col('Description', ({ description }) => description),
    col('Changed', ({ updatedAt }) => html`<${Time} at=${updatedAt} />`),
  ];
  return html`<${Page} title="Event types" intro="The kinds of events that endpoints can receive."
      actions=${change && html`<${Button} onClick=${() => setOpen(() => Import)}>Import OpenAPI<//><${Button} kind="primary" onClick=${() => setOpen(() => Add)}>Add event type<//>`}>
    <div class="filters"><${Search} value=${search} label="Search event types" onSearch=${(text) => setQuery({ search: text })} />
      <${Field} label="Show archived" type="checkbox" value=${!!archived} onInput=${(on) => setQuery({ archived: on ? 'true' : '' })} /></div>
    <${Loaded} of=${types}>${(page) => (page.data.length ? html`<div class="stack even">${groups(page.data).map(([group, rows], _, all) => html`<section key=${group}>
        ${(group || all.length > 1) && html`<h2>${group || 'Without a group'}</h2>`}<${Table} caption=${group || 'Event types'} columns=${columns} rows=${rows} rowKey=${({ name }) => name} /></section>`)}</div>
      <${Pager} page=${page} query=${query} setQuery=${setQuery} />`
    : html`<${Empty} title="No event types"><p>${search ? `None has “${search}” in its name.` : change ? 'Add one for each kind of event, or import them from an OpenAPI document.' : 'None is registered yet.'}</p><//>`)}<//>
    ${Open && html`<${Open} onClose=${() => setOpen(null)} done=${types.reload} />`}
  <//>`;
}

function Add({ onClose }) {
  const form = useForm({ name: '', description: '', groupName: '' });
  const add = async ({ name, description, groupName }) => {
    await api('POST', '/event-type', { name, description, groupName: groupName || null });
    navigate(pageOf(name), { force: true });
  };
  return html`<${FormDialog} title="Add event type" form=${form} onClose=${onClose} onSubmit=${add} submit="Add event type">
    <${Field} label="Name" name="name" spellcheck="false" hint="Such as invoice.paid; it stays." /><${Field} label="Description" name="description" /><${Field} label="Group" name="groupName" optional spellcheck="false" /><//>`;
}

const kinds = ['null', 'boolean', 'object', 'array', 'number', 'integer', 'string'];

/** What in a schema means nothing, as sentences. */
function lint(schema, at = '') {
  if (typeof schema === 'boolean') return [];
  const place = at || 'The schema';
  if (!isObject(schema)) return [`${place} must be an object, true or false.`];
  const { type = [], required = [], properties = {}, items = true } = schema;
  const within = (key) => Object.entries(schema[key] ?? {}).flatMap(([name, value]) => lint(value, `${at && `${at} › `}${name}`));
  return [
    ...[type].flat().filter((one) => !kinds.includes(one)).map((one) => `${place}: “${one}” is no type.`),
    ...(Array.isArray(required) ? [] : [`${place}: “required” must be a list of names.`]),
    ...(isObject(properties) ? within('properties') : [`${place}: “properties” must be an object.`]),
    ...lint(items, `${at && `${at} › `}items`), ...['$defs', 'allOf', 'anyOf', 'oneOf'].flatMap(within),
  ];
}

function One({ name }) {
  const change = useMay()('changeEventTypes');
  const load = useLoad(async (signal) => {
    const text = await api('GET', path`/event-type/${name}`, null, { signal, text: true });
    const { example, schemas } = members(text);
    return { ...JSON.parse(text), example: example === 'null' ? '' : example, schemas: members(schemas) };
  }, [name]);
  const { archived } = load.data ?? {};
  const archive = () => api('PATCH', path`/event-type/${name}`, { archived: !archived }).then(() => {
    load.set({ ...load.data, archived: !archived }); // Not loaded anew: the form may have something unsaved.
    toast(`${name} was ${archived ? 'unarchived' : 'archived'}.`);
  }, (error) => toast(error.message, 'bad'));
  const remove = () => destroy('Delete', name, `${name} goes with its schemas and example; filters that name it stay. To keep it out of sight only, archive it.`,
    () => api('DELETE', path`/event-type/${name}`, null, { query: { expunge: true } })).then((yes) => yes && navigate(here, { force: true }));
  return html`<${Page} title=${name} crumbs=${[['Event types', here]]} badge=${load.data && html`<${Flags} of=${load.data} />`}
      actions=${load.data && change && html`<${Button} onClick=${archive}>${archived ? 'Unarchive' : 'Archive'}<//><${Button} kind="danger" onClick=${remove}>Delete<//>`}>
    <${Loaded} of=${load}>${(type) => html`<${change ? Edit : Read} key=${type.updatedAt} type=${type} done=${load.reload} />`}<//><//>`;
}

const strictness = [
  ['off', 'Not checked', 'The schema tells receivers what to expect; payloads may differ.'],
  ['warn', 'Warn', 'What does not fit is accepted. The answer to the publisher says so, and it is counted.'],
  ['reject', 'Reject', 'What does not fit is refused, with each place where it differs.'],
];

const Read = ({ type }) => html`<div class="stack"><p>${type.description}</p>
  ${[['Example', type.example], ...Object.entries(type.schemas).reverse().map(([version, text]) => [`Schema, version ${version}`, text])].map(([title, text]) => text && html`
    <section class="card"><h2>${title}</h2><${Code} text=${text} label=${title} json /></section>`)}</div>`;

function Edit({ type, done }) {
  const { name, archived } = type;
  const form = useForm({ ...type, groupName: type.groupName ?? '', featureFlags: type.featureFlags.join(' '), channels: type.channels?.join(' ') ?? '' });
  const { values: { schemas, example }, set } = form;
  const versions = Object.keys(schemas).sort((a, b) => b - a);
  const [chosen, choose] = useState('');
  const version = versions.includes(chosen) ? chosen : versions[0];
  const put = (key, text) => {
    const { [key]: _, ...rest } = schemas;
    set('schemas', text == null ? rest : { ...rest, [key]: text });
    choose(key);
  };
  const add = () => put(String(Math.max(0, ...versions.map(Number).filter(Boolean)) + 1), schemas[versions[0]] ?? '{\n  "type": "object",\n  "properties": {}\n}');
  const check = () => {
    const wrong = [...versions.map((key) => [`body.schemas.${key}`, wrongIn(schemas[key]), key]), ['body.example', example.trim() && wrongIn(example)]].filter(([, said]) => said);
    choose(wrong[0]?.[2] ?? version);
    return Object.fromEntries(wrong);
  };
  const save = async ({ description, groupName, featureFlags, channels, deprecated, validate }) => {
    const rest = JSON.stringify({ description, groupName: groupName || null, featureFlags: words(featureFlags), channels: words(channels), deprecated, archived, validate });
    const texts = Object.entries(schemas).map(([key, text]) => `${JSON.stringify(key)}:${text}`);
    await api('PUT', path`/event-type/${name}`, `${rest.slice(0, -1)},"example":${example.trim() || null},"schemas":${texts.length ? `{${texts}}` : null}}`);
    toast(`${name} was saved.`);
    document.querySelector('h1').focus({ preventScroll: true }); // The form is made anew.
    done();
  };
  return html`<${Form} form=${form} onSubmit=${save} check=${check}>
    <section class="card"><${Field} label="Description" name="description" />
      <div class="split"><${Field} label="Group" name="groupName" optional spellcheck="false" /><${Field} label="Feature flags" name="featureFlags" optional spellcheck="false" hint="Only portals with one of these flags show it." /></div>
      <${Field} label="Channels" name="channels" type="textarea" rows="2" optional spellcheck="false" hint="Names of the entities that forms offer, separated by spaces." /><${Field} label="Deprecated" name="deprecated" type="checkbox" /></section>
    <section class="card"><div class="spread"><h2>Schema</h2><div class="row">
        ${version && html`<${Field} label="Version" hideLabel type="select" value=${version} onInput=${choose} options=${versions.map((key) => [key, `Version ${key}`])} />`}
        <${Button} class="small" onClick=${add}>Add version<//></div></div>
      ${version ? html`<${Json} key=${version} label=${`JSON Schema, version ${version}`} loc=${`body.schemas.${version}`} rows="14" value=${schemas[version]} onInput=${(text) => put(version, text)} judge=${lint}
        after=${html`<${Button} class="small" onClick=${() => put(version)}>Remove version<//>`} />` : html`<p class="muted">None. A schema tells receivers what to expect, and payloads can be checked against it.</p>`}
      <${Choices} label="Check payloads against the newest version" name="validate" form=${form} options=${strictness} /><${Errors} loc="body.validate" />
      ${type.schemaWarnings > 0 && html`<p>${count(type.schemaWarnings)} payload${type.schemaWarnings > 1 && 's'} did not fit since the server started.</p>`}</section>
    <section class="card"><h2>Example</h2><${Json} label="Example payload" loc="body.example" rows="8" value=${example} onInput=${(text) => set('example', text)} hint="Tests send exactly this text." /></section>
  <//>`;
}

function Import({ onClose, done }) {
  const form = useForm({ specRaw: '', replaceAll: false });
  const [plan, setPlan] = useState(null);
  const [error, setError] = useState(null);
  const send = (dryRun) => api('POST', '/event-type/import/openapi', { ...form.values, dryRun });
  const apply = async () => {
    const { data } = await send(false);
    toast(`Imported: ${data.modified.join(', ').slice(0, 200)}`);
    onClose();
    done();
  };
  if (plan) {
    return html`<${Dialog} wide title="Changes of this import" onClose=${() => setPlan(null)} foot=${html`<${Button} onClick=${() => setPlan(null)}>Back<//>
        ${plan.length > 0 && html`<${Button} kind="primary" onClick=${() => apply().catch(setError)}>Import ${plan.length === 1 ? 'it' : `${plan.length} event types`}<//>`}`}>
      ${error && html`<${ErrorBox} error=${error} />`}
      <p>${plan.length ? `These are added, or changed where they exist; all others ${form.values.replaceAll ? 'are archived' : 'stay'}.` : 'Nothing: there are no webhooks in it, or nothing about them is new.'}</p>
      ${plan.length > 0 && html`<${Table} caption="Event types" rows=${plan} rowKey=${({ name }) => name} columns=${[
    col('Event type', (type) => html`<code>${type.name}</code><${Flags} of=${type} />`), col('Description', ({ description }) => description), col('Schema', ({ schemas }) => (schemas ? 'yes' : 'no'))]} />`}<//>`;
  }
  return html`<${FormDialog} wide title="Import OpenAPI" form=${form} onClose=${onClose} submit="Show the changes" onSubmit=${async () => setPlan((await send(true)).data.to_modify)}>
    <p>Creates event types from the webhooks of an OpenAPI document. You see the changes before they are made.</p>
    <${Field} label="File" type="file" loc="" value="" accept=".json,.yaml,.yml" onInput=${() => {}} onChange=${async (event) => form.set('specRaw', await event.target.files[0].text())} />
    <${Field} label="Document, JSON or YAML" name="specRaw" loc="" type="textarea" class="code-input" rows="10" spellcheck="false" />
    <${Field} label="Archive event types that are not in it" name="replaceAll" type="checkbox" /><//>`;
}
