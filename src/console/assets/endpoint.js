// An endpoint: its settings, its health, and the log of attempts at it.

import { api, appPath, list, pagePath, path } from './api.js';
import { Bars, Line } from './chart.js';
import { hold } from './hold.js';
import { Attempts, EndpointPage, Facts, MessageFilters, Switch, act, asked, classes, endpointName, noFilters, nothing, orNothing, sayMs, sayTransformation, useEndpoint } from './history.js';
import { navigate, useQuery } from './router.js';
import { Addresses, Button, Copy, Empty, Field, LinkButton, LinkTo, Loaded, Pager, Status, Time, announce, count, duration, endpointState, html, isUnverified, labels, toast, useEffect, useLoad, useMay, useSession, useState } from './ui.js';
import { Notice } from './notices.js';

const HOUR = 3600000;

export default function EndpointOverview({ app, params: { ep } }) {
  const may = useMay();
  const of = useEndpoint(app, ep);
  const endpoint = of.data;
  const where = appPath(app, path`/endpoint/${ep}`);
  const rests = !!endpoint && endpoint.breaker.state !== 'closed';
  const listed = useLoad(async (signal) => endpoint && (await list(appPath(app, '/endpoint'), { with_health: true, search: endpoint.id, limit: 1 }, { signal })).data[0], [endpoint?.id, rests], { every: rests ? 3000 : 15000 });
  const { health } = listed.data ?? {};
  useEffect(() => {
    // Attempts change an endpoint, too. The notice of one that is not verified follows it by itself.
    if (!endpoint || !listed.data || isUnverified(endpoint)) return;
    const { health: _, ...now } = listed.data;
    const { warnings, ...shown } = endpoint;
    if (now.id === shown.id && now.updatedAt >= shown.updatedAt && JSON.stringify(now) !== JSON.stringify(shown)) of.set({ ...now, warnings });
  }, [listed.data]);
  const reload = () => {
    of.reload();
    listed.reload();
  };
  const state = endpoint && endpointState(endpoint, health);
  const name = endpointName(endpoint);
  const disable = () => act({
    title: 'Disable this endpoint?',
    text: `Nothing more is sent to “${name}” until it is enabled again; what is published meanwhile is held for it.`,
    action: 'Disable',
    run: () => api('PATCH', where, { disabled: true }),
  }, 'The endpoint is disabled.', reload);
  const remove = () => act({
    title: `Delete “${name}”?`,
    text: html`<p>The endpoint <strong class="break">${endpoint.url}</strong>, its secret and the log of its attempts go for good. What waits for it is not sent.</p>`,
    action: `Delete “${name.length > 40 ? `${name.slice(0, 40)}…` : name}”`,
    danger: true,
    run: () => api('DELETE', where),
  }, `“${name}” is deleted.`, () => navigate(pagePath(app), { force: true }));
  return html`<${EndpointPage} app=${app} of=${of} ep=${ep} part="" badge=${state && html`<${Status} of=${state} />`}
    actions=${endpoint && may('changeEndpoints') && html`
      <${LinkButton} to=${pagePath(app, path`/endpoint/${ep}/edit`)}>Edit<//>
      ${!endpoint.disabled && html`<${Button} onClick=${disable}>Disable<//>`}
      ${may('holdEndpoints') && !endpoint.hold && html`<${Button} onClick=${() => hold(where, `“${name}”`, reload)}>Hold<//>`}
      <${Button} kind="danger" onClick=${remove}>Delete<//>`}>${() => html`
    <${Notice} endpoint=${endpoint} health=${health} name=${name} where=${where} set=${of.set} reload=${reload} />
    <${Settings} app=${app} endpoint=${endpoint} where=${where} />
    <${Health} where=${where} waiting=${health?.waiting} says=${sayWaits(endpoint)} />
    <${Log} app=${app} ep=${ep} endpoint=${endpoint} />
  `}<//>`;
}

