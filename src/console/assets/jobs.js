// Background jobs: replays and counts, with their progress. Looked at often while one of them runs.

import { api, list, path } from './api.js';
import { AppLink, EndpointLink, Listing, act, col, destroy } from './operator.js';
import { Field, Page, Status, Time, count, html, toast, useLoad, useMay, useQuery, useState } from './ui.js';

const titles = {
  'endpoint.recover': 'Recover', 'endpoint.replay': 'Replay missing', 'endpoint.bulk-replay': 'Replay',
  'application.stats': 'Usage of applications', 'event-type.aggregate': 'Usage of event types',
};
const runs = ({ state }) => state === 'running' || state === 'paused';

export default function Jobs() {
  const may = useMay();
  const [query, setQuery] = useQuery({ status: '', task: '' });
  const { status, task, iterator } = query;
  const [every, setEvery] = useState(30000);
  const jobs = useLoad(async (signal) => {
    const page = await list('/background-task', { limit: 50, order: 'descending', status, task, iterator }, { signal });
    setEvery(page.data.some(runs) ? 2000 : 30000);
    return page;
  }, [status, task, iterator, every], { every });
  const cancel = (job) => destroy('Cancel', `“${titles[job.task]}”`, 'It ends where it is. What was sent stays sent.', () => api('POST', path`/background-task/${job.id}/cancel`), 'Let it run').then((yes) => {
    if (!yes) return;
    toast('The job was canceled.');
    jobs.reload();
  });
  const columns = [
    col('Job', ({ task: kind, id }) => html`<span title=${id}>${titles[kind] ?? kind}</span>`),
    col('For', ({ applicationId: app, applicationName, endpointId, endpointUrl }) => (!app || !applicationName ? html`<span class="muted">${app ? 'A deleted application' : 'All'}</span>`
      : html`<div>${endpointUrl ? html`<${EndpointLink} app=${app} id=${endpointId} url=${endpointUrl} />` : endpointId && html`<span class="muted">A deleted endpoint</span>`}<br /><${AppLink} id=${app} name=${applicationName} /></div>`)),
    col('State', ({ state, reason }) => html`<div><${Status} of=${state} />${reason && html`<p class="small muted">${reason[0].toUpperCase() + reason.slice(1)}</p>`}</div>`),
    col('Progress', (job) => html`<div>${runs(job) && html`<progress aria-label=${`${titles[job.task]}: progress`} value=${job.progress.fraction ?? null}></progress>`}
      <p class="small">${count(job.progress.done)} ${job.endpointId ? 'sent' : 'counted'}, ${count(job.progress.lookedAt)} looked at</p></div>`),
    col('Started', ({ createdAt }) => html`<${Time} at=${createdAt} />`),
    may('sendAgain') && col('', (job) => runs(job) && (job.endpointId || may('cancelUsage')) && act('Cancel', `${titles[job.task]} ${job.id}`, () => cancel(job)), 'end'),
  ].filter(Boolean);
  const pick = (label, name, options) => html`<${Field} label=${label} type="select" value=${query[name]} options=${[['', 'All'], ...options]} onInput=${(value) => setQuery({ [name]: value })} />`;
  return html`<${Page} title="Jobs" intro="Replays and counts that run in the background. The attempts of a replay are in its endpoint’s log.">
    <div class="filters">${pick('State', 'status', [['running', 'Running'], ['finished', 'Finished'], ['failed', 'Failed or canceled']])}${pick('Job', 'task', Object.entries(titles))}</div>
    <${Listing} of=${{ ...jobs, loading: false }} query=${query} setQuery=${setQuery} caption="Jobs" columns=${columns} empty=${['No jobs', 'Recoveries and replays of endpoints appear here.']} />
  <//>`;
}
