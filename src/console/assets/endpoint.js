// An endpoint: what it is, how it does, and the log of attempts at it.

import { api, appPath, list, pagePath, path } from './api.js';
import { Bars, Line } from './chart.js';
import { Attempts, EndpointPage, MessageFilters, SearchMessage, asked, endpointName, noFilters, sayMs, useEndpoint } from './history.js';
import { navigate, useQuery } from './router.js';
import { Button, Copy, Empty, Field, LinkButton, Loaded, Pager, Status, announce, confirm, count, duration, html, toast, useEffect, useLoad, useMay, useState } from './ui.js';

const HOUR = 3600000;

export default function EndpointOverview({ app, params: { ep } }) {
  const may = useMay();
  const of = useEndpoint(app, ep);
  const where = appPath(app, path`/endpoint/${ep}`);
  const health = useLoad(async (signal) => (await list(appPath(app, '/endpoint'), { with_health: true, search: of.data?.id ?? ep, limit: 1 }, { signal })).data[0]?.health, [app, ep, of.data?.disabled], { every: 15000 });
  const state = of.data?.disabled ? 'disabled' : health.data?.state ?? (of.data && 'enabled');
  const name = endpointName(of.data);
  const change = (disabled) => confirm({
    title: disabled ? 'Disable this endpoint?' : 'Enable this endpoint?',
    text: disabled ? `Nothing more is sent to “${name}” until it is enabled again; what is published meanwhile is held for it.` : `What is held for “${name}” is sent now, and what is published from now on.`,
    action: disabled ? 'Disable' : 'Enable',
    run: () => api('PATCH', where, { disabled }),
  }).then((yes) => {
    if (!yes) return;
    toast(disabled ? 'The endpoint is disabled.' : 'The endpoint is enabled.');
    of.reload();
  });
  const remove = () => confirm({
    title: `Delete “${name}”?`,
    text: html`<p>The endpoint <strong class="break">${of.data.url}</strong>, its secret and the log of its attempts go for good. What waits for it is not sent.</p>`,
    action: `Delete “${name.length > 40 ? `${name.slice(0, 40)}…` : name}”`,
    danger: true,
    run: () => api('DELETE', where),
  }).then((yes) => {
    if (!yes) return;
    toast(`“${name}” is deleted.`);
    navigate(pagePath(app), { force: true });
  });
  return html`<${EndpointPage} app=${app} of=${of} ep=${ep} part="" badge=${state && html`<${Status} of=${state} />`}
    actions=${of.data && may('changeEndpoints') && html`
      <${LinkButton} to=${pagePath(app, path`/endpoint/${ep}/edit`)}>Edit<//>
      <${Button} onClick=${() => change(!of.data.disabled)}>${of.data.disabled ? 'Enable' : 'Disable'}<//>
      <${Button} kind="danger" onClick=${remove}>Delete<//>`}>${(endpoint) => html`
    <${Facts} endpoint=${endpoint} where=${where} />
    <${Doing} where=${where} waiting=${health.data?.waiting} />
    <${Log} app=${app} ep=${ep} endpoint=${endpoint} />
  `}<//>`;
}

/** How requests prove where they come from, beside their signature. */
export function sayAuthentication({ basicAuth, headers, authHeaderNames }, sensitive = []) {
  const names = [...authHeaderNames, ...sensitive];
  return [basicAuth && `Basic, as ${basicAuth.username}`, names.length && `Headers not shown: ${names.join(', ')}`, Object.keys(headers).length && `Headers: ${Object.entries(headers).map((pair) => pair.join(': ')).join(', ')}`].filter(Boolean);
}

const some = (names, all) => (names ? html`<span title=${names.join(', ')}>${names.slice(0, 6).join(', ')}${names.length > 6 && `, and ${names.length - 6} more`}</span>` : all);