/** What becomes of the messages that wait. */
const sayWaits = (endpoint) => {
  const until = endpoint.disabled ? 'enabled' : endpoint.hold ? 'released' : isUnverified(endpoint) && 'verified';
  return until ? `messages held until it is ${until}` : endpoint.breaker.state === 'closed' ? 'messages to be sent or retried' : 'messages, until a try succeeds';
};

/** What the server does about an endpoint that fails: its own numbers, or its profile's. */
const sayRules = ({ breakerFailures, disableAfterHours }, profile) => {
  const failures = breakerFailures ?? profile?.breaker.failures;
  const hours = disableAfterHours ?? profile?.disableAfterHours;
  const rules = [failures && `paused after ${count(failures)} failures in a row`, hours && `disabled after ${duration(hours * 3600)} without a success`].filter(Boolean).join(', ');
  return rules ? rules[0].toUpperCase() + rules.slice(1) : 'Neither paused nor disabled';
};

/** A profile that is not configured any more is none. */
const orNull = (error) => {
  if (error.status !== 404) throw error;
  return null;
};

const some = (names, all) => (names ? html`<span title=${names.join(', ')}>${names.slice(0, 6).join(', ')}${names.length > 6 && `, and ${names.length - 6} more`}</span>` : all);

function Settings({ app, endpoint, where }) {
  const here = pagePath(app, path`/endpoint/${endpoint.id}`);
  const may = useMay();
  const more = useLoad((signal) => Promise.all([api('GET', `${where}/headers`, null, { signal }), api('GET', path`/profile/${endpoint.profile}`, null, { signal }).catch(orNull)]), [where, endpoint.updatedAt]);
  const addresses = useSession().sourceAddresses;
  const [sent, profile] = more.data ?? [];
  const { basicAuth, headers, authHeaderNames, throttleRate } = endpoint;
  const limit = endpoint.timeoutSeconds ?? profile?.timeoutSeconds;
  const hidden = [...new Set([...authHeaderNames, ...(sent?.sensitive ?? [])])];
  const authentication = [basicAuth && `Basic, as ${basicAuth.username}`, hidden.length && `Headers not shown: ${hidden.join(', ')}`, ...Object.entries(headers).map((pair) => pair.join(': '))].filter(Boolean);
  return html`<section class="card" aria-label="Settings"><${Facts} of=${[
    ['URL', html`<span class="mono">${endpoint.url}</span> <${Copy} text=${endpoint.url} />`],
    addresses.length > 0 && ['Requests come from', html`<${Addresses} of=${addresses} /> <${Copy} text=${addresses.join('\n')} label=${addresses.length > 1 ? 'Copy addresses' : 'Copy address'} />`],
    ['Events', some(endpoint.eventTypes, labels.all_events)],
    endpoint.channels && ['Entities', some(endpoint.channels)],
    endpoint.filter && ['Filter', html`<${LinkTo} to=${`${here}/filter`}>By ${Object.keys(endpoint.filter).join(', ')}<//>`],
    endpoint.transformation && ['Transformation', html`<${LinkTo} to=${`${here}/transformation`}>Of ${sayTransformation(endpoint.transformation)}<//>`],
    ['Request', html`${endpoint.method ?? 'The profile is not configured any more'}, profile <strong>${endpoint.profile}</strong>${profile && html`<br /><span class="muted small">${profile.description}</span>`}`],
    authentication.length > 0 && ['Authentication', authentication.map((line) => html`<div>${line}</div>`)],
    may('readSecrets') && (profile?.standardWebhooks || profile?.signatures?.length !== 0) && ['Signing secret', html`<${Secret} where=${where} />`],
    ['Time limit', `${limit ? duration(limit) : '–'}${throttleRate ? `, at most ${throttleRate} messages a second` : ''}`],
    endpoint.catchUp && ['Catching up', html`At most ${count(endpoint.catchUp.rate)} messages a second of what was published before <${Time} at=${endpoint.catchUp.publishedBefore} exact />`],
    (profile || endpoint.breakerFailures != null) && ['When it fails', sayRules(endpoint, profile)],
    ['ID', html`<span class="mono">${endpoint.id}${endpoint.uid && ` · ${endpoint.uid}`}</span>`],
  ]} /></section>`;
}

/** The signing secret, shown on demand. */
export function Secret({ where, version = 0 }) {
  const [shown, setShown] = useState(null);
  useEffect(() => setShown(null), [version]);
  const read = async () => shown ?? (await api('GET', `${where}/secret`)).key;
  const reveal = async () => setShown(shown ? null : await read().catch((error) => toast(error.message, 'bad')));
  return html`<span class="row"><code>${shown ?? '••••••••••••••••'}</code>
    <${Button} kind="quiet" class="small" aria-expanded=${shown ? 'true' : 'false'} onClick=${reveal}>${shown ? 'Hide' : 'Reveal'}<//>
    <${Copy} text=${read} label="Copy secret" /></span>`;
}

const clock = { hour: '2-digit', minute: '2-digit' };
const atHour = new Intl.DateTimeFormat('en-GB', clock);
const onDay = new Intl.DateTimeFormat('en-GB', { weekday: 'short', ...clock });

/** The API's series by hours as points of a chart, each of `step` hours. */
function pointsOf(series, hours, step) {
  const first = Math.floor(Date.now() / HOUR) * HOUR - (hours - 1) * HOUR;
  const points = Array.from({ length: hours / step }, (_, at) => ({ at: first + at * step * HOUR, success: 0, fail: 0, answered: 0, sum: 0, high: null }));
  for (const one of series) {
    const point = points[Math.floor((Date.parse(one.at) - first) / HOUR / step)];
    if (!point) continue;
    for (const key of ['success', 'fail', 'answered']) point[key] += one[key];
    point.sum += one.latencyMsAverage * one.answered;
    if (one.answered) point.high = Math.max(point.high, one.latencyMsMax);
  }
  // Seconds where milliseconds would have too many digits.
  const unit = Math.max(...points.map((point) => point.high)) > 2000 ? 1000 : 1;
  const scaled = (ms) => (ms == null ? null : +(ms / unit).toFixed(unit > 1 ? 2 : 0));
  return [unit > 1 ? ' s' : ' ms', points.map((point) => ({ ...point, label: (step > 1 ? onDay : atHour).format(point.at), value: scaled(point.answered ? point.sum / point.answered : null), high: scaled(point.high) }))];
}

const Stat = ({ label, value, says }) => html`<div class="stat"><dt>${label}</dt><dd>${value}</dd><dd class="small">${says}</dd></div>`;

/** `says`: what becomes of the messages that wait. */
function Health({ where, waiting, says }) {
  const [query, setQuery] = useQuery({ range: '24h' });
  const week = query.range === '7d';
  const load = useLoad((signal) => {
    const since = new Date(Date.now() - (week ? 167 : 23) * HOUR).toISOString();
    return Promise.all([list(`${where}/attempt-series`, { since }, { signal }), api('GET', `${where}/stats`, null, { signal, query: { since } })]);
  }, [where, week], { every: 15000 });
  return html`<section aria-labelledby="doing"><div class="spread section-head"><h2 id="doing">Health</h2>
      <${Switch} label="Stretch of time" value=${query.range} options=${[['24h', 'Last 24 hours'], ['7d', 'Last 7 days']]} onChange=${(range) => setQuery({ ...query, range })} /></div>
    <${Loaded} of=${load}>${([series, stats]) => {
      const [unit, points] = pointsOf(series.data, week ? 168 : 24, week ? 6 : 1);
      const sum = (key) => points.reduce((all, point) => all + point[key], 0);
      const [success, all] = [sum('success'), sum('success') + sum('fail')];
      return html`<dl class="stats">
        <${Stat} label="Attempts that succeeded" value=${all ? `${success === all ? 100 : Math.min(99.9, (success / all) * 100).toFixed(1).replace('.0', '')} %` : '–'} says=${`${count(success)} of ${count(all)}`} />
        <${Stat} label="From due to answered" value=${sum('answered') ? sayMs(sum('sum') / sum('answered')) : '–'} says="on average, without the waits of retries" />
        <${Stat} label="Waiting" value=${count(waiting ?? stats.pending)} says=${says} />
        <${Stat} label="Failed for good" value=${count(stats.fail)} says="after their last attempt" />
      </dl>
      <div class="split">
        <div class="card"><${Bars} title=${`Attempts per ${week ? '6 hours' : 'hour'}`} points=${points} /></div>
        <div class="card"><${Line} title="Promptness: from due to answered" points=${points} names=${['Average', 'Slowest']} unit=${unit} /></div>
      </div>`;
    }}<//></section>`;
}

