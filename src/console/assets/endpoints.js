// "Webhooks": an application's endpoints with their health, searched and filtered on the server.

import { api, appPath, list, pagePath, path } from './api.js';
import { Badge, Button, Empty, LinkButton, Loaded, Page, Pager, Search, Table, count, html, isUnverified, labels, toast, useLoad, useMay, useQuery, useSession, useState } from './ui.js';
import { Rate } from './chart.js';
import { endpointName } from './history.js';
import { OfApplication, enable, release } from './hold.js';
import { EndpointState } from './notices.js';

export default function Endpoints({ app }) {
  const may = useMay();
  const [query, setQuery] = useQuery({ search: '', status: '' });
  const { search, status, iterator } = query;
  const endpoints = useLoad((signal) => list(appPath(app, '/endpoint'), { limit: 25, with_health: true, search, status, iterator }, { signal }), [app, search, status, iterator], { every: 20000 });
  const known = useSession().applications?.find(({ id, uid }) => id === app || uid === app);
  const add = may('createEndpoints') && known?.mayCreateEndpoints !== false && html`<${LinkButton} kind="primary" to=${pagePath(app, '/new')}>${labels.add_webhook}<//>`;
  const filtered = search || status || iterator;
  const bare = !filtered && endpoints.data?.data.length === 0;
  const columns = [
    { label: 'Endpoint', class: 'grow', cell: (ep) => html`<a class="break" href=${pagePath(app, path`/endpoint/${ep.id}`)}>${ep.url}</a>${ep.description && html`<div class="muted small">${ep.description}</div>`}` },
    { label: 'Events', class: 'words', cell: Events },
    { label: 'State', class: 'words', cell: (ep) => html`<${EndpointState} endpoint=${ep} health=${ep.health} />` },
    { label: 'Last 24 hours', cell: ({ health }) => health && html`<${Rate} ...${health} />` },
    { label: 'Waiting', class: 'num', cell: ({ health }) => health && count(health.waiting) },
    may('changeEndpoints') && { label: '', class: 'end', cell: (ep) => html`<div class="row">${ep.hold && may('holdEndpoints') && html`<${Button} class="small" aria-label=${`Release ${ep.url}`} onClick=${() => release(appPath(app, path`/endpoint/${ep.id}`), `“${ep.description || ep.url}”`, endpoints.reload)}>Release<//>`}<${Toggle} app=${app} endpoint=${ep} changed=${endpoints.reload} /></div>` },
  ].filter(Boolean);
  return html`<${Page} title="Webhooks" app=${app} tab="webhooks" actions=${(add || may('holdEndpoints')) && html`${!bare && html`<${OfApplication} app=${app} changed=${endpoints.reload} />`}${add}`}>
    ${!bare && html`<div class="filters" role="search" aria-label="Webhooks">
      <${Search} value=${search} label="Search by URL, description or id" placeholder="Search" onSearch=${(text) => setQuery({ search: text })} />
      <select aria-label="Which webhooks" value=${status} onChange=${({ target }) => setQuery({ status: target.value })}>
        ${[['', 'All'], ['enabled', 'Enabled'], ['disabled', 'Disabled'], ['held', 'Held'], ['failing', 'Failing'], ['open', 'Breaker open'], ['resting', 'Resting']].map(([value, label]) => html`<option value=${value} selected=${value === status}>${label}</option>`)}
      </select>
    </div>`}
    <${Loaded} of=${endpoints}>${(page) => (page.data.length ? html`
      <${Table} caption="Endpoints" columns=${columns} rows=${page.data} />
      <${Pager} page=${page} query=${query} setQuery=${setQuery} />`
      : filtered ? html`<${Empty} title="No webhook matches"><p>No webhook fits the search and the filter.</p><${Button} onClick=${() => setQuery({ search: '', status: '' })}>Show all webhooks<//><//>`
        : html`<${Empty} title="No webhooks yet"><p>A webhook is a URL of yours that gets a request whenever something happens.</p>${add}<//>`)}<//>
  <//>`;
}

/** What an endpoint gets, in few words. */
function Events({ eventTypes, channels, filter }) {
  const [first, second, ...more] = eventTypes ?? [];
  return html`<div>${eventTypes ? [first, second].filter(Boolean).join(', ') + (more.length ? ` and ${more.length} more` : '') : 'Everything'}
    ${channels && html`<div class="muted small">${channels.length === 1 ? channels[0] : `${channels.length} entities`}</div>`}
    ${filter && html`<div><${Badge} kind="plain">Filtered<//></div>`}</div>`;
}

function Toggle({ app, endpoint, changed }) {
  const { id, url, disabled } = endpoint;
  const [busy, setBusy] = useState(false);
  const where = appPath(app, path`/endpoint/${id}`);
  const toggle = async () => {
    // How fast that is sent is a question.
    if (disabled && endpoint.health?.waiting) return void enable({ endpoint, name: endpointName(endpoint), where, then: changed });
    setBusy(true);
    try {
      await api('PATCH', where, { disabled: !disabled });
      toast(!disabled ? 'Disabled. What comes in is held until it is enabled.' : endpoint.hold ? 'Enabled. It stays held until it is released.' : isUnverified(endpoint) ? 'Enabled. A challenge is sent now.' : 'Enabled. What was held is sent now.');
      changed();
    } catch (error) {
      toast(error.message, 'bad');
    }
    setBusy(false);
  };
  const act = disabled ? 'Enable' : 'Disable';
  return html`<${Button} class="small" busy=${busy} aria-label=${`${act} ${url}`} onClick=${toggle}>${act}<//>`;
}