function Facts({ endpoint, where }) {
  const may = useMay();
  const more = useLoad(async (signal) => {
    const [headers, profile] = await Promise.all([api('GET', `${where}/headers`, null, { signal }), api('GET', path`/profile/${endpoint.profile}`, null, { signal }).catch(() => null)]);
    return { sensitive: headers.sensitive, profile };
  }, [endpoint]);
  const said = sayAuthentication(endpoint, more.data?.sensitive?.filter((name) => !endpoint.authHeaderNames.includes(name)));
  const { profile } = more.data ?? {};
  return html`<section class="card" aria-label="Settings"><dl class="facts">
    <dt>URL</dt><dd><span class="mono">${endpoint.url}</span> <${Copy} text=${endpoint.url} /></dd>
    ${endpoint.description && html`<dt>Description</dt><dd>${endpoint.description}</dd>`}
    <dt>Events</dt><dd>${some(endpoint.eventTypes, 'Send Me Everything')}</dd>
    ${endpoint.channels && html`<dt>Entities</dt><dd>${some(endpoint.channels)}</dd>`}
    <dt>Request</dt><dd>${endpoint.method ?? 'The profile is not configured any more'}, profile <strong>${endpoint.profile}</strong>
      ${profile && html`<br /><span class="muted small">${profile.description}</span>`}</dd>
    ${said.length > 0 && html`<dt>Authentication</dt><dd>${said.map((line, at) => [at > 0 && html`<br />`, line])}</dd>`}
    ${may('readSecrets') && html`<dt>Signing secret</dt><dd><${Secret} where=${where} /></dd>`}
    <dt>Time limit</dt><dd>${profile || endpoint.timeoutSeconds ? duration(endpoint.timeoutSeconds ?? profile.timeoutSeconds) : '–'}${endpoint.throttleRate ? `, at most ${endpoint.throttleRate} messages a second` : ''}</dd>
    <dt>Id</dt><dd class="mono">${endpoint.id}${endpoint.uid && ` · ${endpoint.uid}`}</dd>
  </dl></section>`;
}

/** The signing secret, shown on demand. */
export function Secret({ where, version = 0 }) {
  const [shown, setShown] = useState(null);
  useEffect(() => setShown(null), [version]);
  const read = async () => (await api('GET', `${where}/secret`)).key;
  const reveal = async () => {
    try {
      setShown(shown ? null : await read());
    } catch (error) {
      toast(error.message, 'bad');
    }
  };
  return html`<span class="row"><code>${shown ?? '••••••••••••••••'}</code>
    <${Button} kind="quiet" class="small" aria-expanded=${shown ? 'true' : 'false'} onClick=${reveal}>${shown ? 'Hide' : 'Reveal'}<//>
    <${Copy} text=${() => shown ?? read()} label="Copy secret" /></span>`;
}

const atHour = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const onDay = new Intl.DateTimeFormat('en-GB', { weekday: 'short', hour: '2-digit', minute: '2-digit' });

/** Hours of the API's series as points of a chart, each of `step` hours. */
function pointsOf(series, hours, step) {
  const first = Math.floor(Date.now() / HOUR) * HOUR - (hours - 1) * HOUR;
  const points = Array.from({ length: hours / step }, (_, at) => ({ at: first + at * step * HOUR, success: 0, fail: 0, answered: 0, sum: 0, high: null }));
  for (const one of series) {
    const point = points[Math.floor((Date.parse(one.at) - first) / HOUR / step)];
    if (!point) continue;
    for (const key of ['success', 'fail', 'answered']) point[key] += one[key];
    point.sum += one.latencyMsAverage * one.answered;
    if (one.latencyMsMax != null) point.high = Math.max(point.high ?? 0, one.latencyMsMax);
  }
  return points.map((point) => ({ ...point, label: (step > 1 ? onDay : atHour).format(point.at), value: point.answered ? Math.round(point.sum / point.answered) : null }));
}

function Doing({ where, waiting }) {
  const [query, setQuery] = useQuery({ range: '24h' });
  const week = query.range === '7d';
  const load = useLoad(async (signal) => {
    const since = new Date(Date.now() - (week ? 167 : 23) * HOUR).toISOString();
    const [series, stats] = await Promise.all([list(`${where}/attempt-series`, { since }, { signal }), api('GET', `${where}/stats`, null, { signal, query: { since } })]);
    return { points: pointsOf(series.data, week ? 168 : 24, week ? 6 : 1), stats };
  }, [where, week], { every: 15000 });
  const choice = (range, label) => html`<${Button} class="small" aria-pressed=${query.range === range ? 'true' : 'false'} onClick=${() => setQuery({ ...query, range })}>${label}<//>`;
  return html`<section aria-labelledby="doing"><div class="spread section-head"><h2 id="doing">How it does</h2><div class="row" role="group" aria-label="Stretch of time">${choice('24h', 'Last 24 hours')}${choice('7d', 'Last 7 days')}</div></div>
    <${Loaded} of=${load}>${({ points, stats }) => {
      const sum = (key) => points.reduce((all, point) => all + point[key], 0);
      const [success, all] = [sum('success'), sum('success') + sum('fail')];
      const slow = Math.max(0, ...points.map((point) => point.high)) > 10000;
      const timed = slow ? points.map((point) => ({ ...point, value: point.value == null ? null : +(point.value / 1000).toFixed(2), high: point.high == null ? null : point.high / 1000 })) : points;
      return html`<dl class="stats">
        <div class="stat"><dt>Attempts that succeeded</dt><dd>${all ? `${success === all ? 100 : Math.min(99.9, (success / all) * 100).toFixed(1)} %` : '–'}</dd><dd class="small">${count(success)} of ${count(all)}</dd></div>
        <div class="stat"><dt>From publishing to answer</dt><dd>${sum('answered') ? sayMs(sum('sum') / sum('answered')) : '–'}</dd><dd class="small">on average, retries included</dd></div>
        <div class="stat"><dt>Waiting</dt><dd>${count(waiting ?? stats.pending)}</dd><dd class="small">messages to be sent or retried</dd></div>
        <div class="stat"><dt>Failed for good</dt><dd>${count(stats.fail)}</dd><dd class="small">after their last attempt</dd></div>
      </dl>
      <div class="split">
        <div class="card"><${Bars} title=${`Attempts per ${week ? '6 hours' : 'hour'}`} points=${points} /></div>
        <div class="card"><${Line} title="Promptness: from publishing to answer" points=${timed} names=${['Average', 'Slowest']} unit=${slow ? ' s' : ' ms'} /></div>
      </div>`;
    }}<//></section>`;
}