/** The log of attempts. A search is for one message's; the first page looks for what has come since. */
function Log({ app, ep, endpoint }) {
  const may = useMay();
  const [query, setQuery] = useQuery({ ...noFilters, status: '', response: '' });
  const { search, iterator, status, response } = query;
  const filters = { ...asked(query), status, status_code_class: response, with_msg: true, with_content: false, limit: 25 };
  const read = (signal) => (search ? list(appPath(app, path`/attempt/msg/${search}`), { ...filters, endpoint_id: endpoint.id }, { signal }).catch(orNothing)
    : list(appPath(app, path`/attempt/endpoint/${ep}`), filters, { signal }));
  const deps = [app, ep, JSON.stringify(filters), search];
  const log = useLoad(read, deps);
  const newest = useLoad(async (signal) => (iterator || search ? null : read(signal)), deps, { every: 6000 });
  const since = newest.data?.data.findIndex(({ id }) => id === log.data?.data[0]?.id) ?? 0;
  const fresh = !newest.data || newest.loading || log.loading ? 0 : since < 0 ? newest.data.data.length : since;
  useEffect(() => { if (fresh) announce('There are newer attempts.'); }, [fresh > 0]);
  const isFiltered = [...Object.keys(noFilters), 'status', 'response'].some((name) => query[name]);
  const select = (name, label, options) => html`<${Field} label=${label} hideLabel type="select" value=${query[name]} options=${options} onInput=${(value) => setQuery({ [name]: value })} />`;
  return html`<section aria-labelledby="attempts"><div class="section-head"><h2 id="attempts">Attempts</h2></div>
    <${MessageFilters} query=${query} setQuery=${setQuery}>
      ${select('status', 'Outcome', [['', 'Any outcome'], ['0', 'Succeeded'], ['2', 'Failed']])}
      ${select('response', 'Response', [['', 'Any response'], ...classes])}
    <//>
    ${fresh > 0 && html`<p class="newer"><${Button} class="small" onClick=${() => log.set(newest.data)}>Show ${since < 0 ? `${fresh} or more` : fresh} newer attempt${fresh > 1 && 's'}<//></p>`}
    <${Loaded} of=${log}>${(page) => html`
      ${page.data.length ? html`<${Attempts} app=${app} rows=${page.data} withMessage />`
    : isFiltered ? html`<${Empty} title="No such attempts"><p>${nothing(page)}</p><//>`
      : html`<${Empty} title="Nothing was sent yet"><p>Attempts appear here as soon as a message is sent to this endpoint.</p>${may('sendAgain') && !endpoint.hold && !isUnverified(endpoint) && html`<${LinkButton} kind="primary" to=${pagePath(app, path`/endpoint/${ep}/test`)}>Send a test<//>`}<//>`}
      <${Pager} page=${page} query=${query} setQuery=${setQuery} label="Pages of attempts" />`}<//>
  </section>`;
}
