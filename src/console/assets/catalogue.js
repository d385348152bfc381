// The event catalogue: which events there are, what they mean, their schemas and examples.

import { api, listAll, pagePath, path } from './api.js';
import { Facts, Switch } from './history.js';
import { useQuery } from './router.js';
import { Badge, Button, Code, Empty, LinkButton, LinkTo, Loaded, Page, Search, html, useLoad, useMay, useState } from './ui.js';

export default ({ app, params }) => (params.name ? html`<${OneType} app=${app} name=${params.name} />` : html`<${Catalogue} app=${app} />`);

function Catalogue({ app }) {
  const [query, setQuery] = useQuery({ search: '' });
  const { search } = query;
  const load = useLoad((signal) => listAll('/event-type', { search }, { signal, max: 1000 }), [search]);
  return html`<${Page} title="Event catalogue" app=${app} tab="events" intro="The events that webhooks can be sent for.">
    <div class="filters"><${Search} label="Search events" value=${search} onSearch=${(value) => setQuery({ search: value })} /></div>
    <${Loaded} of=${load}>${(all) => {
      // A server that does not search yet lists all.
      const found = all.filter(({ name, description, groupName }) => `${name} ${description} ${groupName ?? ''}`.toLowerCase().includes(search.toLowerCase()));
      const groups = Map.groupBy(found, ({ groupName }) => groupName ?? '');
      return found.length ? [...groups].sort(([a], [b]) => (a === '') - (b === '') || a.localeCompare(b)).map(([group, types]) => html`
        <section class="section" aria-label=${group || 'Others'}>${groups.size > 1 && html`<h2 class="group-name">${group || 'Others'}</h2>`}
          <div class="table-box"><ul class="plain events">${types.map(({ name, description, deprecated }) => html`<li><${LinkTo} to=${pagePath(app, path`/events/${name}`)}><strong class="break">${name}</strong><//>
            ${deprecated && html` <${Badge} kind="warn">Deprecated<//>`}<p class="muted">${description}</p></li>`)}</ul></div></section>`)
        : html`<${Empty} title=${search ? 'No such event' : 'No events yet'}><p>${search ? `Nothing is called or says “${search}”.` : 'Events show here once they are registered.'}</p><//>`;
    }}<//>
  <//>`;
}

function OneType({ app, name }) {
  const may = useMay();
  const load = useLoad((signal) => api('GET', path`/event-type/${name}`, null, { signal, exact: true }), [name]);
  const type = load.data;
  return html`<${Page} title=${name} app=${app} crumbs=${[['Event catalogue', pagePath(app, '/events')]]}
    badge=${type?.archived ? html`<${Badge}>Archived<//>` : type?.deprecated && html`<${Badge} kind="warn">Deprecated<//>`}
    intro=${type?.description} actions=${may('createEndpoints') && type && !type.archived && html`<${LinkButton} kind="primary" to=${`${pagePath(app, '/new')}?event=${encodeURIComponent(name)}`}>Add Webhook for this event<//>`}>
    <${Loaded} of=${load}>${({ schemas, example, channels, groupName }) => {
      const versions = Object.entries(schemas ?? {}).sort(([a], [b]) => b - a);
      const shown = example ?? versions[0]?.[1].examples?.[0];
      return html`
        ${(groupName || channels) && html`<section class="card" aria-label="Facts"><${Facts} of=${[groupName && ['Group', groupName], channels && ['Entities', channels.join(', ')]]} /></section>`}
        ${versions.length > 0 && html`<${Schemas} versions=${versions} />`}
        <div class="section-head"><h2>Example</h2></div>
        ${shown ? html`<${Code} label="Example" text=${JSON.stringify(shown)} json />` : html`<p class="muted">There is none.</p>`}`;
    }}<//>
  <//>`;
}

function Schemas({ versions }) {
  const [version, setVersion] = useState(versions[0][0]);
  const [raw, setRaw] = useState(false);
  const schema = versions.find(([key]) => key === version)[1];
  const rows = fieldsOf(schema, schema);
  return html`<div class="spread section-head"><h2>Payload</h2><div class="row">
      ${versions.length > 1 && html`<${Switch} label="Version" value=${version} options=${versions.map(([key]) => [key, `Version ${key}`])} onChange=${setVersion} />`}
      <${Button} class="small" aria-pressed=${raw ? 'true' : 'false'} onClick=${() => setRaw(!raw)}>JSON Schema<//></div></div>
    ${raw ? html`<${Code} label="JSON Schema" text=${JSON.stringify(schema)} json />`
    : rows.length ? html`<div class="table-box"><table class="schema" role="table"><caption class="visually-hidden">Fields of the payload</caption>
      <thead role="rowgroup"><tr role="row">${['Field', 'Type', 'Description'].map((label) => html`<th scope="col" role="columnheader">${label}</th>`)}</tr></thead>
      <tbody role="rowgroup">${rows.map(({ field, type, required, says }) => html`<tr role="row">
        <th scope="row" role="rowheader"><code>${field}</code>${required && html` <span class="muted small">required</span>`}</th>
        <td role="cell" data-label="Type">${type}</td><td role="cell" data-label="Description">${says}</td></tr>`)}</tbody></table></div>`
      : html`<p class="muted">The schema names no fields.</p>`}`;
}

/** A schema's fields, one below the other, those within objects and lists by their path. */
function fieldsOf(root, schema, at = '', depth = 0) {
  const real = resolved(root, schema);
  const all = [real, ...(real.allOf ?? []).map((one) => resolved(root, one))];
  return all.flatMap(({ properties = {}, required = [] }) => Object.entries(properties).flatMap(([name, field]) => {
    const own = resolved(root, field);
    const items = own.items && resolved(root, own.items);
    const path = at + name;
    return [
      { field: path, type: typeOf(own, items), required: required.includes(name), says: saidOf(own) },
      ...(depth < 6 ? [...fieldsOf(root, own, `${path}.`, depth + 1), ...(items ? fieldsOf(root, items, `${path}[].`, depth + 1) : [])] : []),
    ];
  }));
}

/** A schema, or what it refers to within the same document. */
function resolved(root, schema) {
  if (!schema?.$ref?.startsWith('#')) return schema ?? {};
  const parts = schema.$ref.slice(2).split('/').filter(Boolean).map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
  return parts.reduce((node, part) => node?.[part], root) ?? {};
}

function typeOf({ type, format, enum: values, const: only, anyOf, oneOf }, items) {
  if (only !== undefined) return JSON.stringify(only);
  if (values) return `one of ${values.map((one) => JSON.stringify(one)).join(', ')}`;
  if (items) return `list of ${typeOf(items)}`;
  const several = anyOf ?? oneOf;
  return `${type ? [type].flat().join(' or ') : several ? several.map((one) => typeOf(one)).join(' or ') : 'anything'}${format ? `, ${format}` : ''}`;
}

function saidOf({ description, minimum, maximum, minLength, maxLength, pattern, default: usual }) {
  const range = (low, high, unit) => (low != null || high != null) && `${[low != null && `at least ${low}`, high != null && `at most ${high}`].filter(Boolean).join(', ')}${unit}`;
  return [description, range(minimum, maximum, ''), range(minLength, maxLength, ' characters'), pattern && `like ${pattern}`, usual !== undefined && `default ${JSON.stringify(usual)}`].filter(Boolean).join('; ');
}