const classes = [['', 'Any response'], ['200', '2xx'], ['300', '3xx'], ['400', '4xx'], ['500', '5xx'], ['0', 'No answer']];
const shown = ({ status, response, ...query }) => ({ ...asked(query), status, status_code_class: response, with_msg: true, with_content: false, limit: 25 });

/** The log of attempts. A search is for one message's; the newest page looks for what has come since. */
function Log({ app, ep, endpoint }) {
  const may = useMay();
  const [query, setQuery] = useQuery({ ...noFilters, status: '', response: '', range: '24h' });
  const { search, iterator } = query;
  const filters = shown(query);
  const read = (signal) => (search
    ? list(appPath(app, path`/attempt/msg/${search}`), { ...filters, endpoint_id: endpoint.id }, { signal }).catch((error) => {
      if (error.status !== 404) throw error;
      return { data: [], done: true };
    })
    : list(appPath(app, path`/attempt/endpoint/${ep}`), filters, { signal }));
  const deps = [app, ep, JSON.stringify(filters), search];
  const log = useLoad(read, deps);
  const newest = useLoad(async (signal) => (iterator || search ? null : read(signal)), deps, { every: 6000 });
  const [first] = log.data?.data ?? [];
  const since = newest.data?.data.findIndex(({ id }) => id === first?.id) ?? 0;
  const fresh = !newest.data || newest.loading || log.loading ? 0 : since < 0 ? newest.data.data.length : since;
  useEffect(() => { if (fresh) announce('There are newer attempts.'); }, [fresh > 0]);
  const isFiltered = search || Object.entries(query).some(([name, value]) => value && !['range', 'page', 'iterator'].includes(name));
  const select = (name, label, options) => html`<${Field} label=${label} hideLabel type="select" value=${query[name]} options=${options} onInput=${(value) => setQuery({ [name]: value })} />`;
  return html`<section aria-labelledby="attempts"><div class="section-head"><h2 id="attempts">Attempts</h2></div>
    <${MessageFilters} query=${query} setQuery=${setQuery}>
      <${SearchMessage} query=${query} setQuery=${setQuery} />
      ${select('status', 'Outcome', [['', 'Any outcome'], ['0', 'Succeeded'], ['2', 'Failed']])}
      ${select('response', 'Response', classes)}
    <//>
    ${fresh > 0 && html`<p class="newer"><${Button} class="small" onClick=${() => log.set(newest.data)}>Show ${since < 0 ? `${fresh} or more` : fresh} newer attempt${fresh > 1 && 's'}<//></p>`}
    <${Loaded} of=${log}>${(page) => html`
      ${page.data.length ? html`<${Attempts} app=${app} rows=${page.data} />`
    : isFiltered ? html`<${Empty} title=${page.done ? 'No such attempts' : 'None so far'}><p>${page.done ? 'Nothing in the log fits the filters.' : 'None of what was looked through fits the filters; go on with “Next”.'}</p><//>`
      : html`<${Empty} title="Nothing was sent yet"><p>Attempts show here as soon as a message is sent to this endpoint.</p>${may('sendAgain') && html`<${LinkButton} kind="primary" to=${pagePath(app, path`/endpoint/${ep}/test`)}>Send a test<//>`}<//>`}
      <${Pager} page=${page} query=${query} setQuery=${setQuery} label="Pages of attempts" />`}<//>
  </section>`;
}

